"""What the Functions app in the README does: negotiate, connected, a message with a result, disconnected."""

import logging

from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, UpstreamApp

logger = logging.getLogger("chat")
chat = Hub("chat")


@chat.negotiate
async def negotiate(request: Request) -> Identity:
    user = request.headers.get("x-user-id")
    return Identity(user) if user else Identity.anonymous()


@chat.on("connected")
async def connected(ctx: Context) -> None:
    await ctx.clients.all.send("newConnection", ctx.connection_id)


@chat.on("broadcast")
async def broadcast(ctx: Context, message: str) -> int:
    await ctx.clients.all.send("newMessage", ctx.user_id, message)
    return len(message)


@chat.on("disconnected")
async def disconnected(ctx: Context) -> None:
    logger.info("%s has gone: %s", ctx.connection_id, ctx.error)


app = UpstreamApp(chat)
