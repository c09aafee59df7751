"""One upstream call in, one group send out: the app of relay_fastapi.py, written with signalr-upstream."""

import os

from signalr_upstream import Context, Hub, UpstreamApp

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="

chat = Hub("chat")


@chat.on("relay")
async def relay(ctx: Context, text: str, count: int) -> str:
    await ctx.clients.group("lobby").send("newMessage", text, count)
    return text


@chat.on("echo")
async def echo(text: str, count: int) -> str:
    return text


app = UpstreamApp(chat, connection_string=f"Endpoint={os.environ['SERVICE']};AccessKey={KEY};Version=1.0;")
