"""What is measured: every row there is, and which contender it asks."""

from dataclasses import dataclass, field

from doorward import Doorward
from fronts import Haproxy, Nginx
from gateways import Apache, OAuth2Proxy
from stand import ROUTES

# Which rows stand together. `--only` takes these names.
GROUPS = {
    "session": "A session on a protected route, over a public one, over proxies that check nothing",
    "bearer": "Bearer tokens",
    "forward": "Forward-auth: the answer alone, and behind nginx (`auth_request`)",
    "apache": "Apache with mod_auth_openidc",
    "oauth2-proxy": "oauth2-proxy",
    "bodies": "Larger answers (session)",
    "upload": "POST of 100 MB (a request is one upload; p99 is the slowest)",
    "tls": "TLS 1.3 to the downstream (session)",
    "http2": "HTTP/2 to the downstream, over TLS (session; 8 connections with 8 streams each)",
    "connections": "1 and 512 connections (session)",
    "routes": "2 000 routes (session)",
    "logs": "Access logs on, for all",
}


@dataclass
class Row:
    """A contender, asked in one way."""

    id: str
    group: str
    name: str
    front: object
    path: str
    base: str | None = None  # the row that it is a multiple of
    listener: str = "plain"
    kind: str = "wrk"  # or "h2load", "upload"
    connections: int = 64
    status: int = 200
    credential: object = None  # makes (header name, value); anonymous requests then have to fail
    others: dict = field(default_factory=dict)  # further headers
    also: list = field(default_factory=list)  # contenders whose cost counts too
    tls: bool = False
    lines: tuple | None = None  # (file, header, prefix, "again" or "once"): another value with each request
    fresh: bool = False  # a new process for each round
    stored: bool = False  # each request has to reach Redis
    identity: str = "user=alice"
    answered_here: bool = False  # the identity stands in the answer's head and not at the upstream

    def port(self):
        return self.front.port if isinstance(self.front, Doorward) else self.front.port(self.listener)

    def host(self):
        host = "localhost" if self.tls else "127.0.0.1"
        return self.others.get("Host", f"{host}:{self.port()}")

    def url(self):
        # h2load and wrk connect to what stands here; names would cost a look-up.
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port()}{self.path}"

    def headers(self):
        """What each request carries."""
        name_and_value = [self.credential()] if self.credential else []
        return {**{name: value for name, value in self.others.items() if name != "Host" or self.kind == "wrk"}, **dict(name_and_value)}

    def start(self):
        for front in [*self.also, self.front]:
            front.start()

    def groups(self):
        return [group for front in [self.front, *self.also] for group in front.groups()]


def every_row(stand, doorward, pgo=None, oauth2_proxy=None):
    """All rows that can be measured with these binaries. Contenders are made here, so that the provider knows them, and started when
    needed."""
    plain, redis = Doorward(stand, doorward, "plain", "doorward"), Doorward(stand, doorward, "redis", "doorward-redis")
    uncached, tls = Doorward(stand, doorward, "uncached", "doorward-uncached"), Doorward(stand, doorward, "tls", "doorward-tls")
    asked, logs = Doorward(stand, doorward, "forward", "doorward-forward"), Doorward(stand, doorward, "logs", "doorward-logs")
    first = Doorward(stand, doorward, "plain", "doorward-first")
    few, many = Doorward(stand, doorward, "route", "doorward-1-route"), Doorward(stand, doorward, "routes", f"doorward-{ROUTES}-routes")
    nginx, haproxy = Nginx(stand), Haproxy(stand)
    nginx_logs, haproxy_logs = Nginx(stand, "nginx-logs", logs=True), Haproxy(stand, "haproxy-logs", logs=True)
    nginx.ask("doorward", asked.port, "/oauth2/auth")

    def cookie(front):
        return lambda: ("Cookie", front.cookies()[0])

    def token(kind, number=0):
        return lambda: ("Authorization", "Bearer " + (stand.tokens() / f"{kind}.txt").read_text().split("\n", number + 1)[number])

    def many_sessions():
        return stand.machine.write("sessions.txt", "\n".join(uncached.cookies(64)) + "\n")

    bearer = {"path": "/bearer/64", "base": "nginx"}

    def first_seen(kind):
        return {
            **bearer, "credential": token(kind), "lines": (lambda: stand.tokens() / f"{kind}.txt", "Authorization", "Bearer ", "once"),
            "fresh": True, "identity": "user=program-0",
        }

    rows = [
        Row("nginx", "session", "nginx", nginx, "/public/64", "nginx"),
        Row("haproxy", "session", "HAProxy", haproxy, "/public/64", "nginx"),
        Row("public", "session", "Doorward, public", plain, "/public/64", "nginx"),
        Row("session", "session", "Doorward, session", plain, "/session/64", "nginx", credential=cookie(plain)),
        Row("session-redis", "session", "Doorward, session in Redis, known", redis, "/session/64", "nginx", credential=cookie(redis)),
        Row(
            "session-uncached", "session", "Doorward, session in Redis, read each time", uncached, "/session/64", "nginx",
            credential=cookie(uncached), lines=(many_sessions, "Cookie", "", "again"), stored=True,
        ),
        Row("bearer", "bearer", "Doorward, the same token", plain, credential=token("rs256"), identity="user=program-0", **bearer),
        Row("bearer-rs256", "bearer", "Doorward, a new token each time, RS256", first, **first_seen("rs256")),
        Row("bearer-es256", "bearer", "Doorward, a new token each time, ES256", first, **first_seen("es256")),
        Row(
            "forward", "forward", "Doorward, the answer alone", asked, "/oauth2/auth", "nginx", credential=cookie(asked),
            answered_here=True, identity="x-auth-request-user: alice",
            others={
                "X-Original-Method": "GET", "X-Original-URI": "/asked/64", "X-Forwarded-Proto": "http",
                "X-Forwarded-Host": f"127.0.0.1:{asked.port}",
            },
        ),
        Row("nginx-static", "forward", "nginx, asking a static 204", nginx, "/static/64", "nginx", listener="static"),
        Row(
            "nginx-doorward", "forward", "nginx, asking Doorward (both)", nginx, "/asked/64", "nginx", listener="doorward",
            credential=cookie(asked), also=[asked], others={"Host": f"127.0.0.1:{asked.port}"},
        ),
    ]
    if pgo:
        front = Doorward(stand, pgo, "plain", "doorward-pgo")
        rows.append(Row("public-pgo", "session", "Doorward with PGO, public", front, "/public/64", "nginx"))
        rows.append(Row("session-pgo", "session", "Doorward with PGO, session", front, "/session/64", "nginx", credential=cookie(front)))
    apaches = [Apache(stand, "shm"), Apache(stand, "redis")]
    rows.append(Row("apache", "apache", "Apache, asking nobody", apaches[0], "/public/64", "nginx"))
    for front, what in zip(apaches, ["shared memory", "Redis"]):
        name = f"mod_auth_openidc, sessions in {what}"
        rows.append(Row(front.name, "apache", name, front, "/session/64", "nginx", credential=cookie(front)))
    if oauth2_proxy:
        rows += with_oauth2_proxy(stand, oauth2_proxy, nginx, cookie)
    sizes = [("16k", "16 KB"), ("1m", "1 MB")]
    rows += [row for size, what in sizes for row in compared(f"{size}", "bodies", what, size, nginx, haproxy, plain, cookie)]
    rows += [
        Row(f"{front.name}-upload", "upload", name, front, "/upload", "nginx-upload", kind="upload", connections=1, credential=credential)
        for front, name, credential in [(nginx, "nginx", None), (haproxy, "HAProxy", None), (plain, "Doorward, session", cookie(plain))]
    ]
    for size, what in [("64", "64 B"), ("64k", "64 KB")]:
        rows += compared(f"tls-{size}", "tls", what, size, nginx, haproxy, tls, cookie, listener="tls", tls=True)
        rows += compared(f"h2-{size}", "http2", what, size, nginx, haproxy, tls, cookie, listener="tls", tls=True, kind="h2load")
    for count in (1, 512):
        what = "1 connection" if count == 1 else f"{count} connections"
        rows += compared(f"c{count}", "connections", what, "64", nginx, haproxy, plain, cookie, connections=count)
    last = f"/r{ROUTES - 1}/64"
    rows += [
        Row("route", "routes", "Doorward, 1 route", few, last, "route", credential=cookie(few)),
        Row("routes", "routes", "Doorward, 2 000 routes", many, last, "route", credential=cookie(many)),
    ]
    rows += compared("logs", "logs", "", "64", nginx_logs, haproxy_logs, logs, cookie)
    return rows


def compared(id, group, what, size, nginx, haproxy, doorward, cookie, **more):
    """nginx, HAProxy and a session at Doorward, asked for bodies of this size."""
    tail = f", {what}" if what else ""
    return [
        Row(f"nginx-{id}", group, f"nginx{tail}", nginx, f"/public/{size}", f"nginx-{id}", **more),
        Row(f"haproxy-{id}", group, f"HAProxy{tail}", haproxy, f"/public/{size}", f"nginx-{id}", **more),
        Row(f"session-{id}", group, f"Doorward{tail}", doorward, f"/session/{size}", f"nginx-{id}", credential=cookie(doorward), **more),
    ]


def with_oauth2_proxy(stand, binary, nginx, cookie):
    """What oauth2-proxy can be asked for."""
    by_cookie, by_redis, auth = (OAuth2Proxy(stand, binary, kind) for kind in ("cookie", "redis", "auth"))
    nginx.ask("oauth2proxy", auth.port(), "/oauth2/auth")
    asked = {"path": "/session/64", "base": "nginx"}
    return [
        Row("o2p-cookie", "oauth2-proxy", "session in its cookie", by_cookie, credential=cookie(by_cookie), **asked),
        Row("o2p-redis", "oauth2-proxy", "session in Redis", by_redis, credential=cookie(by_redis), **asked),
        Row(
            "o2p-bearer", "oauth2-proxy", "the same token", by_cookie,
            credential=lambda: ("Authorization", f"Bearer {by_cookie.token()}"), **asked,
        ),
        Row(
            "o2p-auth", "oauth2-proxy", "/oauth2/auth, the answer alone", auth, "/oauth2/auth", "nginx", credential=cookie(auth),
            status=202, answered_here=True, identity="x-auth-request-user: alice",
        ),
        Row(
            "nginx-o2p", "oauth2-proxy", "nginx, asking oauth2-proxy (both)", nginx, "/session/64", "nginx", listener="oauth2proxy",
            credential=cookie(auth), also=[auth],
        ),
    ]


def chosen(rows, only):
    """Rows of these groups, with those that they are a multiple of, in their order."""
    wanted = {row.id for row in rows if not only or row.group in only}
    wanted |= {row.base for row in rows if row.id in wanted and row.base}
    if not only or "bearer" in only:
        wanted.add("public")  # what a token's cost is over
    return [row for row in rows if row.id in wanted]
