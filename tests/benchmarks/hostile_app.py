"""The app that ``hostile`` attacks: it takes any arguments, and tells how long its loop has stood still."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from signalr_upstream import Hub, UpstreamApp
from signalr_upstream.entra import EntraUpstream

TICK = 0.001
chat = Hub("chat")
worst = [0.0]


@chat.on("echo")
async def echo(*values: Any) -> int:
    return len(values)


async def stall(request: Request) -> JSONResponse:
    """The longest stall since this was last asked, in seconds."""
    longest, worst[0] = worst[0], 0.0
    return JSONResponse(longest)


@contextlib.asynccontextmanager
async def watch(_: UpstreamApp) -> AsyncIterator[None]:
    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            worst[0] = max(worst[0], time.perf_counter() - before - TICK)

    task = asyncio.create_task(tick())
    yield
    task.cancel()


authority = os.environ.get("HOSTILE_AUTHORITY")
app = UpstreamApp(
    chat,
    connection_string=os.environ["HOSTILE_CONNECTION_STRING"],
    entra=EntraUpstream(
        tenant=os.environ["HOSTILE_TENANT"],
        audience="api://my-app",
        identities=[os.environ["HOSTILE_IDENTITY"]],
        authority=authority,
    )
    if authority
    else None,
    routes=[Route("/stall", stall)],
    lifespan=watch,
)
