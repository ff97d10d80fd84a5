"""aiosqlite on evl: a thread for each connection, which calls back into the loop."""

import asyncio
import sqlite3

import support

support.need("aiosqlite")

import aiosqlite


class Aiosqlite(support.Test):
    def setUp(self):
        super().setUp()
        self.path = f"{self.directory()}/database"

    async def connection(self):
        return await self.enter(aiosqlite.connect(self.path, timeout=20))

    async def test_exchange(self):
        connection = await self.connection()
        await connection.execute("create table things (id integer primary key, name text, data blob)")
        rows = [(i, f"name {i}", support.pattern(i % 100, i)) for i in range(20_000)]
        await connection.executemany("insert into things values (?, ?, ?)", rows)
        await connection.commit()
        other = await self.connection()
        async with other.execute("select * from things order by id") as cursor:
            self.assertEqual([row async for row in cursor], rows)
        with self.assertRaises(sqlite3.IntegrityError):
            await other.execute("insert into things values (1, '', '')")
        await connection.create_function("twice", 1, lambda number: number * 2)
        self.assertEqual(await (await connection.execute("select twice(21)")).fetchone(), (42,))

    async def test_transactions(self):
        connection, other = await self.connection(), await self.connection()
        await connection.execute("create table counts (n int)")
        await connection.execute("insert into counts values (0)")
        self.assertEqual(await (await other.execute("select count(*) from counts")).fetchone(), (0,))
        await connection.commit()
        self.assertEqual(await (await other.execute("select count(*) from counts")).fetchone(), (1,))

        async def count():
            async with aiosqlite.connect(self.path, timeout=20) as own:
                for _ in range(5):
                    await own.execute("begin immediate")
                    [n] = await (await own.execute("select n from counts")).fetchone()
                    await own.execute("update counts set n = ?", (n + 1,))
                    await own.commit()

        await asyncio.gather(*(count() for _ in range(20)))
        self.assertEqual(await (await other.execute("select n from counts")).fetchone(), (100,))

    async def test_many_queries(self):
        connection = await self.connection()

        async def ask(number):
            return (await (await connection.execute("select ?", (number,))).fetchone())[0]

        self.assertEqual(await asyncio.gather(*map(ask, range(2000))), list(range(2000)))

    async def test_the_loop_goes_on(self):
        connection = await self.connection()
        slow = self.task(connection.execute_fetchall(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers limit 100000000) "
            "select max(n) from numbers"))
        for _ in range(100):
            await asyncio.sleep(0.001)
        self.assertFalse(slow.done())
        await connection.interrupt()
        with self.assertRaises(sqlite3.OperationalError):
            await slow
        # What is not waited for is done all the same.
        await connection.execute("create table after (n int)")
        with self.assertRaises(asyncio.CancelledError):
            inserting = asyncio.ensure_future(connection.execute("insert into after values (1)"))
            await asyncio.sleep(0)
            inserting.cancel()
            await inserting
        self.assertEqual(await (await connection.execute("select n from after")).fetchone(), (1,))


if __name__ == "__main__":
    support.main()
