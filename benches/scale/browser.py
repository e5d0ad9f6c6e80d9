"""A browser of a few lines, for real logins: cookies by origin, redirects one by one, the provider's form."""

import http.client
import re
from urllib.parse import urlencode, urljoin, urlsplit

STEPS = 20


class Browser:
    def __init__(self):
        self.cookies = {}

    def ask(self, url, method="GET", form=None):
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        kept = self.cookies.setdefault(parts.netloc, {})
        headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64)"
        if kept:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"{parts.scheme}://{parts.netloc}"
            headers["Sec-Fetch-Site"] = "same-origin"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", body, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, value = line.split(";", 1)[0].split("=", 1)
            if value and "max-age=0" not in line.lower() and "01 jan 1970" not in line.lower():
                kept[name] = value
            else:
                kept.pop(name, None)
        where = answer.headers.get("Location")
        return answer.status, urljoin(url, where) if where else None, text

    def log_in(self, origin, user, password="pass", path="/"):
        """From the app's door to the app; the session cookie as `name=value`."""
        url, form, method = origin + path, None, "GET"
        for _ in range(STEPS):
            status, where, text = self.ask(url, method, form)
            form, method = None, "GET"
            if where:
                url = where
            elif 'type="password"' in text:
                action = re.search(r'<form method="post" action="([^"]+)"', text).group(1)
                url, form, method = urljoin(url, action), {"login": user, "password": password}, "POST"
            elif status == 200 and url == origin + path:
                return self.session(origin)
            else:
                raise RuntimeError(f"{user} came to {url}: {status}\n{text[:2000]}")
        raise RuntimeError(f"{user} is sent around: {url}")

    def session(self, origin):
        cookies = self.cookies[urlsplit(origin).netloc]
        found = [f"{name}={value}" for name, value in cookies.items() if len(value) == 64]
        if len(found) != 1:
            raise RuntimeError(f"expected one session cookie among {list(cookies)}")
        return found[0]
