"""The hub that the apps of docs/mounting.md serve: it tells its clients how it is mounted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity

chat = Hub("chat")


@asynccontextmanager
async def open_database() -> AsyncIterator[str]:
    """What a lifespan opens."""
    yield "open"


@chat.negotiate
async def who(request: Request) -> Identity:
    return Identity("ann", claims={"asked": [str(request.url), request.scope["root_path"]]})


@chat.on("connected")
async def joined(ctx: Context) -> None:
    await ctx.clients.caller.send("welcome", ctx.user_id)


@chat.on("asked")
async def asked(ctx: Context) -> list[str]:
    return [*ctx.claims["asked"]]


@chat.on("called")
async def called(ctx: Context) -> list[str]:
    return [ctx.request.url.path, ctx.request.scope["root_path"]]


@chat.on("database")
async def database(ctx: Context) -> str:
    return getattr(ctx.state, "database", "there was no lifespan")


@chat.on("tell")
async def tell(ctx: Context, text: str) -> None:
    await ctx.clients.all.send("told", text)
