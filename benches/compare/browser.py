"""A browser that knows HTTP, cookies and the test provider's login form, and nothing else."""

import base64
import hashlib
import http.client
import json
import re
import secrets
import ssl
import urllib.parse

from machine import Problem

LOGIN, PASSWORD = "alice", "correct horse"
MOST_HOPS = 20


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Browser:
    """Keeps cookies by origin, so that nothing of the provider's is sent to a gateway."""

    def __init__(self):
        self.cookies = {}
        self.tls = ssl._create_unverified_context()  # the certificate is our own, made a moment ago

    def ask(self, method, url, headers=None, body=None):
        """One request; redirects are not followed."""
        parts = urllib.parse.urlsplit(url)
        origin = parts.netloc
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=10, context=self.tls)
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        sent = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", **(headers or {})}
        if self.cookies.get(origin) and "Cookie" not in sent:
            sent["Cookie"] = self.cookie(url)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            self._keep(origin, line)
        return Answer(answer.status, answer.headers, text)

    def _keep(self, origin, line):
        pair, *words = (part.strip() for part in line.split(";"))
        name, _, value = pair.partition("=")
        words = {word.partition("=")[0].lower(): word.partition("=")[2] for word in words}
        kept = self.cookies.setdefault(origin, {})
        kept.pop((name, words.get("path", "/")), None)
        if value and words.get("max-age") != "0":
            kept[name, words.get("path", "/")] = value

    def visit(self, url, stop=None):
        """Goes where redirects lead, and signs in where a login form stands. Returns the last address and what was there; ends early at
        an address that begins with `stop`, without asking for it."""
        answer = self.ask("GET", url)
        for _ in range(MOST_HOPS):
            place = answer.headers.get("Location")
            form = re.search(rb'<form method="post" action="(/interaction/[^"]+/login)"', answer.body)
            if answer.status in (301, 302, 303, 307) and place:
                url = urllib.parse.urljoin(url, place)
                if stop and url.startswith(stop):
                    return url, None
                answer = self.ask("GET", url)
            elif form:
                url = urllib.parse.urljoin(url, form[1].decode())
                filled = urllib.parse.urlencode({"login": LOGIN, "password": PASSWORD})
                answer = self.ask("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, filled)
            else:
                return url, answer
        raise Problem(f"more than {MOST_HOPS} redirects; the last one led to {url}")

    def cookie(self, url):
        """The Cookie line for this address."""
        parts = urllib.parse.urlsplit(url)
        kept = self.cookies.get(parts.netloc, {})
        return "; ".join(f"{name}={value}" for (name, path), value in kept.items() if (parts.path or "/").startswith(path))


def sign_in(url):
    """Signs in where `url` leads, and gives the cookies with which it opens."""
    browser = Browser()
    last, answer = browser.visit(url)
    if answer.status != 200 or urllib.parse.urlsplit(last).netloc != urllib.parse.urlsplit(url).netloc:
        raise Problem(f"signing in at {url} ended at {last} with {answer.status}: {answer.body[:600].decode(errors='replace')}")
    return browser.cookie(url)


def id_token(issuer, client_id, client_secret, redirect_uri):
    """Goes through the code flow itself, as an app would, for a token that a bearer row may show."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": client_id, "redirect_uri": redirect_uri, "response_type": "code", "scope": "openid email profile",
        "state": "s", "nonce": "n", "code_challenge": challenge, "code_challenge_method": "S256",
    }
    browser = Browser()
    last, answer = browser.visit(f"{issuer}/auth?{urllib.parse.urlencode(asked)}", stop=redirect_uri)
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(last).query).get("code")
    if not code:
        raise Problem(f"the provider gave no code to {client_id}: {last} {answer.body[:300] if answer else ''}")
    basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code[0], "redirect_uri": redirect_uri, "code_verifier": verifier}
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    answer = browser.ask("POST", f"{issuer}/token", headers, urllib.parse.urlencode(form))
    if answer.status != 200:
        raise Problem(f"the provider's token endpoint answered {answer.status}: {answer.body[:300]}")
    return json.loads(answer.body)["id_token"]
