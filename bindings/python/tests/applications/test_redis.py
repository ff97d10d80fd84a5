"""redis-py's asyncio client on evl, against a redis-server of its own."""

import asyncio
import shutil
import tempfile

import support

support.need("redis", "trustme", redis_server=shutil.which("redis-server"))

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

MIB = 1 << 20


class Redis(support.Test):
    @classmethod
    def setUpClass(cls):
        made = tempfile.TemporaryDirectory()
        cls.addClassCleanup(made.cleanup)
        cls.certificates = support.Certificates(made.name)
        cls.path = f"{made.name}/socket"

        def start():
            cls.port, cls.tls_port = support.free_port(), support.free_port()
            child = support.Child(
                "redis-server", "--bind", "127.0.0.1", "--port", str(cls.port), "--unixsocket", cls.path, "--dir", made.name,
                "--save", "", "--appendonly", "no", "--tls-port", str(cls.tls_port), "--tls-cert-file",
                cls.certificates.certificate, "--tls-key-file", cls.certificates.key, "--tls-auth-clients", "no")
            cls.addClassCleanup(child.kill)
            child.wait_for("eady to accept connections")

        support.started(start)

    async def client(self, **options):
        """A client by TCP that does not try again."""
        return await self.enter(redis.asyncio.Redis(port=self.port, retry=Retry(NoBackoff(), 0), **options))

    async def begin(self):
        """A client of a database that is empty."""
        client = await self.client()
        await client.flushall()
        return client

    def way(self, number):
        """A client by TCP, by a unix socket, or by TLS."""
        return redis.asyncio.Redis(**(
            {"port": self.port},
            {"unix_socket_path": self.path},
            {"host": "localhost", "port": self.tls_port, "ssl": True, "ssl_ca_certs": self.certificates.authority},
        )[number % 3])

    async def test_values(self):
        await self.begin()
        for number in range(3):
            async with self.way(number) as client:
                for size in (0, 1, 1000, 100_000, 16 * MIB):
                    data = support.pattern(size, number)
                    await client.set("key", data)
                    self.assertEqual(await client.get("key"), data)
                await client.hset("hash", mapping={f"field {i}": i for i in range(1000)})
                self.assertEqual(
                    await client.hgetall("hash"), {b"field %d" % i: b"%d" % i for i in range(1000)})
                with self.assertRaises(redis.ResponseError):
                    await client.lpush("hash", "no list")
                self.assertTrue(await client.ping())

    async def test_pipeline(self):
        client = await self.begin()
        async with client.pipeline(transaction=False) as pipe:
            for number in range(20_000):
                pipe.set(f"key {number}", number)
                pipe.get(f"key {number}")
            answers = await pipe.execute()
        self.assertEqual(answers[::2], [True] * 20_000)
        self.assertEqual(answers[1::2], [b"%d" % number for number in range(20_000)])
        # What is sent and what comes back are both more than any buffer on the way.
        async with client.pipeline(transaction=False) as pipe:
            for number in range(32):
                pipe.echo(support.pattern(MIB, number))
            answers = await pipe.execute()
        self.assertEqual(answers, [support.pattern(MIB, number) for number in range(32)])

    async def test_transactions(self):
        client = await self.begin()

        async def transfer(turns):
            for _ in range(turns):
                while True:
                    async with client.pipeline() as pipe:
                        try:
                            await pipe.watch("from", "to")
                            left, right = int(await pipe.get("from")), int(await pipe.get("to"))
                            pipe.multi()
                            pipe.set("from", left - 1)
                            pipe.set("to", right + 1)
                            await pipe.execute()
                            break
                        except redis.WatchError:
                            conflicts.append(1)

        conflicts = []
        await client.mset({"from": 100, "to": 0})
        await asyncio.gather(*(transfer(10) for _ in range(10)))
        self.assertEqual(await client.mget("from", "to"), [b"0", b"100"])
        self.assertTrue(conflicts)

    async def test_publish_and_subscribe(self):
        client = await self.begin()
        ready = asyncio.Semaphore(0)

        async def listen(pattern):
            got = []
            async with client.pubsub() as pubsub:
                if pattern:
                    await pubsub.psubscribe("news.*")
                else:
                    await pubsub.subscribe("news.1", "news.2")
                async for message in pubsub.listen():
                    if message["type"] in ("subscribe", "psubscribe"):
                        if pattern or message["channel"] == b"news.2":
                            ready.release()
                    elif message["data"] == b"end":
                        return got
                    else:
                        got.append((message["channel"], int(message["data"])))

        listeners = [self.task(listen(number % 2)) for number in range(20)]
        for _ in listeners:
            await ready.acquire()
        for number in range(500):
            self.assertEqual(await client.publish(f"news.{number % 2 + 1}", number), 20)
        await client.publish("news.1", "end")
        expected = [(b"news.%d" % (number % 2 + 1), number) for number in range(500)]
        for got in await asyncio.gather(*listeners):
            self.assertEqual(got, expected)

        async def nobody():
            return await client.pubsub_numsub("news.1") == [(b"news.1", 0)]

        await support.until(nobody)

    async def blocked(self, client, count):
        async def asked():
            return (await client.info("clients"))["blocked_clients"] == count

        await support.until(asked)

    async def only_one(self, client):
        """Waits until the server has no other clients."""
        async def asked():
            return (await client.info("clients"))["connected_clients"] == 1

        await support.until(asked)

    async def test_blocking_pop(self):
        other = await self.begin()
        client = await self.client()
        popping = self.task(client.blpop("list", timeout=0))
        await self.blocked(other, 1)
        await other.rpush("list", "one")
        self.assertEqual(await popping, (b"list", b"one"))
        self.assertIsNone(await client.blpop("list", timeout=0.1))

        # One that is cancelled takes nothing any more, and the client goes on.
        popping = self.task(client.blpop("list", timeout=0))
        await self.blocked(other, 1)
        popping.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await popping
        await self.blocked(other, 0)
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.blpop("list", timeout=0)
        await self.blocked(other, 0)
        await other.rpush("list", "two")
        self.assertEqual(await other.llen("list"), 1)
        self.assertEqual(await client.echo("in order"), b"in order")
        self.assertEqual(await client.blpop("list", timeout=0), (b"list", b"two"))

        # Many at once: each takes one, and cancelled ones lose none.
        tasks = [self.task(client.blpop("list", timeout=0)) for _ in range(50)]
        await self.blocked(other, 50)
        for task in tasks[::2]:
            task.cancel()
        await self.blocked(other, 25)
        await other.rpush("list", *range(30))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        self.assertTrue(all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2]))
        self.assertEqual(sorted(int(value) for _, value in answers[1::2]), list(range(25)))
        self.assertEqual(await other.lrange("list", 0, -1), [b"%d" % number for number in range(25, 30)])

    async def test_many_clients(self):
        other = await self.begin()
        everybody = asyncio.Barrier(151)

        async def count(number):
            async with self.way(number) as client:
                for _ in range(20):
                    await client.incr("count")
                    await client.lpush(f"list {number % 7}", number)
                await everybody.wait()
                await everybody.wait()

        tasks = [self.task(count(number)) for number in range(150)]
        await everybody.wait()
        self.assertEqual(await other.get("count"), b"3000")
        self.assertGreaterEqual((await other.info("clients"))["connected_clients"], 151)
        await everybody.wait()
        await asyncio.gather(*tasks)
        self.assertEqual(sum([await other.llen(f"list {number}") for number in range(7)]), 3000)

        await self.only_one(other)

    async def test_pool(self):
        other = await self.begin()
        pool = redis.asyncio.BlockingConnectionPool(port=self.port, max_connections=10, timeout=20)
        client = redis.asyncio.Redis.from_pool(pool)
        async with client:
            ids = await asyncio.gather(*(client.client_id() for _ in range(1000)))
        self.assertLessEqual(len(set(ids)), 10)
        self.assertGreater(len(set(ids)), 1)
        await other.ping()

    async def test_streams(self):
        other = await self.begin()
        await other.xgroup_create("stream", "workers", mkstream=True)
        got = []

        async def work(name):
            client = await self.client()
            while True:
                for _, entries in await client.xreadgroup("workers", name, {"stream": ">"}, count=10, block=0):
                    for identity, fields in entries:
                        await client.xack("stream", "workers", identity)
                        if b"end" in fields:
                            return
                        got.append(int(fields[b"number"]))

        workers = [self.task(work(f"worker {number}")) for number in range(5)]
        for number in range(500):
            await other.xadd("stream", {"number": number})
        # An end for each, and one at a time, so that nobody takes two.
        for left in range(5, 0, -1):
            await self.blocked(other, left)
            await other.xadd("stream", {"end": ""})
        await asyncio.gather(*workers)
        self.assertEqual(sorted(got), list(range(500)))
        self.assertEqual((await other.xpending("stream", "workers"))["pending"], 0)

    async def test_connections_that_are_lost(self):
        other = await self.begin()
        client = await self.client(single_connection_client=True)
        identity = await client.client_id()
        popping = self.task(client.blpop("list", timeout=0))
        await self.blocked(other, 1)
        await other.client_kill_filter(_id=identity)
        with self.assertRaises(redis.ConnectionError):
            await popping
        # The next one is made when it is needed.
        self.assertEqual(await client.echo("again"), b"again")
        self.assertNotEqual(await client.client_id(), identity)
        nobody = redis.asyncio.Redis(port=support.free_port(), retry=Retry(NoBackoff(), 0))
        async with nobody:
            with self.assertRaises(redis.ConnectionError):
                await nobody.ping()

    async def test_connections_that_are_given_up(self):
        # At every moment of their making; none may stay open.
        other = await self.begin()
        for number in range(3):
            for rounds in range(40):
                async with self.way(number) as client:
                    asking = self.task(client.ping())
                    for _ in range(rounds):
                        await asyncio.sleep(0)
                    asking.cancel()
                    await asyncio.wait([asking])
        await self.only_one(other)

    async def test_certificate(self):
        async with redis.asyncio.Redis(host="localhost", port=self.tls_port, ssl=True, retry=Retry(NoBackoff(), 0)) as client:
            with self.assertRaises(redis.ConnectionError):
                await client.ping()

    async def test_script_and_lock(self):
        client = await self.begin()
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        self.assertEqual(await script(keys=["number"], args=[5]), 5)
        held = 0

        async def critical():
            nonlocal held
            async with client.lock("lock", sleep=0.005, timeout=20):
                held += 1
                self.assertEqual(held, 1)
                await client.ping()
                held -= 1

        await asyncio.gather(*(critical() for _ in range(10)))


if __name__ == "__main__":
    support.main()
