"""The local service of the soak run and its app: every client is in one of fifty groups, by its user id."""

import asyncio
import sys

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.cli.garbage import collect_less_garbage
from signalr_upstream.local import LocalService

GROUPS = 50

chat = Hub("chat")


@chat.on("connected")
async def join(ctx: Context) -> None:
    assert ctx.user_id is not None
    await ctx.groups.add(group_of(int(ctx.user_id)))


@chat.on("echo")
async def echo(number: int) -> int:
    return number


def group_of(number: int) -> str:
    return f"g{number % GROUPS}"


app = UpstreamApp(chat)


async def serve(key: str, port: int) -> None:
    async with LocalService(app, keys=[key], port=port):
        collect_less_garbage()  # as `signalr-upstream local`
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
