"""psycopg 3 on evl, against a PostgreSQL of its own: it waits for libpq's socket by add_reader and add_writer."""

import asyncio

import support

support.need("psycopg", "psycopg_pool", "trustme", postgresql=support.postgres_programs())

import psycopg
import psycopg_pool

MIB = 1 << 20


class Psycopg(support.PostgreSQLTest):
    def where(self, number=0):
        """By TCP, by a unix socket, or by TLS."""
        way = (
            "host=127.0.0.1 sslmode=disable",
            f"host={self.server.directory}",
            f"host=localhost sslmode=verify-full sslrootcert={self.certificates.authority}",
        )[number % 3]
        return f"user=tester dbname=postgres port={self.server.port} {way}"

    async def connection(self, number=0, **options):
        return await self.enter(await psycopg.AsyncConnection.connect(self.where(number), autocommit=True, **options))

    async def value(self, connection, query, *arguments):
        cursor = await connection.execute(query, arguments or None)
        return (await cursor.fetchone())[0]

    async def until_active(self, condition, count):
        """Waits until so many of the server's clients are in some state."""
        watcher = await self.connection()

        async def asked():
            query = f"select count(*) from pg_stat_activity where pid <> pg_backend_pid() and {condition}"
            return await self.value(watcher, query) == count

        await support.until(asked)

    async def test_values(self):
        for number in range(3):
            connection = await self.connection(number)
            # Binary, and more than any buffer on the way, in both directions.
            data = support.pattern(8 * MIB, number)
            self.assertEqual(await self.value(connection, "select %b::bytea", data), data)
            self.assertEqual(await self.value(connection, "select %s::text", "žluťoučký kůň 🐎"), "žluťoučký kůň 🐎")
            self.assertEqual(
                await self.value(connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), number == 2)
            with self.assertRaises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1 / 0")
            self.assertEqual(await self.value(connection, "select 1"), 1)
        with self.assertRaises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(self.where().replace(str(self.server.port), str(support.free_port())))

    async def test_large_results(self):
        connection = await self.connection()
        async with connection.cursor() as cursor:
            await cursor.execute("select i, 'row ' || i from generate_series(1, 100000) i")
            self.assertEqual(await cursor.fetchall(), [(i, f"row {i}") for i in range(1, 100_001)])
            got = [row[0] async for row in cursor.stream("select generate_series(1, 2000)")]
            self.assertEqual(got, list(range(1, 2001)))

    async def test_transactions(self):
        connection, other = await self.connection(), await self.connection(1)
        await connection.execute("drop table if exists accounts")
        await connection.execute("create table accounts (name text primary key, money int)")
        async with connection.transaction():
            async with connection.cursor() as cursor:
                await cursor.executemany("insert into accounts values (%s, %s)", [(f"n{i}", i) for i in range(1000)])
            self.assertEqual(await self.value(other, "select count(*) from accounts"), 0)
        self.assertEqual(await self.value(other, "select sum(money) from accounts"), 499_500)
        with self.assertRaises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("delete from accounts")
                raise ZeroDivisionError
        self.assertEqual(await self.value(other, "select count(*) from accounts"), 1000)

    async def test_pipeline(self):
        connection = await self.connection()
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (number,)) for number in range(2000)]
        self.assertEqual([(await cursor.fetchone())[0] for cursor in cursors], list(range(2000)))

    async def test_copy(self):
        connection = await self.connection()
        await connection.execute("drop table if exists copied")
        await connection.execute("create table copied (id int, name text)")
        rows = [(i, f"name {i}\t\\") for i in range(50_000)]
        async with connection.cursor() as cursor:
            async with cursor.copy("copy copied from stdin") as copy:
                for row in rows:
                    await copy.write_row(row)
            got = []
            async with cursor.copy("copy copied to stdout") as copy:
                copy.set_types(["int4", "text"])
                async for row in copy.rows():
                    got.append(row)
        self.assertEqual(got, rows)

    async def test_notifies(self):
        listener, notifier = await self.connection(), await self.connection(2)
        await listener.execute("listen channel")

        async def listen():
            got = []
            async for notify in listener.notifies():
                got.append(int(notify.payload))
                if got[-1] == 299:
                    return got

        listening = self.task(listen())
        for number in range(300):
            await notifier.execute("select pg_notify('channel', %s)", (str(number),))
        self.assertEqual(await listening, list(range(300)))
        # A time without any.
        self.assertEqual([notify async for notify in listener.notifies(timeout=0.1)], [])

    async def test_cancel(self):
        for number in range(3):
            connection = await self.connection(number)
            sleeping = self.task(connection.execute("select pg_sleep(100)"))
            await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 1)
            sleeping.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await sleeping
            await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 0)
            self.assertEqual(await self.value(connection, "select 1"), 1)
            with self.assertRaises(psycopg.errors.QueryCanceled):
                async with connection.transaction():
                    await connection.execute("set local statement_timeout = 50")
                    await connection.execute("select pg_sleep(100)")
            self.assertEqual(await self.value(connection, "select 2"), 2)

    async def test_connections_that_are_lost(self):
        connection, other = await self.connection(), await self.connection()
        sleeping = self.task(connection.execute("select pg_sleep(100)"))
        await self.until_active("query like '%pg_sleep(100)%' and state = 'active'", 1)
        await other.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with self.assertRaises(psycopg.OperationalError):
            await sleeping
        self.assertTrue(connection.closed)

    async def test_pool(self):
        together = most = 0
        full = asyncio.Event()

        async def work(pool, number):
            nonlocal together, most
            async with pool.connection() as connection:
                together += 1
                most = max(most, together)
                if together == 10:
                    full.set()
                # All ten connections are in use at once: the pool grows while some wait.
                await full.wait()
                answer = await self.value(connection, "select %s::int", number), connection.info.backend_pid
                together -= 1
                return answer

        async with psycopg_pool.AsyncConnectionPool(self.where(), min_size=2, max_size=10, open=False) as pool:
            await pool.wait()
            answers = await asyncio.gather(*(work(pool, number) for number in range(200)))
            self.assertEqual([number for number, _ in answers], list(range(200)))
            self.assertEqual((most, len({pid for _, pid in answers})), (10, 10))
            held = [await pool.getconn() for _ in range(10)]
            with self.assertRaises(psycopg_pool.PoolTimeout):
                await pool.getconn(timeout=0.1)
            for connection in held:
                await pool.putconn(connection)
        async with psycopg_pool.AsyncNullConnectionPool(self.where(), max_size=5, open=False) as pool:
            answers = await asyncio.gather(*(work(pool, number) for number in range(20)))
            self.assertEqual([number for number, _ in answers], list(range(20)))


if __name__ == "__main__":
    support.main()
