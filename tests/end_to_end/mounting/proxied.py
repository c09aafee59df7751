"""The hub of test_nginx.py, mounted below ``PREFIX`` under a middleware that compresses."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Mount

from signalr_upstream import Context, Hub, Identity, UpstreamApp

chat = Hub("chat")


@chat.negotiate
async def who(request: Request) -> Identity:
    return Identity("ann", claims={"asked": str(request.url)})


@chat.on("asked")
async def asked(ctx: Context) -> str:
    return ctx.claims["asked"][0]


@chat.on("nothing")
async def nothing(ctx: Context) -> None:
    pass


@chat.on("long")
async def long(ctx: Context, length: int) -> str:
    return "x" * length


@chat.on("sizes")
async def sizes(ctx: Context) -> list[int]:
    return [len(ctx.claims["notes"][0]), len(ctx.query["padding"])]


@chat.on("tell")
async def tell(ctx: Context, text: str) -> None:
    await ctx.clients.all.send("told", text)


@chat.on("*")
async def anything(ctx: Context, value: str) -> list[str]:
    return [ctx.event, value]


app = Starlette(
    routes=[Mount(os.environ["PREFIX"] or "/", UpstreamApp(chat))],
    middleware=[Middleware(GZipMiddleware, minimum_size=0)],
)
