"""The app of ``test_rotation.py``: its connection strings stand in a file, which is read anew as long as it runs."""

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from signalr_upstream import Context, Hub, UpstreamApp, endpoints

endpoints.ASK_EVERY = 0.1  # type: ignore[misc] # the test has no minute for each deployment

_mounted = Path(os.environ["MOUNTED_SECRET"])
_reads = 0


def connection_strings() -> list[str]:
    global _reads
    strings = _mounted.read_text().splitlines()
    _reads += 1
    return strings


def reads(request: Request) -> PlainTextResponse:
    """How often the file has been read."""
    return PlainTextResponse(str(_reads))


chat = Hub("chat")


@chat.on("connected")
async def connected(ctx: Context) -> None:
    await ctx.groups.add("everybody")


@chat.on("ready")
async def ready(ctx: Context) -> None:
    """Answered when ``connected`` has been: messages of a connection go one after the other."""


@chat.on("relay")
async def relay(ctx: Context, number: int) -> int:
    await ctx.clients.group("everybody").send("told", ctx.user_id, number)
    return number


app = UpstreamApp(chat, connection_string=connection_strings, routes=[Route("/reads", reads)])
