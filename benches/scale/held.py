"""Connections that are held open and say nothing: plain ones and WebSockets, and the upstream of the latter.

Both sides are a loop over epoll and no more: ten thousand ends within a second must not wait for whoever notes them.
"""

import base64
import contextlib
import hashlib
import select
import socket
import sys
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"0123456789abcdef")
AT_ONCE = 200
PORTS = 4_000  # from one source address to one destination; far below what the kernel gives out
SOURCES = [f"127.0.0.{number}" for number in range(2, 60)]
PATIENCE = 60


class Crowd:
    """Many of them."""

    def __init__(self, port, request, status):
        self.port, self.request, self.status = port, request, b" %d " % status
        self.open, self.ends, self.ready = {}, [], select.epoll()

    def grow(self, count):
        """Opens more, up to so many: some at once, each answered before the next are asked for."""
        while len(self.open) < count:
            numbers = range(len(self.open), min(len(self.open) + AT_ONCE, count))
            asked = [(number, self.connected(number)) for number in numbers]
            for number, connection in asked:
                connection.sendall(self.request(number))
            for _, connection in asked:
                self.answered(connection)
                connection.setblocking(False)
                self.open[connection.fileno()] = connection
                self.ready.register(connection, select.EPOLLIN | select.EPOLLRDHUP)

    def connected(self, number):
        connection = socket.socket()
        connection.settimeout(PATIENCE)
        connection.bind((SOURCES[number // PORTS % len(SOURCES)], 0))
        connection.connect(("127.0.0.1", self.port))
        return connection

    def answered(self, connection):
        told = b""
        while not self.is_whole(told):
            more = connection.recv(65536)
            if not more:
                raise ConnectionError(f"closed before it was answered: {told!r}")
            told += more
        if self.status not in told.split(b"\r\n", 1)[0]:
            raise ConnectionError(told.decode(errors="replace"))

    def is_whole(self, told):
        head, found, body = told.partition(b"\r\n\r\n")
        return found and (b" 101 " in head.split(b"\r\n", 1)[0] or len(body) >= length_of(head))

    def note(self, patience):
        """Notes those that end, for so many seconds or until all have."""
        until = time.monotonic() + patience
        while len(self.ends) < len(self.open) and time.monotonic() < until:
            for descriptor, _ in self.ready.poll(max(0, until - time.monotonic())):
                self.ready.unregister(descriptor)
                self.ends.append(time.monotonic())

    def all_end(self, began, patience):
        """Seconds until the last has ended, from `began`; and how many did not."""
        self.note(patience)
        return (self.ends[-1] - began if self.ends else 0.0), len(self.open) - len(self.ends)

    def close(self):
        for connection in self.open.values():
            connection.close()


def length_of(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 1 << 30


def page_request(port, cookie):
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\nCookie: {cookie}\r\n\r\n".encode()


def websocket_request(port, cookie):
    return (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {KEY.decode()}\r\nOrigin: http://127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n").encode()


def serve(port):
    """The upstream's side of WebSockets: it agrees, and waits. All ask with the same key."""
    accept = base64.b64encode(hashlib.sha1(KEY + GUID).digest())
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    listener, ready, held = socket.create_server(("127.0.0.1", port), backlog=4096), select.epoll(), {}
    listener.setblocking(False)
    ready.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in ready.poll():
            if descriptor == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    connection = listener.accept()[0]
                    connection.setblocking(False)
                    held[connection.fileno()] = (connection, b"")
                    ready.register(connection, select.EPOLLIN)
                continue
            connection, head = held[descriptor]
            try:
                more = connection.recv(65536)
            except OSError:
                more = b""
            if not more:
                ready.unregister(descriptor)
                del held[descriptor]
                connection.close()
            elif (head + more).endswith(b"\r\n\r\n"):
                held[descriptor] = (connection, b"")
                connection.sendall(agreed)
            else:
                held[descriptor] = (connection, head + more)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(int(sys.argv[1]))
