"""An ASGI application that the tests of uvicorn, gunicorn and httpx serve."""

import asyncio
import hashlib
import os

PIECE = bytes(range(256)) * 256


def loop_name():
    kind = type(asyncio.get_running_loop())
    return f"{kind.__module__}.{kind.__qualname__}"


def say(text):
    """Tells the test, which reads what all of a server's processes write: a line by one call."""
    os.write(1, f"{text}\n".encode())


async def body(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def answer(send, data, status=200):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(data))]})
    await send({"type": "http.response.body", "body": data})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        say(f"lifespan begins on {loop_name()}")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("lifespan ends")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await http(scope, receive, send)


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def http(scope, receive, send):
    path = scope["path"]
    if path == "/":
        await answer(send, b"Hello, world")
    elif path == "/loop":
        await answer(send, loop_name().encode())
    elif path in ("/echo", "/echo-and-say"):
        if path == "/echo-and-say":
            say("asked")
        await answer(send, b"".join([piece async for piece in body(receive)]))
    elif path == "/digest":
        digest = hashlib.sha256()
        async for piece in body(receive):
            digest.update(piece)
        await answer(send, digest.hexdigest().encode())
    elif path == "/stream":
        # 16 MiB, as fast as the client takes them.
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(256):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/hang":
        while (await receive())["type"] != "http.disconnect":
            pass
    elif path == "/sleep":
        await asyncio.sleep(0.005)
        await answer(send, b"slept")
    else:
        await answer(send, b"not here", 404)
