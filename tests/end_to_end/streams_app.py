"""An app whose handlers answer ``stream()``."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp

hub = Hub("streams")


@hub.negotiate
async def who(request: Request) -> Identity:
    return Identity.anonymous()


@hub.on("count")
async def count(ctx: Context, to: int) -> AsyncIterator[dict[str, int]]:
    for number in range(to):
        yield {"number": number}


@hub.on("fail")
async def fail(ctx: Context) -> AsyncIterator[int]:
    yield 1
    raise HubError("No more of that.")


@hub.on("forever")
async def forever(ctx: Context) -> AsyncIterator[int]:
    number = 0
    try:
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.01)
    finally:
        await ctx.clients.all.send("closed", number > 0)


@hub.on("plain")
async def plain(ctx: Context) -> int:
    return 1


app = UpstreamApp(hub, experimental_streams=True)
