"""Load and what came of it: wrk, h2load, uploads; and that the answers are the right ones."""

import re
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import sink
from machine import Problem

HERE = Path(__file__).resolve().parent
UPLOAD = 100_000_000  # bytes
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass
class Sample:
    """What one round of a row showed."""

    requests: int = 0
    per_second: float = 0.0
    cpu: float = 0.0  # µs per request
    user: float = 0.0  # the part of it outside of the kernel, from 0 to 1
    p50: float = 0.0  # ms
    p99: float = 0.0
    resident: int = 0
    errors: int = 0
    notes: list = field(default_factory=list)


def ask(row):
    """One request as the row sends it, over a connection that stays open: status, header lines, body, bytes in all."""
    connection = socket.create_connection(("127.0.0.1", row.port()), 10)
    try:
        if row.tls:
            context = ssl._create_unverified_context()
            context.set_alpn_protocols(["http/1.1"])
            connection = context.wrap_socket(connection, server_hostname="localhost")
        lines = [f"{name}: {value}" for name, value in {"Host": row.host(), **row.headers()}.items()]
        head = "\r\n".join([f"GET {row.path} HTTP/1.1", *lines])
        connection.sendall(f"{head}\r\n\r\n".encode())
        head, body = sink.read_head(connection)
        if head is None:
            raise Problem(f"{row.name}: the connection was closed instead of an answer")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            piece = connection.recv(1 << 20)
            if not piece:
                raise Problem(f"{row.name}: the answer ended after {len(body)} of {length[1].decode()} bytes")
            body += piece
        return status, head.decode(), body, len(head) + 4 + len(body)
    finally:
        connection.close()


class Watch:
    """CPU and memory of the contender while the load is on."""

    def __init__(self, groups, seconds):
        self.groups = groups
        self.memory = 0
        self.timer = threading.Timer(seconds * 0.7, self._look)

    def _look(self):
        self.memory = sum(group.resident() for group in self.groups)

    def __enter__(self):
        self.timer.start()
        self.split = [group.split() for group in self.groups]
        self.cpu = sum(group.cpu() for group in self.groups)
        return self

    def __exit__(self, *_):
        self.cpu = sum(group.cpu() for group in self.groups) - self.cpu
        after = [group.split() for group in self.groups]
        user = sum(b[0] - a[0] for a, b in zip(self.split, after))
        system = sum(b[1] - a[1] for a, b in zip(self.split, after))
        self.user = user / (user + system) if user + system else 0.0
        self.timer.join()


def wrk(row, seconds, threads, expected, quiet=False):
    """A run of wrk. `expected` is the size of a right answer: a login page in its place would show."""
    command = wrk_command(row, seconds, threads, quiet)
    with Watch(row.groups(), seconds) as watch:
        text = run(command, seconds)
    return read_wrk(text, watch, expected)


def wrk_command(row, seconds, threads, quiet):
    """`quiet`: the same credential with each request, whatever the row says."""
    threads = min(threads, row.connections)
    command = ["wrk", "-t", threads, "-c", row.connections, "-d", f"{seconds}s", "--latency", "--timeout", "10s"]
    for name, value in row.headers().items():
        if not row.lines or name != row.lines[1]:
            command += ["-H", f"{name}: {value}"]
    if row.lines and not quiet:
        file, header, prefix, often = row.lines
        command += ["-s", HERE / "lines.lua", row.url(), "--", file(), threads, header, prefix, often]
    else:
        if row.lines:
            command += ["-H", f"{row.lines[1]}: {row.headers()[row.lines[1]]}"]
        command.append(row.url())
    return [str(part) for part in command]


def read_wrk(text, watch, expected):
    counted = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ([\d.]+)(B|KB|MB|GB|TB) read", text)
    if not counted:
        raise Problem(f"wrk said nothing of requests:\n{text}")
    requests = int(counted[1])
    sample = Sample(requests, requests / (float(counted[2]) * UNITS[counted[3]] / 1000), resident=watch.memory, user=watch.user)
    sample.cpu = watch.cpu / requests * 1e6 if requests else 0.0
    for percent in ("50", "99"):
        found = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s|m)", text, re.MULTILINE)
        setattr(sample, f"p{percent}", float(found[1]) * UNITS[found[2]] if found else 0.0)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    sample.errors = int(refused[1]) if refused else 0
    sample.errors += sum(int(broken[part]) for part in range(1, 5)) if broken else 0
    size = float(counted[4]) * 1024 ** "B KB MB GB TB".split().index(counted[5]) / max(requests, 1)
    # wrk counts what it read of answers that the end cut off.
    if expected and requests > 1000 and abs(size - expected) > 8 + 0.03 * expected:
        sample.notes.append(f"answers of {size:.0f} bytes, not {expected}")
    return sample


def h2load(row, seconds, threads, log):
    """HTTP/2: few connections with many requests on each."""
    streams = 8
    clients = max(1, row.connections // streams)
    command = ["h2load", "-t", min(threads, clients), "-c", clients, "-m", streams, "-D", seconds, f"--log-file={log}"]
    for name, value in row.headers().items():
        command += ["-H", f"{name}: {value}"]
    with Watch(row.groups(), seconds) as watch:
        text = run([*command, row.url()], seconds)
    counted = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    status = re.search(r"status codes: (\d+) 2xx", text)
    if not counted or not status:
        raise Problem(f"h2load said nothing of requests:\n{text}")
    requests = int(counted[2])
    sample = Sample(requests, requests / seconds, resident=watch.memory, user=watch.user)
    sample.cpu = watch.cpu / max(requests, 1) * 1e6
    # At the end some have their status and not yet their body.
    sample.errors = int(counted[3]) + int(counted[4]) + max(0, requests - int(status[1]))
    times = sorted(int(line.split()[2]) for line in Path(log).read_text().splitlines())
    Path(log).unlink()
    if times:
        sample.p50, sample.p99 = times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3
    return sample


def uploads(row, seconds):
    """Uploads one after the other; a request here is one of them."""
    name, value = next(iter(row.headers().items()), ("", ""))
    header = f"{name}: {value}" if name else ""
    done = failed = 0
    times = []
    began = time.monotonic()
    with Watch(row.groups(), seconds) as watch:
        while time.monotonic() - began < seconds:
            before = time.monotonic()
            if sink.upload(row.port(), row.path, header, UPLOAD):
                done += 1
            else:
                failed += 1
            times.append((time.monotonic() - before) * 1000)
        took = time.monotonic() - began
    times.sort()
    sample = Sample(done, done / took, watch.cpu / max(done, 1) * 1e6, watch.user, times[len(times) // 2], times[-1], watch.memory, failed)
    return sample


def run(command, seconds):
    try:
        made = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired:
        raise Problem(f"{command[0]} did not end") from None
    if made.returncode != 0:
        raise Problem(f"{command[0]} ended with {made.returncode}:\n{made.stdout}{made.stderr}")
    return made.stdout
