"""Connections that are held open and say nothing: plain ones and WebSockets, and the upstream of the latter."""

import asyncio
import base64
import contextlib
import hashlib
import sys
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
AT_ONCE = 200
PORTS = 4_000  # from one source address to one destination; far below what the kernel gives out
SOURCES = [f"127.0.0.{number}" for number in range(2, 60)]


class Held(asyncio.Protocol):
    """One connection that asks once, and notes when it ends."""

    def __init__(self, ends):
        self.ends, self.answered, self.head = ends, asyncio.get_running_loop().create_future(), b""

    def data_received(self, data):
        if not self.answered.done():
            self.head += data
            head, found, body = self.head.partition(b"\r\n\r\n")
            if found and (b" 101 " in head.split(b"\r\n", 1)[0] or len(body) >= length_of(head)):
                self.answered.set_result(head)
                self.head = b""

    def connection_lost(self, _):
        self.ends.append(time.monotonic())
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("closed before it was answered"))


def length_of(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 1 << 30


class Crowd:
    """Many of them."""

    def __init__(self, port, request, status):
        self.port, self.request, self.status = port, request, status
        self.open, self.ends = [], []

    async def grow(self, count):
        """Opens more, up to so many."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(number):
            async with turn:
                source = SOURCES[number // PORTS % len(SOURCES)]
                transport, held = await asyncio.get_running_loop().create_connection(
                    lambda: Held(self.ends), "127.0.0.1", self.port, local_addr=(source, 0)
                )
                transport.write(self.request(number))
                head = await asyncio.wait_for(held.answered, 60)
                if b" %d " % self.status not in head.split(b"\r\n", 1)[0]:
                    raise ConnectionError(head.decode(errors="replace"))
                self.open.append(transport)

        await asyncio.gather(*(one(number) for number in range(len(self.open), count)))

    async def all_end(self, patience):
        """Seconds until the last has ended, from now; and how many did not."""
        began = time.monotonic()
        while len(self.ends) < len(self.open) and time.monotonic() < began + patience:
            await asyncio.sleep(0.01)
        return (max(self.ends) - began if self.ends else 0.0), len(self.open) - len(self.ends)

    def close(self):
        for transport in self.open:
            transport.abort()


def page_request(port, cookie):
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\nCookie: {cookie}\r\n\r\n".encode()


def websocket_request(port, cookie):
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nOrigin: http://127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n").encode()


class Switching(asyncio.Protocol):
    """The upstream's side of a WebSocket: it agrees, and waits."""

    def connection_made(self, transport):
        self.transport, self.head = transport, b""

    def data_received(self, data):
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        key = b""
        for line in self.head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                key = value.strip()
        self.head = b""
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        self.transport.write(head + accept + b"\r\n\r\n")


async def serve(port):
    server = await asyncio.get_running_loop().create_server(Switching, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
