# SPDX-License-Identifier: Apache-2.0
import asyncio, os, signal, socket, tempfile, time

hits = []
signal.signal(signal.SIGUSR1, lambda number, _: hits.append(number))
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda number, _: hits.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.05)
started = time.monotonic()
time.sleep(0.2)
print(hits == [signal.SIGUSR1, signal.SIGALRM], time.monotonic() - started >= 0.199)

async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"hello {number}".encode())
        writer.write_eof()
        text = await reader.read()
        writer.close()
        return text.decode()

    print(await asyncio.gather(*(client(n) for n in range(8))))
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except asyncio.TimeoutError:
        print("timed out")
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, sum, range(100)))

asyncio.run(main())
with tempfile.TemporaryFile() as file:
    file.write(b"temporary")
    file.seek(0)
    print(file.read())
