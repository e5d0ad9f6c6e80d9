#!/usr/bin/env python3
"""The app behind the gateway: /public for everybody, /resource to read and write. It checks nobody.

Prints one line when it listens, {"port": PORT}. GET /seen gives every other request so far as [METHOD, PATH, X-Forwarded-User, Authorization].
Ends when its stdin closes.
"""
import http.server
import json
import os
import sys
import threading

kept = {"message": "nothing yet"}
seen = []


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/seen":
            return self.answer(seen)
        self.note()
        self.answer({"public": True} if self.path == "/public" else kept)

    def do_POST(self):
        self.note()
        kept["message"] = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(kept)

    def note(self):
        seen.append([self.command, self.path, self.headers["X-Forwarded-User"], self.headers["Authorization"]])

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
