"""A small REST service that remembers what it is told.

The line below is a marker: nobody outside the enclave should ever find it.
"""
import os

from flask import Flask, jsonify, request

MARKER = "ensconce-demo-marker-in-code-5f1d"

app = Flask(__name__)
notes = {}


@app.get("/")
def about():
    return jsonify(service="notes", arguments=os.environ.get("GREETING", ""), pid=os.getpid())


@app.post("/notes/<name>")
def remember(name):
    notes[name] = request.get_json(force=True)
    return jsonify(stored=name), 201


@app.get("/notes/<name>")
def recall(name):
    if name not in notes:
        return jsonify(error="unknown note"), 404
    return jsonify(notes[name])


if __name__ == "__main__":
    app.run(
        host="127.0.0.1" if os.environ.get("LOCAL") else "0.0.0.0",
        port=int(os.environ.get("PORT", "8443")),
        ssl_context=("/tls/flask.crt", "/tls/flask.key"),
    )
