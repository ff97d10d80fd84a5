"""httpx and anyio on evl."""

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import threading

import support

support.need("httpx", "anyio", "uvicorn", "trustme")

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import anyio.to_process
import anyio.to_thread
import httpx
import uvicorn
from anyio.streams.tls import TLSListener, TLSStream

import asgi_app
import evl

MIB = 1 << 20


class Httpx(support.Test):
    """A client in a loop that serves, too."""

    async def serve(self, **options):
        config = uvicorn.Config(
            asgi_app.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5, **{"port": 0, **options})
        server = uvicorn.Server(config)
        # A task of its own, as its users run it beside other things.
        serving = self.task(server._serve())

        async def started():
            if serving.done():
                serving.result()
            return server.started

        await support.until(started)

        async def stop():
            server.should_exit = True
            await serving

        self.stack.push_async_callback(stop)
        return server.servers[0].sockets[0].getsockname()

    async def client(self, **options):
        return await self.enter(httpx.AsyncClient(timeout=20, **{"trust_env": False, **options}))

    async def exchange(self, client):
        self.assertEqual((await client.get("/loop")).text, "evl.loop.EventLoop")
        self.assertEqual((await client.get("/nowhere")).status_code, 404)
        data = support.pattern(8 * MIB)
        self.assertEqual((await client.post("/echo", content=data)).content, data)

        async def pieces():
            for at in range(0, len(data), 99_991):
                yield data[at:at + 99_991]

        self.assertEqual((await client.post("/digest", content=pieces())).text, hashlib.sha256(data).hexdigest())
        got = bytearray()
        async with client.stream("GET", "/stream") as response:
            async for piece in response.aiter_bytes():
                got += piece
        self.assertEqual(bytes(got), asgi_app.PIECE * 256)

    async def test_exchange(self):
        host, port = await self.serve()
        await self.exchange(await self.client(base_url=f"http://localhost:{port}"))

    async def test_unix_socket(self):
        path = await self.serve(uds=f"{self.directory()}/socket")
        await self.exchange(await self.client(
            base_url="http://unix", transport=httpx.AsyncHTTPTransport(uds=path)))

    async def test_tls(self):
        certificates = support.Certificates(self.directory())
        host, port = await self.serve(ssl_certfile=certificates.certificate, ssl_keyfile=certificates.key)
        url = f"https://localhost:{port}"
        await self.exchange(await self.client(base_url=url, verify=certificates.client))
        stranger = await self.client(base_url=url, verify=ssl.create_default_context())
        with self.assertRaises(httpx.ConnectError):
            await stranger.get("/")

    async def test_many_requests(self):
        host, port = await self.serve()
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=20)
        client = await self.client(base_url=f"http://127.0.0.1:{port}", limits=limits)
        answers = [None] * 500

        async def ask(number):
            answers[number] = (await client.post("/echo", content=str(number))).text

        async with anyio.create_task_group() as group:
            for number in range(500):
                group.start_soon(ask, number)
        self.assertEqual(answers, [str(number) for number in range(500)])

    async def test_timeouts(self):
        host, port = await self.serve()
        client = await self.client(base_url=f"http://127.0.0.1:{port}", limits=httpx.Limits(max_connections=1))
        with self.assertRaises(httpx.ReadTimeout):
            await client.get("/hang", timeout=0.2)
        with anyio.move_on_after(0.2) as scope:
            await client.get("/hang")
        self.assertTrue(scope.cancelled_caught)
        async with client.stream("GET", "/stream"):
            with self.assertRaises(httpx.PoolTimeout):
                await client.get("/", timeout=httpx.Timeout(20, pool=0.1))
        with anyio.move_on_after(20):
            async with client.stream("GET", "/stream") as response:
                async for _ in response.aiter_bytes():
                    break
        self.assertEqual((await client.get("/")).text, "Hello, world")
        with self.assertRaises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{support.free_port()}")
        # A peer that takes the connection and no more: the kernel does, without accept.
        with socket.create_server(("127.0.0.1", 0)) as mute:
            with self.assertRaises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout=0.2)


class Anyio(support.Test):
    async def test_task_groups(self):
        ended = []

        async def wait(number):
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(number)

        async def fail():
            raise ZeroDivisionError

        with self.assertRaises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(wait, number)
                await anyio.lowlevel.checkpoint()
                group.start_soon(fail)
        self.assertEqual([type(error) for error in caught.exception.exceptions], [ZeroDivisionError])
        self.assertEqual(sorted(ended), list(range(10)))

        async def begin(*, task_status):
            with anyio.CancelScope() as scope:
                task_status.started(scope)
                await anyio.sleep_forever()
            ended.append("scope")

        async with anyio.create_task_group() as group:
            scope = await group.start(begin)
            scope.cancel()
        self.assertEqual(ended[-1], "scope")

    async def test_cancel_scopes(self):
        began = anyio.current_time()
        with self.assertRaises(TimeoutError):
            with anyio.fail_after(0.1):
                await anyio.sleep(20)
        shielded = False
        with anyio.move_on_after(0.1) as scope:
            try:
                await anyio.sleep(20)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                    shielded = True
        self.assertTrue(shielded and scope.cancelled_caught)
        self.assertGreaterEqual(anyio.current_time() - began, 0.29)
        self.assertLess(anyio.current_time() - began, 10)

    async def test_streams_of_objects(self):
        send, receive = anyio.create_memory_object_stream(5)
        got = []

        async def produce(send, first):
            async with send:
                for number in range(first, first + 1000):
                    await send.send(number)

        async def consume(receive):
            async with receive:
                async for number in receive:
                    got.append(number)

        async with anyio.create_task_group() as group, send, receive:
            for number in range(5):
                group.start_soon(produce, send.clone(), number * 1000)
                group.start_soon(consume, receive.clone())
        self.assertEqual(sorted(got), list(range(5000)))

    async def echo(self, listener, connect, clients=30):
        """Clients talk to a server that sends back what it gets."""
        served = 0

        async def serve(stream):
            nonlocal served
            async with stream:
                async for data in stream:
                    await stream.send(data)
            served += 1

        async def talk(number):
            data = support.pattern(300_000, number)

            async def send(stream):
                for at in range(0, len(data), 70_000):
                    await stream.send(data[at:at + 70_000])
                await stream.send_eof()

            async with await connect() as stream:
                async with anyio.create_task_group() as group:
                    if isinstance(stream, TLSStream):
                        # TLS knows no half of an end.
                        await stream.send(data)
                        got = bytearray()
                        while len(got) < len(data):
                            got += await stream.receive()
                    else:
                        group.start_soon(send, stream)
                        got = b"".join([piece async for piece in stream])
            self.assertEqual(bytes(got), data)

        async with anyio.create_task_group() as serving:
            serving.start_soon(listener.serve, serve)
            async with anyio.create_task_group() as group:
                for number in range(clients):
                    group.start_soon(talk, number)

            async def all_served():
                return served == clients

            await support.until(all_served)
            serving.cancel_scope.cancel()
        await listener.aclose()

    async def test_tcp(self):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        # By name: several addresses may be tried at once.
        await self.echo(listener, lambda: anyio.connect_tcp("localhost", port))
        with self.assertRaises(OSError):
            await anyio.connect_tcp("127.0.0.1", port)

    async def test_unix(self):
        path = f"{self.directory()}/socket"
        await self.echo(await anyio.create_unix_listener(path), lambda: anyio.connect_unix(path))

    async def test_tls(self):
        certificates = support.Certificates(self.directory())
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await self.echo(
            TLSListener(listener, certificates.server),
            lambda: anyio.connect_tcp("localhost", port, tls=True, ssl_context=certificates.client), clients=10)

    async def test_udp(self):
        async with await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1") as server:
            port = server.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                for number in range(200):
                    await client.send(b"%d" % number)
                    data, address = await server.receive()
                    await server.sendto(data * 2, *address)
                    self.assertEqual(await client.receive(), b"%d" % number * 2)

    async def test_processes(self):
        data = support.pattern(4 * MIB)
        done = await anyio.run_process(["cat"], input=data)
        self.assertEqual(done.stdout, data)
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            await anyio.run_process("echo out; echo err >&2; exit 3")
        failed = caught.exception
        self.assertEqual((failed.returncode, failed.output, failed.stderr), (3, b"out\n", b"err\n"))
        answers = []

        async def run(number):
            answers.append(int((await anyio.run_process(["echo", str(number)])).stdout))

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(run, number)
        self.assertEqual(sorted(answers), list(range(30)))
        async with await anyio.open_process(["cat"]) as process:
            for number in range(100):
                await process.stdin.send(b"line %d\n" % number)
                self.assertEqual(await process.stdout.receive(), b"line %d\n" % number)
            await process.stdin.aclose()
            self.assertEqual(await process.wait(), 0)
        # One that is cancelled is killed.
        with anyio.move_on_after(0.2):
            async with await anyio.open_process(["sleep", "100"]) as process:
                await process.wait()
        self.assertEqual(process.returncode, -signal.SIGKILL)

    async def test_threads(self):
        limiter = anyio.CapacityLimiter(8)
        gate = threading.Barrier(8)
        loop = asyncio.get_running_loop()

        def work(number):
            gate.wait(20)
            # And back into the loop.
            self.assertIs(anyio.from_thread.run_sync(asyncio.get_running_loop), loop)
            anyio.from_thread.run(anyio.sleep, 0)
            return number * 2

        answers = [None] * 64

        async def run(number):
            answers[number] = await anyio.to_thread.run_sync(work, number, limiter=limiter)

        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(run, number)
        self.assertEqual(answers, [number * 2 for number in range(64)])

    async def test_threads_are_kept(self):
        # A thread outlives the task that has needed it, and serves the next: as a server's tasks need them, one a request.
        threads = set()
        for _ in range(20):
            threads.add(await asyncio.create_task(anyio.to_thread.run_sync(threading.current_thread)))
        self.assertEqual(len(threads), 1)

    async def test_process_workers(self):
        self.assertEqual(await anyio.to_process.run_sync(pow, 3, 1000), 3 ** 1000)
        with self.assertRaises(ZeroDivisionError):
            await anyio.to_process.run_sync(divmod, 1, 0)

    async def test_signals(self):
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            for sig in (signal.SIGUSR1, signal.SIGUSR2) * 5:
                os.kill(os.getpid(), sig)
                self.assertEqual(await anext(signals), sig)

    async def test_sockets(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await anyio.wait_writable(ours)
            with anyio.move_on_after(0.1) as scope:
                await anyio.wait_readable(ours)
            self.assertTrue(scope.cancelled_caught)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, ours)
                await anyio.lowlevel.checkpoint()
                theirs.send(b"x")
            self.assertEqual(ours.recv(10), b"x")

    async def test_files(self):
        path = anyio.Path(self.directory()) / "file"
        await path.write_bytes(support.pattern(MIB))
        async with await anyio.open_file(path, "rb") as file:
            self.assertEqual(await file.read(), support.pattern(MIB))

    def test_run(self):
        async def main():
            support.assert_evl()
            await anyio.sleep(0)
            return await anyio.to_thread.run_sync(threading.get_ident)

        self.assertNotEqual(
            anyio.run(main, backend_options={"loop_factory": evl.new_event_loop}), threading.get_ident())
        policy = asyncio.get_event_loop_policy()
        self.addCleanup(asyncio.set_event_loop_policy, policy)
        evl.install()
        self.assertNotEqual(anyio.run(main), threading.get_ident())

    def test_portal(self):
        # A loop in a thread that others call into.
        with anyio.from_thread.start_blocking_portal(backend_options={"loop_factory": evl.new_event_loop}) as portal:
            portal.call(support.assert_evl)
            futures = [portal.start_task_soon(anyio.sleep, 0.01) for _ in range(50)]
            for future in futures:
                future.result(20)
            endless = portal.start_task_soon(anyio.sleep_forever)
            endless.cancel()
            with self.assertRaises(ZeroDivisionError):
                portal.call(divmod, 1, 0)


if __name__ == "__main__":
    support.main()
