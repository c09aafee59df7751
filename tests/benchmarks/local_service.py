"""The local service of the benchmark: no app is connected, so that nothing but the service is measured."""

import asyncio
import logging
import sys

from signalr_upstream.cli.garbage import collect_less_garbage
from signalr_upstream.local import LocalService


async def serve(key: str, port: int) -> None:
    async with LocalService(keys=[key], port=port):
        collect_less_garbage()  # as `signalr-upstream local`
        await asyncio.Event().wait()


if __name__ == "__main__":
    # It warns that there is no app, twice a client.
    logging.getLogger("signalr_upstream.local").setLevel(logging.ERROR)
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
