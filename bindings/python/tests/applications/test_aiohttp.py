"""aiohttp, client and server, on evl."""

import asyncio
import errno
import hashlib
import io
import os
import signal
import socket
import sys

import support

support.need("aiohttp", "trustme")

import aiohttp
from aiohttp import web

MIB = 1 << 20


class Aiohttp(support.Test):
    async def serve(self, *routes, tls=None, sock=None, path=None, **options):
        """Serves the routes on a port the system chooses; returns its URL, or the path."""
        app = web.Application(client_max_size=64 * MIB)
        app.add_routes(routes)
        self.runner = web.AppRunner(app, **{"shutdown_timeout": 5, "access_log": None, **options})
        await self.runner.setup()
        self.stack.push_async_callback(self.runner.cleanup)
        if path is not None:
            await web.UnixSite(self.runner, path).start()
            return path
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = self.runner.addresses[0][1]
        # The client has the name looked up, and may be given ::1 first, where nobody listens.
        return f"{'https' if tls else 'http'}://localhost:{self.port}"

    async def session(self, **options):
        return await self.enter(aiohttp.ClientSession(**options))

    async def test_json(self):
        async def echo(request):
            support.assert_evl()
            return web.json_response({"got": await request.json(), "query": dict(request.query)}, headers={"X-Is": "evl"})

        async def broken(request):
            raise web.HTTPConflict(text="not now")

        url = await self.serve(web.post("/echo", echo), web.get("/broken", broken))
        session = await self.session()
        document = {"text": "žluťoučký kůň 🐎", "numbers": list(range(1000)), "nothing": None}
        async with session.post(url + "/echo", json=document, params={"a": "1 & 2"}) as answer:
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["X-Is"], "evl")
            self.assertEqual(await answer.json(), {"got": document, "query": {"a": "1 & 2"}})
        async with session.get(url + "/broken") as answer:
            self.assertEqual((answer.status, await answer.text()), (409, "not now"))
        async with session.get(url + "/nowhere") as answer:
            self.assertEqual(answer.status, 404)

    async def exchange(self, url, session):
        """Uploads and downloads 16 MiB by pieces of odd sizes."""
        data = support.pattern(16 * MIB)
        digest = hashlib.sha256(data).hexdigest()

        async def pieces():
            view, size = memoryview(data), 1
            while view:
                yield bytes(view[:size])
                view, size = view[size:], min(size * 3, 700_001)

        async with session.post(url + "/upload", data=pieces()) as answer:
            self.assertEqual(await answer.json(), {"size": len(data), "sha256": digest})
        got = hashlib.sha256()
        size = 0
        async with session.get(url + "/download") as answer:
            async for piece in answer.content.iter_any():
                got.update(piece)
                size += len(piece)
        self.assertEqual((size, got.hexdigest()), (len(data), digest))

    @staticmethod
    def exchange_routes():
        async def upload(request):
            got, size = hashlib.sha256(), 0
            async for piece in request.content.iter_chunked(50_000):
                got.update(piece)
                size += len(piece)
            return web.json_response({"size": size, "sha256": got.hexdigest()})

        async def download(request):
            response = web.StreamResponse()
            await response.prepare(request)
            data = support.pattern(16 * MIB)
            for at in range(0, len(data), 99_991):
                await response.write(data[at:at + 99_991])
            return response

        return web.post("/upload", upload), web.get("/download", download)

    async def test_streaming(self):
        url = await self.serve(*self.exchange_routes())
        await self.exchange(url, await self.session())

    async def test_streaming_over_unix_socket(self):
        path = await self.serve(*self.exchange_routes(), path=f"{self.directory()}/socket")
        await self.exchange("http://unix", await self.session(connector=aiohttp.UnixConnector(path)))

    async def test_backpressure(self):
        sent, done = 0, asyncio.Event()

        async def download(request):
            nonlocal sent
            response = web.StreamResponse()
            await response.prepare(request)
            for number in range(64):
                await response.write(bytes([number]) * MIB)
                sent += 1
            done.set()
            return response

        url = await self.serve(web.get("/", download))
        session = await self.session()
        async with session.get(url) as answer:
            # A client that takes nothing stops the server, after what the kernel and a few buffers hold.
            with self.assertRaises(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.5)
            self.assertLess(sent, 20)
            data = bytearray()
            async for piece in answer.content.iter_any():
                data += piece
        self.assertEqual(bytes(data), b"".join(bytes([number]) * MIB for number in range(64)))

    async def test_files(self):
        # By sendfile over TCP; over TLS, where the kernel cannot, by reading.
        data = support.pattern(8 * MIB + 1)
        path = f"{self.directory()}/file"
        with open(path, "wb") as file:
            file.write(data)

        async def send(request):
            return web.FileResponse(path)

        certificates = support.Certificates(self.directory())
        for tls, client in ((None, None), (certificates.server, certificates.client)):
            url = await self.serve(web.get("/", send), tls=tls)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client or True)) as session:
                async with session.get(url) as answer:
                    self.assertEqual(await answer.read(), data)
                async with session.get(url, headers={"Range": "bytes=1000000-7000000"}) as answer:
                    self.assertEqual(answer.status, 206)
                    self.assertEqual(await answer.read(), data[1_000_000:7_000_001])

    async def test_multipart(self):
        data = support.pattern(3 * MIB)

        async def upload(request):
            form = await request.post()
            return web.json_response([form["name"], hashlib.sha256(form["file"].file.read()).hexdigest()])

        url = await self.serve(web.post("/", upload))
        form = aiohttp.FormData()
        form.add_field("name", "evl")
        form.add_field("file", io.BytesIO(data), filename="file.bin")
        session = await self.session()
        async with session.post(url, data=form) as answer:
            self.assertEqual(await answer.json(), ["evl", hashlib.sha256(data).hexdigest()])

    async def test_many_requests(self):
        peers = set()
        together = most = 0
        full = asyncio.Event()

        async def answer(request):
            nonlocal together, most
            peers.add(request.transport.get_extra_info("peername"))
            together += 1
            most = max(most, together)
            if together == 50:
                full.set()
            # All fifty connections are in use at once.
            await full.wait()
            await asyncio.sleep(0)
            together -= 1
            return web.Response(text=request.match_info["number"])

        url = await self.serve(web.get("/{number}", answer))
        session = await self.session(connector=aiohttp.TCPConnector(limit=50))

        async def ask(number):
            async with session.get(f"{url}/{number}") as response:
                return await response.text()

        self.assertEqual(await asyncio.gather(*map(ask, range(2000))), [str(number) for number in range(2000)])
        self.assertEqual((most, len(peers)), (50, 50))

    async def test_keep_alive(self):
        peers = []

        async def answer(request):
            peers.append(request.transport.get_extra_info("peername"))
            return web.Response(text="here")

        url = await self.serve(web.get("/", answer), keepalive_timeout=60)
        session = await self.session()
        for _ in range(20):
            async with session.get(url) as response:
                await response.read()
        self.assertEqual((len(peers), len(set(peers))), (20, 1))
        peers.clear()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            for _ in range(20):
                async with session.get(url) as response:
                    await response.read()
        self.assertEqual(len(set(peers)), 20)

    async def test_idle_connections_are_closed(self):
        async def answer(request):
            return web.Response(text="here")

        await self.serve(web.get("/", answer), keepalive_timeout=0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue((await reader.read()).endswith(b"here"))
        writer.close()
        await writer.wait_closed()

    async def test_client_timeout(self):
        gone = asyncio.Event()

        async def hang(request):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                gone.set()
                raise

        async def begin(request):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"begun")
            await hang(request)

        async def answer(request):
            return web.Response(text="here")

        url = await self.serve(
            web.get("/hang", hang), web.get("/begin", begin), web.get("/", answer), handler_cancellation=True)
        session = await self.session()
        loop = asyncio.get_running_loop()
        for path, timeout in (("/hang", aiohttp.ClientTimeout(total=0.2)), ("/begin", aiohttp.ClientTimeout(sock_read=0.2))):
            began = loop.time()
            with self.assertRaises(TimeoutError):
                async with session.get(url + path, timeout=timeout) as response:
                    await response.read()
            self.assertGreaterEqual(loop.time() - began, 0.19)
            # The server hears of it, too.
            await gone.wait()
            gone.clear()
        task = self.task(session.get(url + "/hang"))
        await asyncio.sleep(0.1)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await gone.wait()
        async with session.get(url) as response:
            self.assertEqual(await response.text(), "here")

    async def test_refused(self):
        session = await self.session()
        with self.assertRaises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://127.0.0.1:{support.free_port()}")
        self.assertEqual(caught.exception.errno, errno.ECONNREFUSED)

    async def test_a_client_that_goes(self):
        failed = asyncio.get_running_loop().create_future()

        async def download(request):
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(bytes(MIB))
            except ConnectionError as error:
                failed.set_result(error)
                raise

        url = await self.serve(web.get("/", download))
        session = await self.session()
        with self.assertLogs("aiohttp.server", "ERROR"):
            async with session.get(url) as answer:
                await answer.content.readexactly(3 * MIB)
                answer.close()
            self.assertIsInstance(await failed, ConnectionError)

    async def test_a_server_that_goes(self):
        async def drop(request):
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            request.transport.abort()
            return response

        url = await self.serve(web.get("/", drop))
        session = await self.session()
        with self.assertRaises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            async with session.get(url) as answer:
                await answer.read()

    # --- websockets

    @staticmethod
    async def websocket_echo(request):
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                if message.data == "close":
                    await ws.close(code=4000, message=b"as asked")
                else:
                    await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    async def test_websocket(self):
        url = await self.serve(web.get("/", self.websocket_echo))
        session = await self.session()
        async with session.ws_connect(url, max_msg_size=0, compress=15) as ws:
            for number in range(500):
                await ws.send_str(f"message {number}")
                self.assertEqual(await ws.receive_str(), f"message {number}")
            for size in (0, 1, 125, 126, 65535, 65536, 4 * MIB):
                data = support.pattern(size)
                await ws.send_bytes(data)
                self.assertEqual(await ws.receive_bytes(), data)
            await ws.send_str("close")
            message = await ws.receive()
            self.assertEqual((message.type, message.data, message.extra), (aiohttp.WSMsgType.CLOSE, 4000, "as asked"))

    async def test_heartbeat(self):
        lost = asyncio.get_running_loop().create_future()

        async def listen(request):
            ws = web.WebSocketResponse(heartbeat=0.2)
            await ws.prepare(request)
            message = await ws.receive()
            if request.path == "/mute":
                lost.set_result(message.type)
            else:
                await ws.send_str(message.data)
            return ws

        url = await self.serve(web.get("/", listen), web.get("/mute", listen))
        session = await self.session()
        async with session.ws_connect(url) as ws:
            # Several times the server's patience: pings are answered meanwhile.
            with self.assertRaises(TimeoutError):
                await asyncio.wait_for(ws.receive(), 0.8)
            await ws.send_str("still there")
            self.assertEqual(await ws.receive_str(), "still there")
        async with session.ws_connect(url + "/mute", autoping=False) as ws:
            self.assertIn(await lost, (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED))

    async def test_many_websockets(self):
        url = await self.serve(web.get("/", self.websocket_echo))
        session = await self.session(connector=aiohttp.TCPConnector(limit=0))

        async def talk(number):
            async with session.ws_connect(url) as ws:
                for turn in range(20):
                    await ws.send_str(f"{number}.{turn}")
                for turn in range(20):
                    self.assertEqual(await ws.receive_str(), f"{number}.{turn}")

        await asyncio.gather(*map(talk, range(100)))

    # --- TLS

    async def test_tls(self):
        certificates = support.Certificates(self.directory())
        url = await self.serve(*self.exchange_routes(), web.get("/ws", self.websocket_echo), tls=certificates.server)
        async with aiohttp.ClientSession() as stranger:
            with self.assertRaises(aiohttp.ClientConnectorCertificateError):
                await stranger.get(url)
        session = await self.session(connector=aiohttp.TCPConnector(ssl=certificates.client))
        await self.exchange(url, session)
        async with session.ws_connect(url + "/ws") as ws:
            await ws.send_bytes(support.pattern(MIB))
            self.assertEqual(await ws.receive_bytes(), support.pattern(MIB))
        # Plain HTTP on the port of TLS.
        with self.assertRaises(aiohttp.ClientError):
            await session.get(url.replace("https", "http"))

    async def test_tls_by_a_proxy(self):
        # The client begins TLS on a connection that has talked to the proxy.
        certificates = support.Certificates(self.directory())
        url = await self.serve(*self.exchange_routes(), tls=certificates.server)
        asked = []

        async def copy(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        async def proxy(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            asked.append((method, target))
            host, port = target.decode().rsplit(":", 1)
            above = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(copy(reader, above[1]), copy(above[0], writer))

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        self.stack.push_async_callback(server.wait_closed)
        self.stack.callback(server.close)
        async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=certificates.client),
                proxy=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as session:
            await self.exchange(url, session)
        self.assertEqual(set(asked), {(b"CONNECT", f"localhost:{self.port}".encode())})

    # --- the end

    async def test_graceful_shutdown(self):
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(request):
            begun.set()
            await may_end.wait()
            return web.Response(text="to the end")

        url = await self.serve(web.get("/", slow))
        session = await self.session()
        asked = self.task(session.get(url))
        await begun.wait()
        cleanup = self.task(self.runner.cleanup())

        async def refused():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                # Taken by the kernel just before.
                return False
            writer.close()

        await support.until(refused)
        self.assertFalse(cleanup.done())
        may_end.set()
        async with await asked as answer:
            self.assertEqual((answer.status, await answer.text()), (200, "to the end"))
        await cleanup

    def test_run_app(self):
        program = """
import asyncio, socket, sys, evl
from aiohttp import web

async def answer(request):
    print("asked", flush=True)
    text = await asyncio.to_thread(lambda: open(sys.argv[1]).read())
    return web.Response(text=type(asyncio.get_running_loop()).__module__ + " " + text)

async def cleanup(app):
    print("cleaned up", flush=True)

app = web.Application()
app.add_routes([web.get("/", answer)])
app.on_cleanup.append(cleanup)
sock = socket.create_server(("127.0.0.1", 0))
print("port", sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, loop=evl.new_event_loop())
"""
        gate = f"{self.directory()}/gate"
        os.mkfifo(gate)
        for sig in (signal.SIGTERM, signal.SIGINT):
            child = support.Child(sys.executable, "-c", program, gate)
            self.addCleanup(child.kill)
            port = int(child.wait_for(r"port (\d+)")[1])
            child.wait_for("Press CTRL")
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                # What is under way when the signal comes is finished.
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                child.wait_for("asked")
                child.process.send_signal(sig)
                self.assert_refused(port)
                with open(gate, "w") as file:
                    file.write("to the end")
                answer = support.read_all(sock)
            self.assertIn(b" 200 OK\r\n", answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nevl.loop to the end"), answer)
            self.assertEqual(child.wait(), 0, child.output)
            self.assertIn("cleaned up", child.output)
            self.assertNotIn("Traceback", child.output)

    def assert_refused(self, port):
        """Waits until nobody listens there."""
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=20).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                # Taken by the kernel just before.
                pass


if __name__ == "__main__":
    support.main()
