"""A gateway as it starts, idles, serves and logs in; and one with very many routes."""

import contextlib
import http.client
import time

from browser import Browser
from load import Load
from parts import PATIENCE, Doorward, Missing, Provider, Upstream, config, free_port, person

MB = 1 << 20


def cold_start(binary, folder, times, results):
    """From the start of the program to its first answer from upstream: a public page, so that nobody has to be known."""
    took, spent, idle, files, busy = [], [], [], [], []
    with Upstream(folder) as upstream:
        load = Load(folder)
        public = load.file("public", ["/open/"])
        for number in range(times):
            state = folder / f"start-{number}.redb"
            with Doorward(binary, folder, config("http://127.0.0.1:9", upstream.port, f'kind = "embedded"\npath = "{state}"')) as doorward:
                took.append(first_answer(doorward) * 1e3)
                spent.append(doorward.cpu() * 1e3)
                if number < 3:
                    time.sleep(2)
                    idle.append(doorward.resident() / MB)
                    files.append(doorward.resident("RssFile") / MB)
                    load.run(doorward, paths=public, seconds=results.seconds)
                    busy.append(doorward.resident() / MB)
    took.sort()
    middle = took[len(took) // 2]
    cpu = sorted(spent)[len(spent) // 2]
    note = f"at most 50 ms; median of {times}, fastest {took[0]:.0f}; a new store each time; {cpu:.0f} ms of CPU"
    results.row("cold start to first answer", f"{middle:.0f} ms", middle / 50, note)
    note = f"at most 12 MB; {max(files):.1f} MB of it are pages of the program's file"
    results.row("resident, idle after the start", f"{max(idle):.1f} MB", max(idle) / 12, note)
    results.row("resident, 64 connections under load", f"{max(busy):.1f} MB", max(busy) / 30, "at most 30 MB")


def first_answer(doorward):
    while time.monotonic() < doorward.began + PATIENCE:
        connection = http.client.HTTPConnection("127.0.0.1", doorward.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/open/")
            if connection.getresponse().status == 200:
                return time.monotonic() - doorward.began
        time.sleep(0.0005)
    raise Missing(f"no answer\n{doorward.said()}")


def logins(binary, folder, count, results):
    """Real logins of as many people, one after the other; what they cost the gateway from the first redirect to the page."""
    people = [person(number) for number in range(count + 1)]
    port = free_port()
    with Upstream(folder) as upstream, Provider(f"http://127.0.0.1:{port}/oauth2/callback", people) as provider:
        with Doorward(binary, folder, config(provider.issuer, upstream.port, 'kind = "memory"'), port=port) as doorward:
            doorward.ready()
            # The first fetches the provider's document and keys.
            Browser().log_in(doorward.origin, people[0])
            before, theirs = doorward.cpu(), provider.cpu()
            for one in people[1:]:
                Browser().log_in(doorward.origin, one)
            spent, their_part = (doorward.cpu() - before) / count, (provider.cpu() - theirs) / count
    note = f"start, callback and the first page over {count} logins; the provider (node) beside it {their_part * 1e3:.1f} ms"
    results.row("login, gateway's CPU", f"{spent * 1e6:.0f} µs", None, note)


def many_routes(world, counts, results):
    """The same load on gateways with few and many routes, in turns; the paths asked for lie all over the table."""
    def table(count):
        one = '[[route]]\nid = "app-{0}"\npath = "/app-{0:04}/"\nupstream = "http://127.0.0.1:{1}"\nallow = "any-authenticated"\n'
        return "".join(one.format(number, world.upstream.port) for number in range(count))

    cookies = world.load.file("routes-cookie", [world.model])
    with contextlib.ExitStack() as stack:
        variants = []
        for count in counts:
            store = f'kind = "redis"\nurl = "{world.redis.url}"'
            told = config(world.provider.issuer, world.upstream.port, store, world.keys, routes=table(count))
            doorward = stack.enter_context(Doorward(world.binary, world.folder, told)).ready()
            asked = sorted({number * (count - 1) // 7 for number in range(8)})
            paths = world.load.file(f"paths-{count}", [f"/app-{number:04}/x" for number in asked])
            variants.append({"doorward": doorward, "cookies": cookies, "paths": paths})
        time.sleep(0.5)
        costs = world.load.compare(None, variants, results.rounds * 2 + 1, results.seconds)
    points = list(zip(counts, costs))
    ratio = costs[-1] / costs[0]
    results.curve("routes", "A request by the number of routes", "routes", "µs of the gateway's CPU a request", points)
    results.row(f"{counts[-1]:,} routes over {counts[0]}", f"{ratio:.3f} ×", ratio / 1.03, "at most 1.03 ×; a session on eight of them")
