"""Connections and WebSockets that wait, each with a session, and their end."""

import pathlib
import sys
import threading
import time

from held import Crowd, page_request, websocket_request
from parts import Missing, Process, free_port, listens
from stored import in_kb

# Two files for each WebSocket, and some for everything else.
SPARE = 200
SETTLE = 1.0


def most(count, files, each):
    """As many as the limit of open files has room for."""
    return min(count, (files - SPARE) // each)


def grow(crowd, doorward, counts, base):
    points = []
    for count in counts:
        crowd.grow(count)
        time.sleep(SETTLE)
        points.append((count, (doorward.resident() - base) / count))
    return points


def idle_connections(world, cookies, counts, files, results):
    """Connections that were used once, each by a session of its own."""
    counts = [most(count, files, 1) for count in counts]

    def measure(doorward):
        # The sessions are known before, so that only connections are counted.
        world.load.once(doorward, world.load.file("waiting", cookies[: counts[-1]]), counts[-1])
        world.load.run(doorward, world.load.file("one", cookies[:1]), seconds=1, connections=128)
        time.sleep(SETTLE)
        crowd = Crowd(doorward.port, lambda number: page_request(doorward.port, cookies[number]), 200)
        try:
            return grow(crowd, doorward, counts, doorward.resident())
        finally:
            crowd.close()

    with world.gateway(limits=f'connections = {counts[-1] + SPARE}\nidle_timeout = "10m"') as doorward:
        points = measure(doorward)
    tell("connection", "idle keep-alive connections", points, results)


def idle_websockets(world, counts, files, results):
    """WebSockets of one person with ten sessions, until they sign out."""
    counts = [most(count, files, 2) for count in counts]
    cookies, person = world.fill(10, each=10)

    def measure(doorward):
        ten, page = world.load.file("ten", cookies), world.load.file("page", ["/page/"])
        world.load.run(doorward, ten, page, seconds=1, connections=128)
        time.sleep(SETTLE)
        crowd = Crowd(doorward.port, lambda number: websocket_request(doorward.port, cookies[number % 10]), 101)
        try:
            points = grow(crowd, doorward, counts, doorward.resident())
            crowd.note(0.1)
            if crowd.ends:
                raise Missing(f"{len(crowd.ends)} WebSockets ended by themselves")
            cpu, began = doorward.cpu(), time.monotonic()
            ending = threading.Thread(target=world.sign_out_everywhere, args=(doorward, person))
            ending.start()
            took, left = crowd.all_end(began, 30)
            ending.join()
            return points, took, left, doorward.cpu() - cpu
        finally:
            crowd.close()

    port = free_port()
    server = [sys.executable, str(pathlib.Path(__file__).with_name("held.py")), str(port)]
    with Process("websockets", server) as upstream:
        upstream.wait_for(listens(port), "answer")
        limits = f"connections = {counts[-1] + SPARE}"
        with world.gateway(limits=limits, upstream=port, routes=for_websockets(port, world)) as doorward:
            points, took, left, cpu = measure(doorward)
    if left:
        raise Missing(f"{left} of {counts[-1]} WebSockets were still open 30 s after the sign-out")
    tell("WebSocket", "idle WebSockets", points, results)
    what = f"their person signs out: {counts[-1]:,} WebSockets end"
    results.row(what, f"{took:.2f} s", took, f"at most 1 s, to the last; {cpu:.2f} s of CPU")


def tell(one, all_of_them, points, results):
    count, size = points[-1]
    results.curve(f"idle-{one.lower()}s", f"Memory of an idle {one}", all_of_them, "KB of resident memory each", in_kb(points), bar=16)
    results.row(f"memory an idle {one}, {count:,} of them", f"{size / 1024:.1f} KB", size / 16384, "at most 16 KB")


def for_websockets(port, world):
    """WebSockets at the door, a page beside it to warm up with."""
    page = f'[[route]]\nid = "page"\npath = "/page/"\nupstream = "http://127.0.0.1:{world.upstream.port}"\nallow = "any-authenticated"\n'
    return page + f'[[route]]\nid = "socket"\npath = "/"\nupstream = "http://127.0.0.1:{port}"\nallow = "any-authenticated"\n'
