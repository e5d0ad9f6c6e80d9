"""What a measurement stands on: the programs it starts, and what the kernel says of them."""

import base64
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROVIDER = ROOT / "tests" / "provider"
PATIENCE = 30
ADMIN_TOKEN = "scale-scale-scale-scale"
PEOPLE = 10_000_000  # numbers of seven digits: every name is as long as every other


class Missing(Exception):
    """Something that has to be there is not."""


def person(number):
    return f"person-{number % PEOPLE:07}"


def raise_open_files():
    """As many open files as we may have, for us and all that we start; how many that is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


def program(name, package):
    for folder in [None, "/usr/sbin:/sbin"]:
        found = shutil.which(name, path=folder)
        if found:
            return found
    raise Missing(f"{name} is not installed; on Debian: apt-get install --no-install-recommends {package}")


def free_port():
    """Below the ports that outgoing connections are given, so that none of ours is taken meanwhile."""
    for port in range(21000, 32000):
        if port in free_port.given:
            continue
        with contextlib.closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free_port.given.add(port)
        return port
    raise Missing("a free port between 21000 and 32000")


free_port.given = set()


class Process:
    """A program of ours; what the kernel knows of it."""

    def __init__(self, name, command, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        self.name = name
        self.log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log")
        self.child = subprocess.Popen(command, stderr=self.log, **options)

    @property
    def pid(self):
        return self.child.pid

    def pids(self):
        """Its own and its children's."""
        found = [self.pid]
        for pid in found:
            for task in os.listdir(f"/proc/{pid}/task"):
                found += [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
        return found

    def cpu(self):
        """Seconds of CPU so far: user and system time of all its threads, in the kernel's nanoseconds."""
        total = 0
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                try:
                    total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
                except (FileNotFoundError, ProcessLookupError):
                    continue
        return total / 1e9

    def resident(self, kind="VmRSS"):
        """Bytes in memory; `RssFile` are those of them that are pages of files, the program itself above all."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{kind}:"):
                    total += int(line.split()[1]) * 1024
        return total

    def said(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def wait_for(self, ready, what):
        end = time.monotonic() + PATIENCE
        while True:
            if self.child.poll() is not None:
                raise Missing(f"{self.name} ended:\n{self.said()}")
            try:
                if ready():
                    return self
            except OSError:
                pass
            if time.monotonic() > end:
                raise Missing(f"{self.name}: no {what} within {PATIENCE} s\n{self.said()}")
            time.sleep(0.01)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def listens(port):
    def ask():
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
            return True

    return ask


class Redis(Process):
    """A Redis that keeps nothing on disk."""

    def __init__(self):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        command = [program("redis-server", "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        super().__init__("redis", command + ["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        self.wait_for(listens(self.port), "answer")

    def ask(self, *words):
        """One command; its answer as text, or a number."""
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 60)) as connection:
            text = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (str(word).encode() for word in words))
            connection.sendall(b"*%d\r\n%s" % (len(words), text))
            answer = connection.makefile("rb")
            line = answer.readline().decode().rstrip()
            if line.startswith("$"):
                return answer.read(int(line[1:])).decode(errors="replace")
            return int(line[1:]) if line.startswith(":") else line

    def used(self):
        """Bytes that its data takes."""
        fields = dict(line.split(":", 1) for line in self.ask("INFO", "memory").splitlines() if ":" in line)
        return int(fields["used_memory_dataset"]) + int(fields["used_memory_overhead"]) - int(fields["used_memory_startup"])

    def version(self):
        return self.ask("INFO", "server").split("redis_version:")[1].split()[0]


class Upstream(Process):
    """nginx with 64 bytes for everybody."""

    def __init__(self, folder):
        self.port = free_port()
        root = folder / "nginx"
        root.mkdir()
        body = "hello, world. " * 4 + "hello.\\n"
        root.joinpath("nginx.conf").write_text(
            f"daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log stderr crit;\n"
            f"events {{ worker_connections 15000; }}\n"
            f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;\n"
            f"client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n"
            f"uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n"
            f"server {{ listen 127.0.0.1:{self.port} backlog=4096; location / {{ default_type text/plain; return 200 '{body}'; }} }} }}\n"
        )
        super().__init__("nginx", [program("nginx", "nginx"), "-p", str(root), "-c", str(root / "nginx.conf")])
        self.wait_for(listens(self.port), "answer")


class Provider(Process):
    """The real oidc-provider, as the tests have it."""

    def __init__(self, redirect_uri, people):
        if not (PROVIDER / "node_modules").is_dir():
            subprocess.run([program("npm", "npm"), "ci", "--silent", "--no-audit", "--no-fund"], cwd=PROVIDER, check=True)
        self.port = free_port()
        told = {
            "port": self.port,
            "clients": [{"client_id": "doorward", "client_secret": "secret-of-doorward-at-the-provider", "redirect_uris": [redirect_uri],
                         "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                         "backchannel_logout_uri": redirect_uri.replace("callback", "backchannel_logout"),
                         "backchannel_logout_session_required": True}],
            "accounts": [{"sub": one, "password": "pass", "claims": {"email": f"{one}@example.com", "email_verified": True, "name": one,
                          "preferred_username": one, "groups": ["staff", "readers"]}} for one in people],
            "ttl": {"AccessToken": 7 * 86400, "IdToken": 3600, "RefreshToken": 14 * 86400},
        }
        # It ends when its stdin does.
        super().__init__("provider", [program("node", "nodejs"), str(PROVIDER / "server.mjs"), json.dumps(told)], stdin=subprocess.PIPE)
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.wait_for(listens(self.port), "answer")


class Doorward(Process):
    """The gateway under measurement."""

    def __init__(self, binary, folder, config, port=None, **options):
        self.port, self.admin = port or free_port(), free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        file = folder / f"doorward-{self.port}-{self.admin}.toml"
        head = f'public_url = "{self.origin}"\nlisten = "127.0.0.1:{self.port}"\n'
        tail = f'\n[admin]\nlisten = "127.0.0.1:{self.admin}"\ntoken = "{ADMIN_TOKEN}"\n[log]\nlevel = "warn"\n'
        file.write_text(head + config + tail)
        # Access lines go where they cost what they cost, and stay nowhere.
        self.began = time.monotonic()
        super().__init__("doorward", [str(binary), "run", "--config", str(file)], **options)

    def ready(self):
        return self.wait_for(listens(self.port), "listener")

    def stop(self):
        """Without the pause in which balancers would notice: a second signal ends it at once."""
        for _ in range(50):
            if self.child.poll() is not None:
                return
            self.child.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        super().stop()

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise Missing(f"no metric {name}")

    def end_sessions(self, query):
        """The admin's word that sessions end; how many there were."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/sessions?{query}", method="DELETE")
        request.add_header("Authorization", f"Bearer {ADMIN_TOKEN}")
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)["ended"]


def key_file(folder):
    file = folder / "keys"
    file.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    file.chmod(0o600)
    return file


def config(provider, upstream, store, keys=None, limits="", routes=None):
    """A config as somebody would write it."""
    if routes is None:
        routes = f'[[route]]\nid = "app"\npath = "/"\nupstream = "http://127.0.0.1:{upstream}"\nallow = "any-authenticated"\n'
        routes += f'[[route]]\nid = "open"\npath = "/open/"\nupstream = "http://127.0.0.1:{upstream}"\naccess = "public"\n'
    keys = f'[keys]\nseal_file = "{keys}"\n' if keys else ""
    return (f'[provider]\nissuer = "{provider}"\nclient_id = "doorward"\nclient_secret = "secret-of-doorward-at-the-provider"\n'
            f"{routes}[store]\n{store}\n{keys}[limits]\n{limits}\n")
