"""asyncpg on evl, against a PostgreSQL of its own."""

import asyncio
import datetime
import decimal
import io

import support

support.need("asyncpg", "trustme", postgresql=support.postgres_programs())

import asyncpg

MIB = 1 << 20


class Asyncpg(support.PostgreSQLTest):
    def where(self, number=0):
        """By TCP, by a unix socket, or by TLS."""
        options = {"user": "tester", "database": "postgres", "port": self.server.port}
        return options | (
            {"host": "127.0.0.1", "ssl": False},
            {"host": self.server.directory},
            {"host": "localhost", "ssl": self.certificates.client},
        )[number % 3]

    async def connection(self, number=0):
        connection = await asyncpg.connect(**self.where(number))
        self.stack.push_async_callback(connection.close)
        return connection

    async def pool(self, **options):
        return await self.enter(asyncpg.create_pool(**self.where(), **options))

    async def test_values(self):
        values = [
            ("int", -5), ("bigint", 1 << 62), ("text", "žluťoučký kůň 🐎"), ("bytea", support.pattern(8 * MIB)),
            ("numeric", decimal.Decimal("12345678901234567890.0123456789")), ("bool", True), ("float8", 0.1),
            ("timestamptz", datetime.datetime(2000, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)), ("int[]", list(range(100_000))),
            ("text", None),
        ]
        for number in range(3):
            connection = await self.connection(number)
            for kind, value in values:
                self.assertEqual(await connection.fetchval(f"select $1::{kind}", value), value)
            encrypted = await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            self.assertEqual(encrypted, number == 2)

    async def test_errors(self):
        connection = await self.connection()
        with self.assertRaises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1 / 0")
        with self.assertRaises(asyncpg.PostgresSyntaxError):
            await connection.execute("no sql")
        self.assertEqual(await connection.fetchval("select 1"), 1)
        with self.assertRaises(OSError):
            await asyncpg.connect(**self.where() | {"port": support.free_port()})
        with self.assertRaises(asyncpg.InvalidCatalogNameError):
            await asyncpg.connect(**self.where() | {"database": "none"})

    async def test_large_results(self):
        connection = await self.connection()
        rows = await connection.fetch("select i, 'row ' || i from generate_series(1, 300000) i")
        self.assertEqual([tuple(row) for row in rows], [(i, f"row {i}") for i in range(1, 300_001)])
        text = await connection.fetchval("select string_agg(repeat(chr(97 + i), 1048576), '') from generate_series(0, 25) i")
        self.assertEqual(text, "".join(chr(97 + i) * MIB for i in range(26)))

    async def test_prepared_statements(self):
        connection = await self.connection()
        statement = await connection.prepare("select i, i * $1::int from generate_series(1, $2::int) i")
        self.assertEqual([kind.name for kind in statement.get_parameters()], ["int4", "int4"])
        for factor in range(200):
            self.assertEqual([tuple(row) for row in await statement.fetch(factor, 3)], [(i, i * factor) for i in (1, 2, 3)])
        total = count = 0
        async with connection.transaction():
            async for row in statement.cursor(2, 20_000, prefetch=100):
                count, total = count + 1, total + row[1]
            cursor = await statement.cursor(1, 10)
            await cursor.forward(4)
            self.assertEqual((await cursor.fetchrow())[0], 5)
        self.assertEqual((count, total), (20_000, 20_000 * 20_001))

    async def test_pool(self):
        pool = await self.pool(min_size=2, max_size=10)
        await pool.execute("drop table if exists counts; create table counts (n int); insert into counts values (0)")
        together = most = 0
        full = asyncio.Event()

        async def work(number):
            nonlocal together, most
            async with pool.acquire() as connection:
                together += 1
                most = max(most, together)
                if together == 10:
                    full.set()
                # All ten connections are in use at once.
                await full.wait()
                async with connection.transaction():
                    await connection.execute("update counts set n = n + 1")
                together -= 1
                return await connection.fetchval("select pg_backend_pid()"), await connection.fetchval("select $1::int", number)

        answers = await asyncio.gather(*map(work, range(300)))
        self.assertEqual([number for _, number in answers], list(range(300)))
        self.assertLessEqual(len({pid for pid, _ in answers}), 10)
        self.assertEqual(most, 10)
        self.assertEqual(await pool.fetchval("select n from counts"), 300)

        # One that waits for a connection gives up; a pool that closes waits for those that are out.
        held = [await pool.acquire() for _ in range(10)]
        with self.assertRaises(TimeoutError):
            await pool.acquire(timeout=0.1)
        closing = self.task(pool.close())
        for connection in held:
            self.assertFalse(closing.done())
            self.assertEqual(await connection.fetchval("select 1"), 1)
            await pool.release(connection)
        await closing
        with self.assertRaises(asyncpg.InterfaceError):
            await pool.fetchval("select 1")

    async def test_many_connections(self):
        everybody = asyncio.Barrier(60)

        async def work(number):
            connection = await asyncpg.connect(**self.where(number))
            try:
                for turn in range(10):
                    self.assertEqual(await connection.fetchval("select $1::text", f"{number}.{turn}"), f"{number}.{turn}")
                await everybody.wait()
                return await connection.fetchval("select pg_backend_pid()")
            finally:
                await connection.close()

        self.assertEqual(len(set(await asyncio.gather(*map(work, range(60))))), 60)

    async def test_transactions(self):
        connection, other = await self.connection(), await self.connection(1)
        await connection.execute("drop table if exists accounts; create table accounts (name text primary key, money int)")
        async with connection.transaction():
            await connection.executemany("insert into accounts values ($1, $2)", [(f"n{i}", i) for i in range(1000)])
            self.assertEqual(await other.fetchval("select count(*) from accounts"), 0)
        self.assertEqual(await other.fetchval("select sum(money) from accounts"), 499_500)
        with self.assertRaises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("delete from accounts")
                raise ZeroDivisionError
        async with connection.transaction():
            await connection.execute("update accounts set money = 1 where name = 'n0'")
            with self.assertRaises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("update accounts set money = 2 where name = 'n0'")
                    await connection.execute("insert into accounts values ('n1', 0)")
        self.assertEqual(await other.fetchval("select money from accounts where name = 'n0'"), 1)
        self.assertEqual(await other.fetchval("select count(*) from accounts"), 1000)
        # One waits for the other's lock.
        async with connection.transaction():
            await connection.execute("update accounts set money = 10 where name = 'n1'")
            waiting = self.task(other.execute("update accounts set money = money + 1 where name = 'n1'"))
            await self.until_active("wait_event_type = 'Lock'", 1)
            self.assertFalse(waiting.done())
        await waiting
        self.assertEqual(await connection.fetchval("select money from accounts where name = 'n1'"), 11)

    async def until_active(self, condition, count):
        """Waits until so many of the server's clients are in some state."""
        watcher = await self.connection()

        async def asked():
            return await watcher.fetchval(
                f"select count(*) from pg_stat_activity where pid <> pg_backend_pid() and {condition}") == count

        await support.until(asked)

    async def test_copy(self):
        connection = await self.connection()
        await connection.execute("drop table if exists copied; create table copied (id int, name text, data bytea)")
        records = [(i, f"name {i}", b"\x00\\" * (i % 50)) for i in range(50_000)]
        self.assertEqual(await connection.copy_records_to_table("copied", records=records), "COPY 50000")
        rows = await connection.fetch("select * from copied order by id")
        self.assertEqual([tuple(row) for row in rows], records)

        # Out by pieces, and in again by pieces.
        pieces = []

        async def take(piece):
            pieces.append(bytes(piece))

        self.assertEqual(await connection.copy_from_table("copied", output=take), "COPY 50000")
        self.assertGreater(len(pieces), 10)

        async def give():
            for piece in pieces:
                yield piece

        await connection.execute("create temporary table again (like copied)")
        self.assertEqual(await connection.copy_to_table("again", source=give()), "COPY 50000")
        self.assertEqual(
            await connection.fetchval("select count(*) from again natural join copied"), 50_000)
        output = io.BytesIO()
        await connection.copy_from_query("select generate_series(1, $1::int)", 1000, output=output)
        self.assertEqual(output.getvalue(), b"".join(b"%d\n" % i for i in range(1, 1001)))

        # A source that fails fails the copy, and leaves the connection in order.
        async def fail():
            yield pieces[0]
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await connection.copy_to_table("again", source=fail())
        self.assertEqual(await connection.fetchval("select count(*) from again"), 50_000)

    async def test_listen_and_notify(self):
        listeners = [await self.connection(number) for number in range(6)]
        notifier = await self.connection()
        got = [[] for _ in listeners]
        ended = [asyncio.Event() for _ in listeners]

        def listen(number):
            def hear(connection, pid, channel, payload):
                got[number].append((pid, payload))
                if payload == "299":
                    ended[number].set()
            return hear

        for number, connection in enumerate(listeners):
            await connection.add_listener("channel", listen(number))
        for number in range(300):
            await notifier.execute("select pg_notify('channel', $1)", str(number))
        for event in ended:
            await event.wait()
        pid = notifier.get_server_pid()
        for heard in got:
            self.assertEqual(heard, [(pid, str(number)) for number in range(300)])

    async def test_cancel(self):
        # What is cancelled is known to be under way: PostgreSQL ignores a request to cancel what it has not begun to read.
        loop = asyncio.get_running_loop()
        for number in range(3):
            connection = await self.connection(number)
            sleeping = self.task(connection.execute("select pg_sleep(100)"))
            await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 1)
            sleeping.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await sleeping
            await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 0)
            self.assertEqual(await connection.fetchval("select 1"), 1)
            # In the middle of a large result.
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(None) as timeout, connection.transaction():
                    query = "select generate_series(1, 1000000), pg_sleep(0.0001)"
                    async for row in connection.cursor(query, prefetch=100):
                        if row[0] == 50:
                            timeout.reschedule(loop.time() + 0.01)
            self.assertEqual(await connection.fetchval("select 2"), 2)

    async def test_timeouts(self):
        loop = asyncio.get_running_loop()

        async def work(number):
            connection = await self.connection(number)
            began = loop.time()
            with self.assertRaises(TimeoutError):
                await connection.execute("select pg_sleep(200)", timeout=1)
            self.assertGreaterEqual(loop.time() - began, 0.99)
            # The server has given up, and the connection goes on.
            self.assertEqual(await connection.fetchval("select 1"), 1)

        await asyncio.gather(*map(work, range(9)))
        await self.until_active("query like '%pg_sleep(200)%' and state = 'active'", 0)

    async def test_connections_that_are_lost(self):
        connection, other = await self.connection(), await self.connection(2)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda connection: lost.set())
        sleeping = self.task(connection.execute("select pg_sleep(100)"))
        await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 1)
        await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())
        with self.assertRaises(asyncpg.PostgresError):
            await sleeping
        await lost.wait()
        self.assertTrue(connection.is_closed())
        self.assertEqual(await other.fetchval("select 1"), 1)

    async def test_certificate(self):
        import ssl

        with self.assertRaises(ssl.SSLCertVerificationError):
            await asyncpg.connect(**self.where(2) | {"ssl": ssl.create_default_context()})


if __name__ == "__main__":
    support.main()
