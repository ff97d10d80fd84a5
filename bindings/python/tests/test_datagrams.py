"""Datagram endpoints."""

import asyncio
import socket
import tempfile
import unittest

from support import LoopTest


class Datagrams(LoopTest):
    def test_addresses_of_datagrams(self):
        class Noting(asyncio.DatagramProtocol):
            def error_received(self, exc):
                errors.append(exc)

            def datagram_received(self, data, address):
                got.append(data)

        async def main():
            there, _ = await self.loop.create_datagram_endpoint(Noting, local_addr=("127.0.0.1", 0))
            address = there.get_extra_info("sockname")
            here, _ = await self.loop.create_datagram_endpoint(Noting, remote_addr=address)
            here.sendto(b"a", address)
            # It is not looked up whether this is the same.
            with self.assertRaisesRegex(ValueError, r"Invalid address: must be None or \('127.0.0.1', "):
                here.sendto(b"b", ("localhost", address[1]))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(address)
            given, _ = await self.loop.create_datagram_endpoint(Noting, sock=sock)
            given.sendto(b"c", ("127.0.0.1", 1))
            while len(got) < 2:
                await asyncio.sleep(0.001)
            self.assertEqual(got, [b"a", b"c"])
            there.sendto(b"d", ("a name that is none", 1))
            self.assertIsInstance(errors.pop(), OSError)
            with self.assertRaisesRegex(TypeError, "not 'str'"):
                there.sendto("d", address)
            for transport in (here, there, given):
                transport.close()
            await asyncio.sleep(0)
        got, errors = [], []
        self.loop.run_until_complete(main())

    def test_unix_datagrams(self):
        class Noting(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                got.append((data, address))

        async def main():
            with tempfile.TemporaryDirectory() as directory:
                here, _ = await self.loop.create_datagram_endpoint(Noting, local_addr=f"{directory}/a", family=socket.AF_UNIX)
                there, _ = await self.loop.create_datagram_endpoint(
                    Noting, local_addr=f"{directory}/b", remote_addr=f"{directory}/a", family=socket.AF_UNIX)
                there.sendto(b"hello")
                while not got:
                    await asyncio.sleep(0.001)
                self.assertEqual(got, [(b"hello", f"{directory}/b")])
                here.close()
                there.close()
                await asyncio.sleep(0)
        got = []
        self.loop.run_until_complete(main())


if __name__ == "__main__":
    unittest.main()
