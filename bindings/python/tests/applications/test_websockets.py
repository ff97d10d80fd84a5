"""websockets, client and server, on evl."""

import asyncio
import signal
import ssl
import sys

import support

support.need("websockets", "trustme")

from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

MIB = 1 << 20


async def echo(ws):
    support.assert_evl()
    async for message in ws:
        await ws.send(message)


class Websockets(support.Test):
    async def serve(self, handler, **options):
        """Serves on a port the system chooses; returns the URL."""
        self.server = await self.enter(serve(handler, "127.0.0.1", 0, **{"max_size": None, **options}))
        scheme = "wss" if "ssl" in options else "ws"
        return f"{scheme}://localhost:{self.server.sockets[0].getsockname()[1]}"

    async def client(self, url, **options):
        return await self.enter(connect(url, **{"proxy": None, "max_size": None, **options}))

    async def exchange(self, ws):
        for size in (0, 1, 125, 126, 65535, 65536, 8 * MIB):
            data = support.pattern(size)
            await ws.send(data)
            self.assertEqual(await ws.recv(), data)
        await ws.send("žluťoučký kůň 🐎")
        self.assertEqual(await ws.recv(), "žluťoučký kůň 🐎")
        # By pieces, in both directions.
        await ws.send(iter([b"a" * 100_000, b"b" * 100_000, b"c"]))
        self.assertEqual(await ws.recv(), b"a" * 100_000 + b"b" * 100_000 + b"c")
        for number in range(300):
            await ws.send(str(number))
        self.assertEqual([await ws.recv() for _ in range(300)], [str(number) for number in range(300)])
        await (await ws.ping())

    async def test_exchange(self):
        url = await self.serve(echo)
        await self.exchange(await self.client(url))
        await self.exchange(await self.client(url, compression=None))

    async def test_tls(self):
        certificates = support.Certificates(self.directory())
        url = await self.serve(echo, ssl=certificates.server)
        await self.exchange(await self.client(url, ssl=certificates.client))
        with self.assertRaises(ssl.SSLCertVerificationError):
            await self.client(url)

    async def test_unix(self):
        path = f"{self.directory()}/socket"
        await self.enter(unix_serve(echo, path, max_size=None))
        await self.exchange(await self.enter(unix_connect(path, max_size=None)))

    async def test_many_clients(self):
        url = await self.serve(echo)

        async def talk(number):
            async with connect(url, proxy=None) as ws:
                for turn in range(20):
                    await ws.send(f"{number}.{turn}")
                    self.assertEqual(await ws.recv(), f"{number}.{turn}")

        await asyncio.gather(*map(talk, range(200)))

    async def test_broadcast(self):
        here = set()
        full = asyncio.Event()

        async def listen(ws):
            here.add(ws)
            if len(here) == 50:
                full.set()
            await ws.wait_closed()

        url = await self.serve(listen)
        clients = [await self.client(url) for _ in range(50)]
        await full.wait()
        for number in range(100):
            broadcast(here, f"message {number}")
        for ws in clients:
            self.assertEqual([await ws.recv() for _ in range(100)], [f"message {number}" for number in range(100)])

    async def test_backpressure(self):
        sent, done = 0, asyncio.Event()

        async def flood(ws):
            nonlocal sent
            for number in range(64):
                await ws.send(bytes([number]) * MIB)
                sent += 1
            done.set()

        url = await self.serve(flood, compression=None)
        ws = await self.client(url, compression=None, max_queue=2)
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.5)
        self.assertLess(sent, 30)
        self.assertEqual([await ws.recv() for _ in range(64)], [bytes([number]) * MIB for number in range(64)])
        with self.assertRaises(ConnectionClosedOK):
            await ws.recv()

    async def test_cancel(self):
        url = await self.serve(echo)
        ws = await self.client(url)
        for _ in range(3):
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ws.recv()
        await ws.send("still there")
        self.assertEqual(await ws.recv(), "still there")

    async def test_closing(self):
        closed = asyncio.get_running_loop().create_future()

        async def wait(ws):
            try:
                await ws.recv()
            except ConnectionClosed as error:
                closed.set_result((error.rcvd and error.rcvd.code, error.rcvd and error.rcvd.reason))

        url = await self.serve(wait)
        ws = await self.client(url)
        await ws.close(4001, "by the client")
        self.assertEqual(await closed, (4001, "by the client"))

        # Without a word.
        closed = asyncio.get_running_loop().create_future()
        ws = await self.client(url)
        ws.transport.abort()
        self.assertEqual(await closed, (None, None))

        # The server ends: it says so to its clients, and waits for them.
        closed = asyncio.get_running_loop().create_future()
        ws = await self.client(url)
        self.server.close()
        with self.assertRaises(ConnectionClosedOK) as caught:
            await ws.recv()
        self.assertEqual(caught.exception.rcvd.code, 1001)
        await self.server.wait_closed()
        with self.assertRaises(OSError):
            await self.client(url)

    async def test_keepalive(self):
        async def listen(ws):
            await ws.wait_closed()

        url = await self.serve(listen, ping_interval=None)
        # Pings that are answered keep it.
        ws = await self.client(url, ping_interval=0.05, ping_timeout=1)
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.3)
        self.assertGreater(ws.latency, 0)

        # A peer that takes the connection, answers the handshake by hand, and no more.
        import websockets.http11
        import websockets.server

        async def mute(reader, writer):
            protocol = websockets.server.ServerProtocol()
            protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
            [request] = protocol.events_received()
            protocol.send_response(protocol.accept(request))
            for data in protocol.data_to_send():
                writer.write(data)
            await reader.read()
            writer.close()

        server = await self.enter(await asyncio.start_server(mute, "127.0.0.1", 0))
        ws = await self.client(
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", ping_interval=0.05, ping_timeout=0.05, close_timeout=0.1)
        with self.assertRaises(ConnectionClosedError):
            await ws.recv()

    def test_signal(self):
        # The server that websockets's documentation tells to write.
        program = """
import asyncio, signal, evl
from websockets.asyncio.server import serve

async def echo(ws):
    async for message in ws:
        await ws.send(type(asyncio.get_running_loop()).__module__ + message)

async def main():
    async with serve(echo, "127.0.0.1", 0) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await server.wait_closed()
    print("closed", flush=True)

evl.run(main())
"""
        child = support.Child(sys.executable, "-c", program)
        self.addCleanup(child.kill)
        port = int(child.wait_for(r"port (\d+)")[1])
        from websockets.sync.client import connect as connect_blocking

        with connect_blocking(f"ws://127.0.0.1:{port}", proxy=None) as ws:
            ws.send(" here")
            self.assertEqual(ws.recv(20), "evl.loop here")
            child.process.send_signal(signal.SIGTERM)
            with self.assertRaises(ConnectionClosedOK):
                ws.recv(20)
        self.assertEqual(child.wait(), 0, child.output)
        self.assertIn("closed", child.output)


if __name__ == "__main__":
    support.main()
