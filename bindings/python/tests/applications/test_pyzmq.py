"""pyzmq's asyncio sockets on evl: it waits by add_reader for a descriptor that tells of changes only."""

import asyncio
import threading

import support

support.need("zmq")

import zmq
import zmq.asyncio

MIB = 1 << 20


class Zmq(support.Test):
    async def context(self):
        context = zmq.asyncio.Context()
        self.stack.callback(context.destroy, 0)
        return context

    def socket(self, context, kind):
        """A socket that is closed when the test ends."""
        made = context.socket(kind)
        self.stack.callback(made.close, 0)
        return made

    def pair(self, context, first, second, address):
        """Two sockets that are connected."""
        one, other = self.socket(context, first), self.socket(context, second)
        if address.startswith("tcp"):
            other.connect(f"{address}:{one.bind_to_random_port(address)}")
        else:
            one.bind(address)
            other.connect(address)
        return one, other

    def addresses(self):
        return "tcp://127.0.0.1", f"ipc://{self.directory()}/socket", "inproc://here"

    async def test_request_and_reply(self):
        context = await self.context()
        for address in self.addresses():
            server, client = self.pair(context, zmq.REP, zmq.REQ, address)

            async def serve():
                while True:
                    parts = await server.recv_multipart()
                    await server.send_multipart(parts[::-1])

            self.task(serve())
            for number in range(300):
                await client.send_multipart([b"%d" % number, b"x"])
                self.assertEqual(await client.recv_multipart(), [b"x", b"%d" % number])
            data = support.pattern(8 * MIB)
            await client.send_multipart([data, b"big"])
            self.assertEqual(await client.recv_multipart(), [b"big", data])

    async def test_push_and_pull(self):
        # Both beyond the high-water mark: who sends waits for who receives.
        context = await self.context()
        for address in self.addresses():
            pull, push = self.pair(context, zmq.PULL, zmq.PUSH, address)

            async def send():
                for number in range(20_000):
                    await push.send(b"%d" % number)

            self.task(send())
            self.assertEqual([int(await pull.recv()) for _ in range(20_000)], list(range(20_000)))

    async def test_publish_and_subscribe(self):
        context = await self.context()
        publisher = self.socket(context, zmq.XPUB)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        subscribers = []
        for number in range(10):
            subscriber = self.socket(context, zmq.SUB)
            subscriber.connect(f"tcp://127.0.0.1:{port}")
            subscriber.subscribe(b"all")
            subscriber.subscribe(b"only %d." % number)
            subscribers.append(subscriber)
        # The publisher hears of every kind of subscription once.
        seen = set()
        while len(seen) < 11:
            seen.add(await publisher.recv())
        # Of the rest, all have come when each has got something.
        for subscriber in subscribers:
            while not await subscriber.poll(10):
                await publisher.send(b"all: ready?")
        for number in range(200):
            await publisher.send(b"all: %d" % number)
            await publisher.send(b"only %d. %d" % (number % 10, number))
        for place, subscriber in enumerate(subscribers):
            expected = []
            for number in range(200):
                expected.append(b"all: %d" % number)
                if number % 10 == place:
                    expected.append(b"only %d. %d" % (place, number))
            got = []
            while len(got) < len(expected):
                message = await subscriber.recv()
                if message != b"all: ready?":
                    got.append(message)
            self.assertEqual(got, expected)

    async def test_cancel(self):
        context = await self.context()
        pull, push = self.pair(context, zmq.PULL, zmq.PUSH, "tcp://127.0.0.1")
        self.assertEqual(await pull.poll(50), 0)
        for _ in range(5):
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await pull.recv()
        receiving = [asyncio.ensure_future(pull.recv()) for _ in range(10)]
        for future in receiving[::2]:
            future.cancel()
        for number in range(5):
            await push.send(b"%d" % number)
        self.assertEqual(await asyncio.gather(*receiving[1::2]), [b"%d" % number for number in range(5)])
        self.assertTrue(all(future.cancelled() for future in receiving[::2]))

    async def test_many_clients(self):
        context = await self.context()
        router = self.socket(context, zmq.ROUTER)
        port = router.bind_to_random_port("tcp://127.0.0.1")

        async def serve():
            while True:
                identity, *parts = await router.recv_multipart()
                await router.send_multipart([identity, *parts])

        self.task(serve())

        async def talk(number):
            dealer = self.socket(context, zmq.DEALER)
            dealer.connect(f"tcp://127.0.0.1:{port}")
            for turn in range(20):
                await dealer.send_multipart([b"%d.%d" % (number, turn)])
            for turn in range(20):
                self.assertEqual(await dealer.recv_multipart(), [b"%d.%d" % (number, turn)])

        await asyncio.gather(*map(talk, range(50)))

    async def test_other_threads(self):
        # The other side is a thread that blocks.
        context = await self.context()
        pair = self.socket(context, zmq.PAIR)
        port = pair.bind_to_random_port("tcp://127.0.0.1")

        def echo():
            with zmq.Context() as own, own.socket(zmq.PAIR) as other:
                other.connect(f"tcp://127.0.0.1:{port}")
                while (message := other.recv()) != b"end":
                    other.send(message)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        for number in range(500):
            await pair.send(b"%d" % number)
            self.assertEqual(await pair.recv(), b"%d" % number)
        await pair.send(b"end")
        await asyncio.to_thread(thread.join, 20)
        self.assertFalse(thread.is_alive())


if __name__ == "__main__":
    support.main()
