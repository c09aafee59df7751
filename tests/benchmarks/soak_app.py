"""The app of the soak run: every client is in one of fifty groups, by the number in its user id."""

from signalr_upstream import Context, Hub, UpstreamApp

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
