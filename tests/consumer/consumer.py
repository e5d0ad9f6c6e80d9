#!/usr/bin/env python3
"""A program that calls another: it knows one origin, its own client_id and client_secret, and what it wants to say.

    consumer.py ORIGIN CLIENT_ID CLIENT_SECRET MESSAGE

It makes its calls in order whatever comes of them, follows no redirect, and prints one JSON line for each:
{"call": .., "status": .., "challenge": WWW-Authenticate or null, "type": Content-Type, "body": .., "token": what the call was given, if it was one}.
"""
import base64
import http.client
import json
import sys
import urllib.parse

origin, client_id, client_secret, message = sys.argv[1:5]
place = urllib.parse.urlsplit(origin)


def call(name, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    connection.request(method, path, body=body, headers={"Accept": "application/json", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    told = {"call": name, "status": answer.status, "challenge": answer.getheader("WWW-Authenticate"), "type": answer.getheader("Content-Type")}
    try:
        told["body"] = json.loads(text)
    except ValueError:
        told["body"] = text
    print(json.dumps(told), flush=True)
    return told["body"]


def token(name, secret, scope):
    shown = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": scope})
    headers = {"Authorization": f"Basic {shown}", "Content-Type": "application/x-www-form-urlencoded"}
    return call(name, "POST", "/token", headers, form)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


call("public", "GET", "/public")
call("without a token", "GET", "/resource")
token("wrong secret", "not-" + client_secret, "read write")
granted = token("right secret", client_secret, "read write").get("access_token", "")
call("read", "GET", "/resource", bearer(granted))
call("write with a made-up token", "POST", "/resource", bearer("made-up"), message)
call("write", "POST", "/resource", bearer(granted), message)
call("read again", "GET", "/resource", bearer(granted))
# Beside the eight: a token for reading does not write.
reading = token("right secret, to read", client_secret, "read").get("access_token", "")
call("read with a token to read", "GET", "/resource", bearer(reading))
call("write with a token to read", "POST", "/resource", bearer(reading), "overwritten")
call("read at last", "GET", "/resource", bearer(reading))
