"""An app on a phone, as old ones are: it signs in with a password or with what Facebook's SDK gave it, keeps one opaque token, and sends
that wherever its library happens to put it. Standard library only. Knows the address of the gateway and nothing else.

    app.py BASE < steps

Each step is a line of JSON, {"do": ..., ...}; each answer a line of JSON on stdout, {"status": ..., "body": ..., "headers": ...}.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

AGENT = "Acme/2.1 (iPhone; iOS 26.1)"


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: an app has nowhere to show a login page."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))


def send(base, method, path, headers=None, body=None):
    request = urllib.request.Request(base + path, data=body, method=method)
    request.add_header("User-Agent", AGENT)
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        answer = OPENER.open(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read().decode()
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    return {
        "status": answer.status if hasattr(answer, "status") else answer.code,
        "body": content,
        "headers": {name.lower(): ", ".join(answer.headers.get_all(name)) for name in answer.headers},
    }


def sign_in(base, step):
    path = step.get("path", "/oauth/token")
    fields = step["with"]
    if step.get("as") == "json":
        body = json.dumps(fields).encode()
        return send(base, "POST", path, {"Content-Type": "application/json"}, body)
    body = urllib.parse.urlencode(fields).encode()
    return send(base, "POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, body)


def data(base, step):
    path, token, place = step["path"], step.get("token"), step.get("in", "header")
    if token is None:
        return send(base, "GET", path)
    if place == "header":
        return send(base, "GET", path, {"Authorization": "Bearer " + token})
    if place == "query":
        return send(base, "GET", path + "?" + urllib.parse.urlencode({"page": 2, "access_token": token}))
    form = urllib.parse.urlencode({"note": "hello", "access_token": token}).encode()
    return send(base, "POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, form)


def main():
    base = sys.argv[1]
    steps = {"sign_in": sign_in, "data": data}
    for line in sys.stdin:
        step = json.loads(line)
        print(json.dumps(steps[step["do"]](base, step)), flush=True)


main()
