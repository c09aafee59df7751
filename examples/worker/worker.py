"""A process that only sends: no HTTP server, no handlers, the connection string from the environment.

So it can be a cron job, a queue's consumer, or a loop like this one.
"""

import asyncio
import contextlib
import random
import signal

from signalr_upstream import ServiceClient
from signalr_upstream.errors import ServiceError

SYMBOLS = ("ACME", "HOOLI")


async def main() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with ServiceClient() as service:
        hub = service.hub("prices")
        while not stop.is_set():
            for symbol in SYMBOLS:
                try:
                    await hub.clients.group(symbol).send("price", symbol, random.randint(90, 110))
                except ServiceError as error:  # the next price comes soon
                    print(f"not sent: {error}", flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
