# SPDX-License-Identifier: Apache-2.0
import http.server, json, threading, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"x" * int(self.path.strip("/")))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(json.dumps({"length": len(body), "sum": sum(body)}).encode())

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_address[1]}"
for size in (0, 1, 1000, 65536, 3_000_000):
    print(len(urllib.request.urlopen(f"{base}/{size}").read()))
answer = urllib.request.urlopen(base, data=bytes(range(256)) * 400).read()
print(answer.decode())

def many():
    for _ in range(20):
        assert len(urllib.request.urlopen(f"{base}/5000").read()) == 5000

clients = [threading.Thread(target=many) for _ in range(5)]
[client.start() for client in clients]
[client.join() for client in clients]
server.shutdown()
print("done")
