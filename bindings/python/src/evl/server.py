"""Server: what create_server and create_unix_server return."""

import asyncio
import asyncio.trsock
import os
import socket
import sys
from asyncio import exceptions
from asyncio.log import logger

from .futures import finish

# Since 3.12.1 wait_closed waits for the connections; before that it had nothing to wait for once the server was closed.
_WAITS_FOR_CONNECTIONS = sys.version_info >= (3, 12, 1)


class Nowhere:
    """What a server of no hosts has in place of listening sockets."""

    def __init__(self, serving):
        self._serving = serving

    def descriptors(self):
        return []

    def start_serving(self):
        self._serving = True

    def is_serving(self):
        return self._serving

    def close(self):
        self._serving = False

    def close_clients(self):
        pass

    abort_clients = wait_closed = close_clients


class Server(asyncio.AbstractServer):
    """Listening sockets and their connections."""

    def __init__(self, loop, core, sockets=None):
        self._loop = loop
        self._core = core
        # Their descriptors are evl's, which closes them.
        self._sockets = sockets if sockets is not None else [socket.socket(fileno=fd) for fd in core.descriptors()]
        # What wait_closed waits for while the server is open.
        self._waiters = []
        self._forever = None
        # Files of unix sockets that go with the server, and their numbers.
        self._files = []
        loop._servers.add(self)

    def __repr__(self):
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def _clean_up(self):
        """Has the files of unix sockets go with the server, unless they are another one's by then."""
        for sock in self._sockets:
            path = sock.getsockname()
            if path and path[0] not in (0, "\0"):
                try:
                    self._files.append((path, os.stat(path).st_ino))
                except FileNotFoundError:
                    pass

    def _keep_alive(self):
        for sock in self._sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)

    def _forget(self):
        sockets, self._sockets = self._sockets, None
        self._waiters = None
        self._loop._servers.discard(self)
        for sock in sockets or ():
            sock.detach()

    def get_loop(self):
        """The server's loop."""
        return self._loop

    def is_serving(self):
        """Whether connections are taken."""
        return self._core.is_serving()

    @property
    def sockets(self):
        """The listening sockets."""
        return tuple(asyncio.trsock.TransportSocket(sock) for sock in self._sockets or ())

    def close(self):
        """Takes no more connections."""
        if self._sockets is None:
            return
        for path, number in self._files:
            try:
                if os.stat(path).st_ino == number:
                    os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)
        self._forget()
        self._core.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
            self._forever = None

    def close_clients(self):
        """Closes the transports of all connections."""
        self._core.close_clients()

    def abort_clients(self):
        """Aborts the transports of all connections."""
        self._core.abort_clients()

    async def start_serving(self):
        """Begins to take connections."""
        self._begin()
        # Whoever waited for this may rely on the loop having gone round.
        await asyncio.sleep(0)

    def _begin(self):
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._core.start_serving()

    async def serve_forever(self):
        """Takes connections until cancelled, which closes the server."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._begin()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except exceptions.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    async def wait_closed(self):
        """Waits until the server is closed (and, as of Python 3.12, its connections are)."""
        if self._sockets is None and not _WAITS_FOR_CONNECTIONS:
            await asyncio.sleep(0)
            return
        waiting = self._core.wait_closed()
        if self._waiters is not None:
            self._waiters.append(waiting)
        await finish(waiting)
