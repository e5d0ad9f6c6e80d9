"""Doorward as a contender: one instance for each way in which it is configured."""

import base64
import secrets

from browser import sign_in
from stand import AUDIENCE, ISSUER, POOL, ROUTES, SECRET

CLIENT = "doorward"


class Doorward:
    """An instance. `kind` is what its configuration differs in: "plain", "tls", "redis", "uncached", "forward", "logs",
    "route" (one alone), "routes" (very many)."""

    def __init__(self, stand, binary, kind, name):
        self.stand, self.binary, self.kind, self.name = stand, binary, kind, name
        self.machine = stand.machine
        self.group = None
        self._cookies = []
        scheme = "https" if kind == "tls" else "http"
        self.origin = f"{scheme}://{'localhost' if kind == 'tls' else '127.0.0.1'}:{self.port}"
        stand.redirect(CLIENT, f"{self.origin}/oauth2/callback")

    @property
    def port(self):
        return self.machine.port(self.name)

    def start(self):
        if self.group:
            return
        self.machine.write(f"{self.name}.toml", self.config())
        self.group = self.machine.start(self.name, self.command(), self.name, contender=True)

    def command(self):
        return [self.binary, "run", "--config", self.machine.dir / f"{self.name}.toml"]

    def again(self):
        """A new process, which has seen nothing."""
        self.stop()
        self.start()

    def stop(self):
        """Sessions stay where they are stored."""
        if self.group:
            self.machine.stop(self.group)
            self.group = None

    def groups(self):
        return [self.group]

    def cookies(self, count=1):
        """Cookie lines of so many sessions."""
        last = f"r{ROUTES - 1}"
        prefix = {"route": last, "routes": last, "forward": "asked"}.get(self.kind, "session")
        while len(self._cookies) < count:
            pairs = sign_in(f"{self.origin}/{prefix}/whoami").split("; ")
            # What belongs to the way through login is over long before the session is.
            self._cookies.append("; ".join(pair for pair in pairs if "doorward-flow" not in pair))
        return self._cookies

    def config(self):
        """config.toml: what the rows of this kind need, the rest as it is by default."""
        issuer, machine = self.stand.issuer(), self.machine
        upstream = f"http://127.0.0.1:{self.stand.upstream()}"
        logged = self.kind == "logs"
        parts = [
            f'public_url = "{self.origin}"',
            f'listen = "127.0.0.1:{self.port}"',
            'trusted_proxies = ["127.0.0.1"]' if self.kind == "forward" else "",
            f'[admin]\nlisten = "127.0.0.1:{machine.port(self.name + "-admin")}"',
            '[log]\nlevel = "warn"',
            self.limits(),
            f'[provider]\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            'scopes = ["openid", "profile", "email", "groups"]',
            '[forward_auth]\nheaders = "nginx"' if self.kind == "forward" else "",
            self.store(),
        ]
        machine.let_go(f"{self.name}-admin")
        if self.kind == "tls":
            certificate, key = self.stand.certificate()
            parts.append(f'[[tls]]\ncertificate_file = "{certificate}"\nkey_file = "{key}"\nmin_version = "1.3"')
        if self.kind in ("route", "routes"):
            numbers = range(ROUTES) if self.kind == "routes" else [ROUTES - 1]
            parts += [self.route(f"r{number}", upstream, 'allow = "any-authenticated"') for number in numbers]
            return "\n\n".join(parts)
        if self.kind == "plain":
            parts.append(
                f'[[token_issuer]]\nissuer = "{ISSUER}"\naudience = ["{AUDIENCE}"]\njwks_file = "{self.stand.tokens()}/jwks.json"'
            )
            parts.append(self.route("bearer", upstream, 'accept = ["bearer"]\nallow = { scopes = ["orders:read"] }'))
        parts.append(self.route("public", upstream, 'access = "public"', logged))
        parts.append(self.route("session", upstream, 'allow = "any-authenticated"', logged))
        if self.kind == "forward":
            parts.append('[[route]]\nid = "asked"\npath = "/asked/"\nallow = "any-authenticated"\nlog = false')
            # To sign in at: nginx would do that for browsers in front of /asked/.
            parts.append('[[route]]\nid = "asked-page"\npath = "/asked/whoami"\nallow = "any-authenticated"\n' + f'upstream = "{upstream}"')
        if self.kind == "plain":
            sink = f'upstream = "http://127.0.0.1:{self.stand.sink()}"'
            parts.append(f'[[route]]\nid = "upload"\npath = "/upload"\nallow = "any-authenticated"\nlog = false\n{sink}')
        return "\n\n".join(part for part in parts if part)

    def route(self, name, upstream, access, logged=False):
        return f'[[route]]\nid = "{name}"\npath = "/{name}/"\nupstream = "{upstream}"\n{access}\nlog = {"true" if logged else "false"}'

    def store(self):
        if self.kind not in ("redis", "uncached"):
            return f'[store]\nkind = "embedded"\npath = "{self.machine.dir}/{self.name}.redb"'
        keys = self.machine.dir / f"{self.name}.keys"
        if not keys.exists():
            keys.touch(0o600)
            keys.write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        return f'[store]\nkind = "redis"\nurl = "redis://127.0.0.1:{self.stand.redis()}"\n\n[keys]\nseal_file = "{keys}"'

    def limits(self):
        # As many connections to the upstream wait as there are of the largest row: nginx here has the same.
        text = f"[limits]\nupstream_idle_connections = {POOL}"
        # Room for one session, and the row shows many in turn: each request reads its session from Redis and opens it.
        return text + ("\ncached_sessions = 1" if self.kind == "uncached" else "")
