# SPDX-License-Identifier: Apache-2.0
import queue, threading, time
from concurrent.futures import ThreadPoolExecutor

work, done = queue.Queue(10), queue.Queue()

def run():
    while (item := work.get()) is not None:
        done.put(item * item)

threads = [threading.Thread(target=run) for _ in range(6)]
for thread in threads:
    thread.start()
for number in range(2000):
    work.put(number)
for _ in threads:
    work.put(None)
for thread in threads:
    thread.join()
print(sum(done.get() for _ in range(2000)))

with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(lambda n: n * 3, range(500))))

event, local = threading.Event(), threading.local()
timer = threading.Timer(0.05, event.set)
timer.start()
print(event.wait(5), event.is_set())
started = time.monotonic()
print(threading.Event().wait(0.05), time.monotonic() - started >= 0.049)
condition, turns = threading.Condition(), []

def turn(me):
    for _ in range(200):
        with condition:
            condition.wait_for(lambda: len(turns) % 2 == me)
            turns.append(me)
            condition.notify_all()

pair = [threading.Thread(target=turn, args=(me,)) for me in (0, 1)]
[thread.start() for thread in pair]
[thread.join() for thread in pair]
print(len(turns), sum(turns))
