"""What stands around the contenders: the upstream, the provider, Redis, tokens, a certificate."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from browser import PASSWORD
from machine import Problem, output

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECRET = "a-client-secret-for-this-bench-0123456789"
ISSUER, AUDIENCE = "https://issuer.example", "bench"
TOKENS = 60_000  # of each kind; a first-seen row ends when they are used up
BODIES = {"64": 64, "16k": 16 << 10, "64k": 64 << 10, "1m": 1 << 20}
# First segments of paths, which routes go by.
PREFIXES = ["public", "session", "bearer", "asked", "static", "logged"]
ROUTES = 2000
POOL = 512  # connections to the upstream that wait for the next request, at most, for each worker


class Stand:
    """Each part is started when it is first asked for."""

    def __init__(self, machine):
        self.machine = machine
        self._parts = {}
        self.redirects = {}

    def _once(self, name, make):
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    # --- the upstream

    def upstream(self):
        """Port of the nginx that answers 64 bytes and more, and tells at /PREFIX/whoami which identity headers came."""
        self._once("upstream", self._start_upstream)
        return self.machine.port("upstream")

    def _start_upstream(self):
        machine = self.machine
        (machine.dir / "bodies").mkdir()
        for name, size in BODIES.items():
            (machine.dir / "bodies" / name).write_bytes(b"x" * size)
        places = []
        for prefix in [*PREFIXES, f"r{ROUTES - 1}"]:
            places.append(f"location = /{prefix}/64 {{ return 200 '{'x' * 64}'; }}")
            places += [f"location = /{prefix}/{name} {{ alias {machine.dir}/bodies/{name}; }}" for name in BODIES if name != "64"]
            said = "user=$http_x_forwarded_user$http_oidc_claim_sub email=$http_x_forwarded_email$http_oidc_claim_email"
            places.append(f"location = /{prefix}/whoami {{ return 200 '{said}'; }}")
        places.append("location = /204 { return 204; }")
        listening = f"server {{ listen 127.0.0.1:{machine.port('upstream')} backlog=4096; {' '.join(places)} }}"
        text = nginx_text(machine, "upstream", f"underscores_in_headers on; default_type text/plain; open_file_cache max=100; {listening}")
        return start_nginx(machine, "upstream", text, "upstream")

    def sink(self):
        """Port of the upstream that reads uploads."""
        self._once("sink", lambda: self.machine.start("sink", [sys.executable, HERE / "sink.py", self.machine.port("sink")], "sink"))
        return self.machine.port("sink")

    # --- the provider

    def redirect(self, client_id, uri):
        """Registers a redirect URI; all of them before the provider starts."""
        if "provider" in self._parts:
            raise Problem(f"{client_id} is registered too late")
        self.redirects.setdefault(client_id, []).append(uri)

    def issuer(self):
        """Starts the provider."""
        return self._once("provider", self._start_provider)

    def _start_provider(self):
        machine = self.machine
        claims = {
            "email": "alice@example.test", "email_verified": True, "groups": ["staff", "users"], "preferred_username": "alice",
            "name": "Alice Adams",
        }
        config = {
            "host": "127.0.0.1",
            "port": machine.port("provider"),
            "accounts": [{"sub": "alice", "password": PASSWORD, "claims": claims}],
            "conform_id_token_claims": False,
            "pkce_required": False,
            "ttl": {"IdToken": 86400, "AccessToken": 86400},
            "clients": [
                {
                    "client_id": client_id, "client_secret": SECRET, "redirect_uris": uris,
                    "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                }
                for client_id, uris in self.redirects.items()
            ],
        }
        package = ROOT / "tests/provider"
        reading, self._writing = os.pipe()  # the provider ends when its stdin does
        machine.start("provider", ["node", package / "server.mjs", json.dumps(config)], "provider", stdin=reading)
        os.close(reading)
        return f"http://127.0.0.1:{machine.port('provider')}"

    # --- Redis

    def redis(self):
        """Port of a Redis that keeps nothing on disk."""
        port = self.machine.port("redis")
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.machine.dir]
        self._once("redis", lambda: self.machine.start("redis", command, "redis"))
        return port

    def redis_calls(self):
        """How many commands it has had."""
        text = output("redis-cli", "-p", str(self.machine.port("redis")), "info", "stats")
        return next((int(line.partition(":")[2]) for line in text.splitlines() if line.startswith("total_commands_processed:")), 0)

    # --- tokens and certificate

    def tokens(self):
        """Folder with jwks.json, rs256.txt and es256.txt: kept for half a day, since minting them takes half a minute."""
        return self._once("tokens", self._mint)

    @staticmethod
    def _mint():
        folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "compare" / "tokens"
        last = folder / "es256.txt"
        if not last.exists() or time.time() - last.stat().st_mtime > 12 * 3600 or last.read_bytes().count(b"\n") != TOKENS:
            folder.mkdir(parents=True, exist_ok=True)
            print(f"minting {TOKENS} tokens of each kind", file=sys.stderr)
            subprocess.run(["node", str(HERE / "mint.mjs"), str(folder), ISSUER, AUDIENCE, str(TOKENS)], check=True)
        return folder

    @staticmethod
    def tokens_count():
        return TOKENS

    def certificate(self):
        """A certificate for localhost and its key, on P-256."""
        return self._once("certificate", self._make_certificate)

    def _make_certificate(self):
        certificate, key = self.machine.dir / "localhost.crt", self.machine.dir / "localhost.key"
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate,
        ]
        made = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Problem(f"openssl made no certificate: {made.stderr}")
        (self.machine.dir / "localhost.pem").write_text(certificate.read_text() + key.read_text())  # as HAProxy reads them
        return certificate, key


def nginx_text(machine, name, http):
    """A configuration with what all nginx here have alike."""
    folder = machine.dir / name
    folder.mkdir(exist_ok=True)
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""{user} daemon off; pid {folder}/pid; error_log {folder}/error.log error;
worker_processes {machine.cores}; worker_rlimit_nofile 65536;
events {{ worker_connections 8192; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; tcp_nopush on; server_tokens off;
    keepalive_requests 1000000000; keepalive_timeout 600s; {temp}
    {http}
}}
"""


def start_nginx(machine, name, text, port, contender=False):
    """Starts an nginx with this configuration."""
    file = machine.write(f"{name}/nginx.conf", text)
    return machine.start(name, ["nginx", "-p", machine.dir / name, "-e", machine.dir / name / "error.log", "-c", file], port, contender)
