# SPDX-License-Identifier: Apache-2.0
import hashlib, json, re, struct, zlib, decimal, datetime, collections, random

data = {"numbers": list(range(1000)), "text": "äöü € 𝄞", "nested": {"a": [None, True, 1.5]}}
text = json.dumps(data, sort_keys=True)
assert json.loads(text) == data
print(hashlib.sha256(text.encode()).hexdigest())
print(hashlib.blake2b(text.encode()).hexdigest()[:32], zlib.crc32(text.encode()))
packed = zlib.compress(text.encode() * 50)
assert zlib.decompress(packed) == text.encode() * 50
print(len(re.findall(r"\b\d*7\b", text)), struct.pack("<Id", 7, 1.5).hex())
print(decimal.Decimal(1) / decimal.Decimal(7), datetime.date(2024, 2, 29).isocalendar())
random.seed(1)
print(random.random(), collections.Counter("mississippi").most_common(2))
print(sum(i * i for i in range(300000)))
