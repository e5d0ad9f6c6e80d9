"""Uploads: the upstream that reads them whole, and the sender. sink.py PORT is the upstream."""

import re
import socket
import socketserver
import sys

PIECE = 1 << 20


def read_head(connection):
    """Head and what came after it."""
    kept = b""
    while b"\r\n\r\n" not in kept:
        piece = connection.recv(PIECE)
        if not piece:
            return None, b""
        kept += piece
    head, _, rest = kept.partition(b"\r\n\r\n")
    return head, rest


class Sink(socketserver.BaseRequestHandler):
    """Answers with the number of bytes that came."""

    def handle(self):
        room = memoryview(bytearray(PIECE))
        while True:
            head, rest = read_head(self.request)
            if head is None:
                return
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if not length:
                self.request.sendall(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n")
                return
            came, whole = len(rest), int(length[1])
            while came < whole:
                got = self.request.recv_into(room)
                if not got:
                    return
                came += got
            text = str(came).encode()
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


def upload(port, path, header, size):
    """One POST of so many bytes; whether the upstream says that it has them all."""
    piece = bytes(PIECE)
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        line = f"{header}\r\n" if header else ""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{line}Content-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(size // PIECE):
            connection.sendall(piece)
        connection.sendall(bytes(size % PIECE))
        head, rest = read_head(connection)
        if head is None:
            return False
        while not rest:
            rest = connection.recv(100)
        return head.startswith(b"HTTP/1.1 200") and str(size).encode() in rest


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
