"""Sessions in Redis and in the gateway's cache: what one takes, what it costs to find, what it costs to end."""

import subprocess
import time
from urllib.parse import quote

from browser import Browser
from load import Load
from parts import PATIENCE, Doorward, Missing, Provider, Redis, Upstream, config, free_port, key_file, person


class World:
    """Redis, provider and upstream, and sessions like the one that a real login made."""

    def __init__(self, binary, filler, folder, stack):
        self.binary, self.filler, self.folder = binary, filler, folder
        # One port for every gateway here: the provider knows it by its redirect URI.
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.redis = stack.enter_context(Redis())
        self.upstream = stack.enter_context(Upstream(folder))
        self.provider = stack.enter_context(Provider(f"{self.origin}/oauth2/callback", [person(0)]))
        self.keys, self.load = key_file(folder), Load(folder)
        self.persons = 1
        with self.gateway() as doorward:
            self.model = Browser().log_in(doorward.origin, person(0))
        self.name, self.value = self.model.split("=", 1)

    def gateway(self, limits="", upstream=None, routes=None):
        store = f'kind = "redis"\nurl = "{self.redis.url}"'
        told = config(self.provider.issuer, upstream or self.upstream.port, store, self.keys, limits, routes)
        doorward = Doorward(self.binary, self.folder, told, port=self.port).ready()
        # The cache counts once Redis tells it of changes.
        time.sleep(0.5)
        return doorward

    def fill(self, count, each=1):
        """More sessions, so many a person; their cookies, and the first person's number."""
        first = self.persons
        self.persons += -(-count // each)
        command = [str(self.filler), self.redis.url, str(self.keys), self.value, str(first), str(count), str(each)]
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        if len(made) != count:
            raise Missing(f"{count} sessions; {len(made)} were written")
        return [f"{self.name}={value}" for value in made], first

    def sign_out_everywhere(self, doorward, number):
        """Ends all sessions of a person: how many, wall milliseconds, CPU milliseconds of the gateway."""
        cpu, began = doorward.cpu(), time.monotonic()
        ended = doorward.end_sessions(f"issuer={quote(self.provider.issuer, safe='')}&sub={person(number)}")
        return ended, (time.monotonic() - began) * 1e3, (doorward.cpu() - cpu) * 1e3


def in_redis(world, totals, results):
    """Grows the store and looks what it costs at each size."""
    cookies, empty = [], world.redis.used()
    memory, look_ups, redis_share, endings = [], [], [], []
    for total in totals:
        began = time.monotonic()
        more, first = world.fill(total - len(cookies) - 10)
        few, several = world.fill(10, each=10)
        cookies += more + few
        results.note(f"{total} sessions in Redis after {time.monotonic() - began:.0f} s")
        memory.append((total, (world.redis.used() - empty) / total))
        step = max(1, len(more) // 20_000)
        shown = world.load.file("some", more[::step])
        # A cache of one session is none for those that come in turn.
        with world.gateway(limits="cached_sessions = 1") as doorward:
            world.load.run(doorward, shown, seconds=1)
            found = world.load.run(doorward, shown, seconds=results.seconds, beside=[world.redis])
            look_ups.append((total, found["cost"]))
            redis_share.append((total, found["beside"][0]))
            ended, wall, _ = world.sign_out_everywhere(doorward, several)
            if ended != 10:
                raise Missing(f"10 sessions ended; it were {ended}")
            endings.append((total, wall))
            cookies = cookies[:-10]
    results.curve("redis-memory", "Redis: memory of a session", "sessions in Redis", "KB a session", in_kb(memory))
    results.curve("redis-lookup", "A request that asks Redis", "sessions in Redis", "µs of the gateway's CPU a request", look_ups)
    note = f"at {totals[-1]:,} sessions; record, touch and two index entries"
    results.row("Redis, memory a session", f"{memory[-1][1]:.0f} bytes", None, note)
    at = f"at {totals[-1]:,} sessions; at {totals[0]:,}: "
    results.row("request that asks Redis, gateway's CPU", f"{look_ups[-1][1]:.1f} µs", None, f"{at}{look_ups[0][1]:.1f}")
    results.row("request that asks Redis, Redis's CPU", f"{redis_share[-1][1]:.1f} µs", None, f"{at}{redis_share[0][1]:.1f}")
    results.row("sign-out everywhere, 10 sessions", f"{endings[-1][1]:.1f} ms", None, f"{at}{endings[0][1]:.1f}")
    return cookies


def ended_together(world, counts, results):
    """What it takes to sign a person out who has very many sessions."""
    points = []
    with_many = [(count, world.fill(count, each=count)[1]) for count in counts]
    with world.gateway() as doorward:
        for count, number in with_many:
            ended, wall, cpu = world.sign_out_everywhere(doorward, number)
            if ended != count:
                raise Missing(f"{count} sessions ended; it were {ended}")
            points.append((count, wall))
    results.curve("sign-out", "Sign-out everywhere", "sessions of one person", "milliseconds until all are gone", points)
    what = f"sign-out everywhere, {counts[-1]:,} sessions of one person"
    results.row(what, f"{points[-1][1]:.0f} ms", None, f"{cpu:.0f} ms of the gateway's CPU")


def in_cache(world, cookies, counts, results):
    """Opens more and more sessions in one process: memory of each, and the cost of a request when so many take turns."""
    most = counts[-1]
    one = world.load.file("one", cookies[:1])
    growth, costs, base = [], [], None
    with world.gateway(limits=f"cached_sessions = {most + most // 5}") as doorward:
        world.load.run(doorward, one, seconds=results.seconds)
        base, known = doorward.resident(), 1
        files = {count: world.load.file(f"first-{count}", cookies[:count]) for count in counts}
        for count in counts:
            fresh = world.load.file("fresh", cookies[known:count])
            if count > known:
                first_seen = world.load.once(doorward, fresh, count - known)
                known = count
                growth.append((count, (doorward.resident() - base) / count))
        wait_for_cache(doorward, most)
        each = [{"cookies": files[count]} for count in counts]
        costs = list(zip(counts, world.load.compare(doorward, each, results.rounds, results.seconds)))
        quiet = results.quiet_seconds
        before, redis_before = doorward.cpu(), world.redis.cpu()
        time.sleep(quiet)
        idle, redis_idle = (doorward.cpu() - before) / quiet * 1e3, (world.redis.cpu() - redis_before) / quiet * 1e3
    growth = [(count, size) for count, size in growth if count >= most // 100]
    title, y_name = "Memory of a cached session", "KB of resident memory a session"
    results.curve("cache-memory", title, "sessions in the cache", y_name, in_kb(growth), bar=2)
    title, y_name = "A request by the number of sessions in use", "µs of the gateway's CPU a request"
    results.curve("cache-cost", title, "sessions that take turns", y_name, costs)
    size = growth[-1][1]
    results.row("memory a cached session", f"{size:.0f} bytes", size / 2048, f"at most 2048; resident growth over {most:,} sessions")
    results.row(f"request, {most:,} sessions take turns", f"{costs[-1][1]:.1f} µs", None, f"one session: {costs[0][1]:.1f} µs")
    results.row("first request of a session", f"{first_seen['cost']:.1f} µs", None, "reads Redis, opens the record, makes the headers")
    note = f"the gateway's CPU beside requests, {most:,} sessions cached; Redis {redis_idle:.1f} ms"
    results.row("nobody asks", f"{idle:.1f} ms a second", None, note)


def in_kb(points):
    return [(x, size / 1024) for x, size in points]


def wait_for_cache(doorward, count):
    """What was asked last may still be on its way."""
    end = time.monotonic() + PATIENCE
    while doorward.metric("doorward_sessions_cached") < count * 0.99:
        if time.monotonic() > end:
            raise Missing(f"{count} cached sessions; there are {doorward.metric('doorward_sessions_cached')}")
        time.sleep(0.1)
