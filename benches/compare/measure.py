"""One run: every row checked, then measured in turn, round after round; and how Doorward starts."""

import socket
import statistics
import sys
import time

import load
from machine import Problem

FRESH_SECONDS = 2  # of rows that use up what was made beforehand


def say(text):
    print(text, file=sys.stderr, flush=True)


def check(row):
    """That the row does what it claims: the right answer, for somebody, and for nobody else. Returns the size of an answer."""
    if row.kind == "upload":
        name, value = next(iter(row.headers().items()), ("", ""))
        if not load.sink.upload(row.port(), row.path, f"{name}: {value}" if name else "", 1 << 20):
            raise Problem("the upstream did not get the whole upload")
        return 0
    status, head, body, size = load.ask(row)
    if status != row.status:
        raise Problem(f"answered {status}, not {row.status}: {head.splitlines()[0]} {body[:300]}")
    if not row.answered_here and len(body) != expected_body(row):
        raise Problem(f"a body of {len(body)} bytes, not {expected_body(row)}")
    if row.credential:
        told = head.lower()
        if not row.answered_here:
            told = asked_at(row, row.path.rpartition("/")[0] + "/whoami")[2].decode().lower()
        if row.identity not in told:
            raise Problem(f"nobody is told who it is ({row.identity}): {told[:300]}")
        kept, row.credential = row.credential, None
        try:
            anonymous = load.ask(row)[0]
        finally:
            row.credential = kept
        if anonymous in (200, 202, 204):
            raise Problem(f"answered {anonymous} without a credential")
    return size


def expected_body(row):
    from stand import BODIES

    return BODIES[row.path.rpartition("/")[2]]


def asked_at(row, path):
    kept, row.path = row.path, path
    try:
        return load.ask(row)
    finally:
        row.path = kept


class Run:
    """Rows, rounds and what came of them."""

    def __init__(self, stand, rows, rounds, seconds, threads):
        self.stand, self.rows, self.rounds, self.seconds, self.threads = stand, rows, rounds, seconds, threads
        self.samples = {row.id: [] for row in rows}
        self.void = {}  # id: why
        self.sizes = {}

    def ready(self):
        """Everybody who has a turn is up, and does what it claims."""
        for row in self.rows:
            try:
                row.start()
                self.sizes[row.id] = check(row)
            except Problem as problem:
                self.void[row.id] = str(problem)
                say(f"{row.id}: void: {problem}")

    def measure(self):
        self.ready()
        for number in range(self.rounds):
            for row in self.rows:
                if row.id not in self.void:
                    try:
                        self.once(row, number)
                    except Problem as problem:
                        self.void[row.id] = str(problem)
                        say(f"{row.id}: void: {problem}")

    def once(self, row, number):
        if row.fresh:
            row.front.again()
        if (number == 0 or row.fresh) and row.kind == "wrk":
            # Connections of the pool, caches of the file system; with a row of many values by its first alone.
            load.wrk(row, 1, self.threads, 0, quiet=not row.stored)
        calls = self.stand.redis_calls() if row.stored else 0
        if row.kind == "upload":
            sample = load.uploads(row, self.seconds)
        elif row.kind == "h2load":
            sample = load.h2load(row, self.seconds, self.threads, self.stand.machine.dir / "h2load.log")
        else:
            seconds = min(self.seconds, FRESH_SECONDS) if row.fresh else self.seconds
            sample = load.wrk(row, seconds, self.threads, self.sizes[row.id])
        if row.stored and (self.stand.redis_calls() - calls) < 0.9 * sample.requests:
            sample.notes.append("some requests did not reach Redis")
        used_up = row.fresh and sample.requests >= 0.99 * self.stand.tokens_count()
        if used_up:
            sample.per_second = 0.0  # wrk waits for the end of its time
        self.samples[row.id].append(sample)
        check(row)
        say(
            f"round {number + 1}/{self.rounds}  {row.id:20} {sample.per_second:9.0f}/s  {sample.cpu:8.2f} µs/request"
            f" ({sample.user:.0%} user)  p99 {sample.p99:7.2f} ms  {sample.resident / 1e6:6.1f} MB  errors {sample.errors}"
            f" {'; '.join(sample.notes)}"
        )

    def stop(self):
        """Ends the contenders, so that the next group's are new."""
        for front in {id(front): front for row in self.rows for front in [row.front, *row.also]}.values():
            front.stop()

    def result(self):
        """What the report and later runs need, in words that JSON knows."""
        base_of = {row.id: row.base for row in self.rows}
        return {row.id: summary(row, self.samples, base_of, self.void.get(row.id)) for row in self.rows}


def summary(row, samples, base_of, void):
    mine = samples[row.id]
    notes = sorted({note for sample in mine for note in sample.notes})
    errors = sum(sample.errors for sample in mine)
    made = {"id": row.id, "group": row.group, "name": row.name, "base": row.base, "errors": errors, "void": void, "notes": notes}
    if errors and not void:
        made["void"] = f"{errors} errors"
    if notes and not void:
        made["void"] = "; ".join(notes)
    if not mine:
        return made
    for name in ("per_second", "cpu", "user", "p50", "p99", "resident"):
        made[name] = statistics.median(getattr(sample, name) for sample in mine)
    costs = [sample.cpu for sample in mine]
    made.update(least=min(costs), most=max(costs), rounds=costs)
    made["rounds_p99"] = [sample.p99 for sample in mine]
    return made


def ratio(result, row, base, name="rounds"):
    """Median over the rounds of one row over another: what disturbs a round disturbs both. `None` where one of them is void."""
    a, b = result.get(row), result.get(base)
    if not a or not b or a["void"] or b["void"]:
        return None
    pairs = [x / y for x, y in zip(a[name], b[name]) if y]
    return statistics.median(pairs) if pairs else None


def starts(front, times=15):
    """Cold starts of a contender: milliseconds until the first answer, and the memory a second later; medians."""
    took, cost, resident = [], [], []
    front.start()
    request = f"GET /public/64 HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\nConnection: close\r\n\r\n".encode()
    for _ in range(times):
        front.stop()
        began = time.monotonic()
        front.group = front.machine.start(front.name, front.command(), contender=True)
        while not answered(front.port, request):
            if time.monotonic() - began > 20:
                raise Problem(f"{front.name} does not answer:\n{front.group.tail()}")
            time.sleep(0.0005)
        took.append((time.monotonic() - began) * 1000)
        cost.append(front.group.cpu() * 1000)
        time.sleep(1)
        resident.append(front.group.resident())
    front.stop()
    middle = {"cold_start": statistics.median(took), "cold_start_cpu": statistics.median(cost), "idle": statistics.median(resident)}
    return {**middle, "cold_start_most": max(took)}


def answered(port, request):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(request)
            return connection.recv(1000).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
