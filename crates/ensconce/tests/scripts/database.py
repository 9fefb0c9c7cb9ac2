# SPDX-License-Identifier: Apache-2.0
import os, sqlite3, sys

path = os.path.join(sys.argv[1], "data.db")
db = sqlite3.connect(path)
db.execute("create table t (id integer primary key, name text, value real)")
with db:
    db.executemany("insert into t (name, value) values (?, ?)", ((f"row {i}", i / 7) for i in range(5000)))
print(db.execute("select count(*), round(sum(value), 3), max(name) from t").fetchone())
try:
    with db:
        db.execute("delete from t")
        raise RuntimeError
except RuntimeError:
    print("rolled back", db.execute("select count(*) from t").fetchone())
db.execute("create index i on t (name)")
print(db.execute("select id from t where name = 'row 4321'").fetchone())
db.close()
db = sqlite3.connect(path)
print(db.execute("pragma integrity_check").fetchone(), db.execute("select count(*) from t").fetchone())
db.close()
os.unlink(path)
