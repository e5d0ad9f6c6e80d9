"""gRPC without a schema: messages are bytes, and what is done with them is told by the method's name.

server PORT   serves test.Echo on 127.0.0.1:PORT (0: a free one) and prints the port; then a line for each call that ends
call TARGET METHOD [--ca FILE] [--metadata NAME=VALUE]... [--timeout SECONDS] [MESSAGE...]
              prints what comes, one line each: "message TEXT", "initial NAME=VALUE", "trailing NAME=VALUE", "status CODE DETAILS"
hold TARGET METHOD ...   the same, but its request has no end: one message, and then nothing until the call ends
"""

import argparse
import sys
import threading
import time
from concurrent import futures

import grpc

DONE = threading.Event()


def say(*words):
    print(*words, flush=True)


def ended(name, context):
    """Says when the call is over, whoever ended it."""
    context.add_callback(lambda: say("ended", name))


def told(context):
    say("called")
    metadata = {name: value for name, value in context.invocation_metadata()}
    context.send_initial_metadata((("x-user", metadata.get("x-forwarded-user", "nobody")),))
    context.set_trailing_metadata((("x-sum", "42"), ("x-data-bin", b"\x00\xff")))


def unary(request, context):
    told(context)
    return b"echo " + request


def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: " + request.decode())


def sleepy(request, context):
    ended("sleepy", context)
    for _ in range(1000):
        if not context.is_active():
            return b""
        time.sleep(0.01)
    return b"awake"


def count(request, context):
    told(context)
    for number in range(int(request)):
        yield str(number).encode()


def large(request, context):
    piece = b"x" * 1_000_000
    for _ in range(int(request)):
        yield piece


def forever(request, context):
    ended("forever", context)
    number = 0
    while context.is_active():
        yield str(number).encode()
        number += 1
        time.sleep(0.01)


def gather(requests, context):
    told(context)
    return b"+".join(requests)


def size(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def gather_held(requests, context):
    """Says nothing, not even a head, before the last message."""
    ended("gather_held", context)
    say("begun", "gather_held")
    return b"+".join(requests)


def chat(requests, context):
    told(context)
    for request in requests:
        yield b"echo " + request


def chat_held(requests, context):
    ended("chat_held", context)
    for request in requests:
        yield b"echo " + request


KINDS = {
    "unary": (grpc.unary_unary_rpc_method_handler, [unary, refuse, sleepy]),
    "server": (grpc.unary_stream_rpc_method_handler, [count, large, forever]),
    "client": (grpc.stream_unary_rpc_method_handler, [gather, size, gather_held]),
    "both": (grpc.stream_stream_rpc_method_handler, [chat, chat_held]),
}


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
    handlers = {function.__name__: make(function) for make, functions in KINDS.values() for function in functions}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    say("listening", port)
    server.wait_for_termination()


def messages(texts, held):
    for text in texts:
        yield text.encode()
    if held:
        DONE.wait()


def pairs(name, metadata):
    for key, value in metadata or ():
        say(name, f"{key}={value}")


def call(options, held):
    ca = options.ca and open(options.ca, "rb").read()
    limit = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    if options.authority:
        limit.append(("grpc.default_authority", options.authority))
    target = options.target
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca), limit) if ca else grpc.insecure_channel(target, limit)
    kind = next(kind for kind, (_, functions) in KINDS.items() if options.method in [function.__name__ for function in functions])
    path = f"/test.Echo/{options.method}"
    metadata = [tuple(pair.split("=", 1)) for pair in options.metadata]
    more = {"metadata": metadata, "timeout": options.timeout}
    body = b"".join(text.encode() for text in options.messages)
    if options.megabytes:
        body = b"x" * 1_000_000
    try:
        if kind == "unary":
            answer, under_way = channel.unary_unary(path).with_call(body, **more)
            answers = [answer]
        elif kind == "client":
            stream = (body for _ in range(options.megabytes)) if options.megabytes else messages(options.messages, held)
            answer, under_way = channel.stream_unary(path).with_call(stream, **more)
            answers = [answer]
        elif kind == "server":
            answers = under_way = channel.unary_stream(path)(body, **more)
        else:
            answers = under_way = channel.stream_stream(path)(messages(options.messages, held), **more)
        bytes_in_all = 0
        for answer in answers:
            bytes_in_all += len(answer)
            if len(answer) < 1000:
                say("message", answer.decode())
            if options.cancel_after is not None and bytes_in_all >= options.cancel_after:
                under_way.cancel()
        say("bytes", bytes_in_all)
        pairs("initial", under_way.initial_metadata())
        pairs("trailing", under_way.trailing_metadata())
        say("status", under_way.code().name, under_way.details())
    except grpc.RpcError as error:
        say("status", error.code().name, error.details())
    finally:
        DONE.set()


if sys.argv[1] == "server":
    serve(int(sys.argv[2]))
else:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("target")
    parser.add_argument("method")
    parser.add_argument("--ca")
    parser.add_argument("--authority")
    parser.add_argument("--metadata", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("--cancel-after", type=int)
    parser.add_argument("--megabytes", type=int, default=0)
    parser.add_argument("messages", nargs="*")
    options = parser.parse_intermixed_args()
    call(options, options.verb == "hold")
