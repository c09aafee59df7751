"""A bare broadcast server with `websockets`: what /trigger sends goes to everybody else, with websockets.broadcast."""

import asyncio
import contextlib
import sys

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

clients = set()


async def handler(connection):
    if connection.request.path == "/trigger":
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                broadcast(clients, message)
        return
    clients.add(connection)
    try:
        await connection.wait_closed()
    finally:
        clients.discard(connection)


async def main(port):
    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None, backlog=2048):
        await asyncio.Future()


asyncio.run(main(int(sys.argv[1])))
