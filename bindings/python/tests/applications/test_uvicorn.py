"""uvicorn and gunicorn serving an ASGI application on evl, as their users start them, under load by wrk."""

import asyncio
import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

import support

support.need("uvicorn", "httptools", "websockets", "trustme")

from websockets.asyncio.client import connect

import asgi_app

UVICORN = [sys.executable, "-m", "uvicorn", "--no-access-log"]
EVL = ["--loop", "evl:new_event_loop"]
# Sends 64 KiB and looks at what comes back.
POST = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) wrong = 0 end
wrk.method = "POST"
wrk.body = string.rep("0123456789abcdef", 4096)
function response(status, headers, body)
  if body ~= wrk.body then wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local total = 0
  for _, thread in ipairs(threads) do total = total + thread:get("wrong") end
  print("wrong answers: " .. total)
end
"""
REQUEST = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Served(support.Test):
    def start(self, *command, **options):
        # Processes that uvicorn spawns find the application by the path, too.
        child = support.Child(*command, cwd=support.HERE, env={"PYTHONPATH": support.HERE, **options})
        self.addCleanup(child.kill)
        return child

    def serve(self, *arguments, app="asgi_app:app", loop=EVL):
        """Starts uvicorn as a user does; returns it and its port."""
        child = self.start(*UVICORN, "--port", "0", *loop, *arguments, app)
        port = int(child.wait_for(r"running on https?://127\.0\.0\.1:(\d+)")[1])
        child.wait_for("lifespan begins on evl.loop.EventLoop|startup complete")
        return child, port

    def get(self, port, path, tls=None):
        if tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=tls)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            return answer.read()

    def load(self, url, *arguments, seconds=2, connections=100):
        """Has wrk ask as fast as it can; nothing must fail. Returns what it says."""
        done = subprocess.run(
            ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *arguments, url], capture_output=True,
            text=True, timeout=seconds + 30)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Socket errors", done.stdout)
        self.assertNotIn("Non-2xx", done.stdout)
        requests = int(re.search(r"(\d+) requests in", done.stdout)[1])
        self.assertGreater(requests, 10 * connections, done.stdout)
        print(f"{requests / seconds:.0f} requests a second ... ", end="", flush=True, file=sys.stderr)
        return done.stdout

    def assert_ended(self, child, returncode):
        self.assertEqual(child.wait(), returncode, child.output)
        self.assertIn("lifespan ends", child.output)
        for bad in ("Traceback", "Exception", "WARNING", "ERROR"):
            self.assertNotIn(bad, child.output)


class Uvicorn(Served):
    def test_ways_to_choose_the_loop(self):
        ways = (
            [*UVICORN, *EVL], [*UVICORN, "--loop", "evl:EventLoop"],
            [sys.executable, "-m", "evl", "-m", "uvicorn", "--loop", "none"],
            [os.path.join(os.path.dirname(sys.executable), "uvicorn"), *EVL],
        )
        for command in ways:
            child = self.start(*command, "--port", "0", "asgi_app:app")
            port = int(child.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
            self.assertEqual(self.get(port, "/loop"), b"evl.loop.EventLoop")
            child.process.send_signal(signal.SIGTERM)
            # Having shut down, uvicorn ends by the signal.
            self.assert_ended(child, -signal.SIGTERM)

    def test_in_a_program(self):
        program = """
import asyncio, evl, uvicorn
server = uvicorn.Server(uvicorn.Config("asgi_app:app", port=0, loop="none"))
evl.run(server.serve())
"""
        child = self.start(sys.executable, "-c", program)
        port = int(child.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
        self.assertEqual(self.get(port, "/loop"), b"evl.loop.EventLoop")
        child.process.send_signal(signal.SIGTERM)
        self.assert_ended(child, -signal.SIGTERM)

    @unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
    def test_load(self):
        for parser, seconds in (("httptools", 4), ("h11", 2)):
            child, port = self.serve("--http", parser)
            self.assertEqual(self.get(port, "/loop"), b"evl.loop.EventLoop")
            self.load(f"http://127.0.0.1:{port}/", seconds=seconds)
            # It has not lost its wits by that.
            self.assertEqual(self.get(port, "/loop"), b"evl.loop.EventLoop")
            child.process.send_signal(signal.SIGINT)
            self.assert_ended(child, 0)

    @unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
    def test_load_of_timers_and_bodies(self):
        child, port = self.serve()
        self.load(f"http://127.0.0.1:{port}/sleep", connections=200)
        script = f"{self.directory()}/post.lua"
        with open(script, "w") as file:
            file.write(POST)
        said = self.load(f"http://127.0.0.1:{port}/echo", "-s", script, connections=50)
        self.assertIn("wrong answers: 0\n", said)
        child.process.send_signal(signal.SIGTERM)
        self.assert_ended(child, -signal.SIGTERM)

    @unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
    def test_load_with_tls(self):
        certificates = support.Certificates(self.directory())
        child, port = self.serve("--ssl-certfile", certificates.certificate, "--ssl-keyfile", certificates.key)
        self.load(f"https://127.0.0.1:{port}/", connections=50)
        self.assertEqual(self.get(port, "/stream", certificates.client), asgi_app.PIECE * 256)
        child.process.send_signal(signal.SIGTERM)
        self.assert_ended(child, -signal.SIGTERM)

    @unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
    def test_load_of_workers(self):
        child = self.start(*UVICORN, *EVL, "--port", "0", "--workers", "2", "asgi_app:app")
        port = int(child.wait_for(r"running on http://127\.0\.0\.1:(\d+)")[1])
        child.wait_for(r"(?s)startup complete.*startup complete")
        self.assertEqual(child.output.count("lifespan begins on evl.loop.EventLoop"), 2)
        self.load(f"http://127.0.0.1:{port}/")
        child.process.send_signal(signal.SIGTERM)
        self.assert_ended(child, 0)
        self.assertEqual(child.output.count("lifespan ends"), 2)

    def test_signals_while_a_request_is_under_way(self):
        for sig, returncode in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)):
            child, port = self.serve()
            idle = socket.create_connection(("127.0.0.1", port), timeout=20)
            with idle, socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(b"POST /echo-and-say HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
                child.wait_for("asked")
                child.process.send_signal(sig)
                child.wait_for("Waiting for connections to close|Waiting for background tasks")
                # A connection without a request is closed.
                self.assertEqual(idle.recv(1), b"")
                sock.sendall(b", evl")
                answer = support.read_all(sock)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK"), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nhello, evl"), answer)
            self.assert_ended(child, returncode)

    def test_a_client_that_goes(self):
        child, port = self.serve()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                # Part of a stream, and then a reset, as closing with what is unread makes it.
                sock.sendall(REQUEST.format("/stream").encode())
                sock.recv(1000)
        self.assertEqual(self.get(port, "/"), b"Hello, world")
        child.process.send_signal(signal.SIGTERM)
        self.assert_ended(child, -signal.SIGTERM)

    def test_unix_socket(self):
        path = f"{self.directory()}/socket"
        child = self.start(*UVICORN, *EVL, "--uds", path, "asgi_app:app")
        child.wait_for("running on unix socket")
        answer = support.http(path, REQUEST.format("/loop").encode())
        self.assertTrue(answer.endswith(b"\r\n\r\nevl.loop.EventLoop"), answer)
        # By the other signal uvicorn would end before it has removed the file.
        child.process.send_signal(signal.SIGINT)
        self.assert_ended(child, 0)
        self.assertFalse(os.path.exists(path))

    async def test_websockets(self):
        child, port = await asyncio.to_thread(self.serve)
        sizes = (0, 1, 65536, 1_000_000)

        async def talk(number):
            async with connect(f"ws://127.0.0.1:{port}", proxy=None, max_size=None) as ws:
                for turn in range(50):
                    await ws.send(f"{number}.{turn}")
                for turn in range(50):
                    self.assertEqual(await ws.recv(), f"{number}.{turn}")
                await ws.send(support.pattern(sizes[number % 4]))
                self.assertEqual(await ws.recv(), support.pattern(sizes[number % 4]))
                await ws.send("close")
                await ws.wait_closed()
                self.assertEqual(ws.close_code, 4000)

        await asyncio.gather(*map(talk, range(40)))
        child.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.assert_ended, child, -signal.SIGTERM)


@unittest.skipUnless(importlib.util.find_spec("gunicorn"), "gunicorn is not installed")
class Gunicorn(Served):
    def check(self, *command):
        child = self.start(*command, "--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket", "asgi_app:app")
        port = int(child.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        child.wait_for(r"(?s)lifespan begins on evl\.loop\.EventLoop.*lifespan begins on evl\.loop\.EventLoop")
        self.assertEqual(self.get(port, "/loop"), b"evl.loop.EventLoop")
        if shutil.which("wrk"):
            self.load(f"http://127.0.0.1:{port}/")
        child.process.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(), 0, child.output)
        self.assertEqual(child.output.count("lifespan ends"), 2)
        self.assertNotIn("Traceback", child.output)

    @unittest.skipUnless(importlib.util.find_spec("uvicorn_worker"), "uvicorn-worker is not installed")
    def test_worker_of_uvicorn(self):
        self.check(sys.executable, "-m", "gunicorn", "-k", "gunicorn_worker.EvlWorker")

    def test_worker_of_its_own(self):
        self.check(sys.executable, "-m", "evl", "-m", "gunicorn", "-k", "asgi", "--asgi-loop", "asyncio")


if __name__ == "__main__":
    support.main()
