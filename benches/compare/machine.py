"""Processes of one run: started in a group of their own, ended with it, and what they cost."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 20.0  # seconds for something to come up


class Problem(Exception):
    """A sentence for whoever runs this."""


class Machine:
    """Folder, ports and processes of one run; all are gone after it."""

    def __init__(self, cores):
        self.dir = Path(tempfile.mkdtemp(prefix="compare-"))
        self.dir.chmod(0o755)  # Apache's and nginx's workers are other users
        self.cores = cores
        self.here = sorted(os.sched_getaffinity(0))
        self.groups = []
        self._ports = {}
        self._held = []
        atexit.register(self.end)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: exit(130))

    def port(self, name):
        """A free port for this name, the same each time."""
        if name not in self._ports:
            held = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            self._ports[name] = held.getsockname()[1]
            # Held until everybody has one, so that none is given twice. Nobody connects to a socket that does not listen.
            self._held.append(held)
        return self._ports[name]

    def let_go(self, name):
        """Lets the owner of this port bind it."""
        for held in self._held:
            if held.getsockname()[1] == self._ports.get(name):
                held.close()
                self._held.remove(held)
                return

    def write(self, name, text):
        """A file in the folder of this run."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, name, command, port=None, contender=False, env=None, stdin=None, stdout=None):
        """Starts it, and waits until it listens on the port of that name. Contenders get the cores of contenders alone."""
        if port:
            self.let_go(port)
        log = open(self.dir / f"{name}.log", "ab")
        # With more cores than the contenders have, wrk and the upstream stay away from theirs.
        spare = self.here[self.cores:]
        mine = self.here[: self.cores] if contender or not spare else spare
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or log,
            stderr=log,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, mine),
        )
        group = Group(name, process, self.dir / f"{name}.log")
        self.groups.append(group)
        if port:
            group.wait_for(self.port(port))
        return group

    def stop(self, group):
        """Ends one of them."""
        group.end()
        self.groups.remove(group)

    def end(self):
        """Ends what was started here, and nothing else."""
        for group in reversed(self.groups):
            group.end()
        self.groups = []
        shutil.rmtree(self.dir, ignore_errors=True)


class Group:
    """A process with its children."""

    def __init__(self, name, process, log):
        self.name = name
        self.process = process
        self.log = log

    def wait_for(self, port):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Problem(f"{self.name} ended with {self.process.returncode}; its log:\n{self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Problem(f"{self.name} does not listen on {port} after {PATIENCE:.0f} s; its log:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def pids(self):
        """Everybody of the session that this process leads."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.getsid(int(entry)) == self.process.pid:
                        found.append(int(entry))
                except ProcessLookupError:
                    pass
        return found

    def cpu(self):
        """Seconds of user and system time of all of them so far."""
        total = 0.0
        for pid in self.pids():
            try:
                # The clock behind utime + stime of /proc/PID/stat, which shows it in hundredths only: clock_getcpuclockid(3).
                total += time.clock_gettime((~pid << 3) | 2)
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[13]) + int(fields[14])) / CLOCK_TICKS  # children that ended and were waited for
            except OSError:
                pass
        return total

    def split(self):
        """User and system seconds apart, in hundredths."""
        user = system = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                user, system = user + int(fields[11]), system + int(fields[12])
            except OSError:
                pass
        return user / CLOCK_TICKS, system / CLOCK_TICKS

    def resident(self):
        """Bytes in memory; what several of them share is counted once."""
        pids = self.pids()
        total = 0
        for pid in pids:
            try:
                if len(pids) == 1:
                    total += _kilobytes(f"/proc/{pid}/status", "VmRSS:")
                else:
                    total += _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:")
            except OSError:
                pass
        return total * 1024

    def end(self):
        for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            for pid in self.pids() or [self.process.pid]:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            if not self.pids():
                return


def _kilobytes(path, label):
    for line in Path(path).read_text().splitlines():
        if line.startswith(label):
            return int(line.split()[1])
    return 0


def output(*command):
    """What a command says, on either stream; empty if there is no such command."""
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        return (made.stdout + made.stderr).strip()
    except FileNotFoundError:
        return ""


def description():
    """The machine in one line."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = _kilobytes("/proc/meminfo", "MemTotal:") / 1024 / 1024
    return f"{len(os.sched_getaffinity(0))} cores ({model}), {memory:.0f} GB, Linux {os.uname().release}"
