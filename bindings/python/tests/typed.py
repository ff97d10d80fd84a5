"""A program whose types are checked by script/test."""

import asyncio
import contextvars
import evl


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...


async def main() -> int:
    loop = evl.new_event_loop()
    handle: asyncio.TimerHandle = loop.call_later(1.0, print, "x", context=contextvars.copy_context())
    handle.cancel()
    transport, protocol = await loop.create_connection(Echo, "localhost", 80)
    protocol.connection_made(transport)
    server = await loop.create_server(Echo, "localhost", 0)
    await server.wait_closed()
    print(server.sockets[0].getsockname())
    value: int = await loop.run_in_executor(None, len, "abc")
    return value

result: int = evl.run(main(), debug=True)
evl.install()
asyncio.set_event_loop_policy(evl.EventLoopPolicy())
with asyncio.Runner(loop_factory=evl.EventLoop) as runner:
    runner.run(main())
