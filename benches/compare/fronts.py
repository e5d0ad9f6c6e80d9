"""nginx and HAProxy as contenders: proxies that check nothing, and nginx that asks somebody."""

from stand import POOL, nginx_text, start_nginx


class Nginx:
    """One nginx with a listener for each thing that it is compared in: PORT plain, asking a static 204, asking a contender, with TLS."""

    def __init__(self, stand, name="nginx", logs=False):
        self.stand, self.machine, self.name, self.logs = stand, stand.machine, name, logs
        self.group = None
        self.asked = {}  # listener's name: (port of who is asked, its path)

    def port(self, listener="plain"):
        return self.machine.port(f"{self.name}-{listener}")

    def ask(self, listener, port, path):
        """A listener that asks there about each request (auth_request); before the start."""
        self.asked[listener] = (port, path)

    def groups(self):
        return [self.group]

    def stop(self):
        if self.group:
            self.machine.stop(self.group)
            self.group = None

    def start(self):
        if self.group:
            return
        self.asked.setdefault("static", (self.stand.upstream(), "/204"))
        text = nginx_text(self.machine, self.name, self._http())
        for listener in ["tls", *self.asked]:
            self.machine.let_go(f"{self.name}-{listener}")
        self.group = start_nginx(self.machine, self.name, text, f"{self.name}-plain", contender=True)

    def _http(self):
        certificate, key = self.stand.certificate()
        pool = f"keepalive {POOL}; keepalive_requests 1000000000; keepalive_timeout 600s;"
        to_app = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_pass http://app;'
        app = f"location / {{ {to_app} }}"
        # As a gateway in its place would do: bodies go on while they come.
        sink = f"location /upload {{ client_max_body_size 0; proxy_request_buffering off; {to_app.replace('//app', '//sink')} }}"
        log = f"access_log {self.machine.dir}/{self.name}/access.log combined;" if self.logs else ""
        parts = [
            f"upstream app {{ server 127.0.0.1:{self.stand.upstream()}; {pool} }}",
            f"upstream sink {{ server 127.0.0.1:{self.stand.sink()}; }}",
            f"server {{ listen 127.0.0.1:{self.port()} backlog=4096; {log} {app} {sink} }}",
            f"server {{ listen 127.0.0.1:{self.port('tls')} ssl http2 backlog=4096; ssl_protocols TLSv1.3; http2_max_requests 1000000000;"
            f" ssl_certificate {certificate}; ssl_certificate_key {key}; {app} }}",
        ]
        for listener, (port, path) in self.asked.items():
            parts.append(f"upstream {listener} {{ server 127.0.0.1:{port}; {pool} }}")
            # What deploy/nginx/doorward.conf says, without what is for browsers.
            question = (
                f"location = /question {{ internal; proxy_pass http://{listener}{path}; proxy_http_version 1.1;"
                ' proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header Connection "";'
                " proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri;"
                " proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;"
                " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }"
            )
            identity = (
                "auth_request /question; auth_request_set $user $upstream_http_x_auth_request_user;"
                " auth_request_set $email $upstream_http_x_auth_request_email;"
                " proxy_set_header X-Forwarded-User $user; proxy_set_header X-Forwarded-Email $email;"
            )
            parts.append(
                f"server {{ listen 127.0.0.1:{self.port(listener)} backlog=4096; {question} location / {{ {identity} {to_app} }} }}"
            )
        return "\n    ".join(parts)


class Haproxy:
    """HAProxy that proxies, plain and with TLS."""

    def __init__(self, stand, name="haproxy", logs=False):
        self.stand, self.machine, self.name, self.logs = stand, stand.machine, name, logs
        self.group = None

    def port(self, listener="plain"):
        return self.machine.port(f"{self.name}-{listener}")

    def groups(self):
        return [self.group]

    def stop(self):
        if self.group:
            self.machine.stop(self.group)
            self.group = None

    def start(self):
        if self.group:
            return
        self.stand.certificate()
        log = ("log stdout format raw local0\n", "    log global\n    option httplog\n") if self.logs else ("", "")
        text = f"""global
    nbthread {self.machine.cores}
    maxconn 8192
    {log[0]}
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    http-reuse always
{log[1]}
frontend plain
    bind 127.0.0.1:{self.port()} backlog 4096
    use_backend sink if {{ path_beg /upload }}
    default_backend app
frontend tls
    bind 127.0.0.1:{self.port('tls')} backlog 4096 ssl crt {self.machine.dir}/localhost.pem ssl-min-ver TLSv1.3 alpn h2,http/1.1
    default_backend app
backend app
    server app 127.0.0.1:{self.stand.upstream()}
backend sink
    server sink 127.0.0.1:{self.stand.sink()}
"""
        file = self.machine.write(f"{self.name}.cfg", text)
        self.machine.let_go(f"{self.name}-tls")
        with open(self.machine.dir / f"{self.name}.access", "ab") as lines:
            self.group = self.machine.start(self.name, ["haproxy", "-f", file], f"{self.name}-plain", contender=True, stdout=lines)
