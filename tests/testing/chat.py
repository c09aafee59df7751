"""The app that the tests of the test kit test: small, with a handler for each thing that can happen."""

import asyncio
from typing import Annotated, Any

from msgspec import Struct

from signalr_upstream import Context, Depends, Hub, HubError, Identity, UpstreamApp, role


class Message(Struct):
    text: str


class Receipt(Struct):
    length: int


class Store:
    """Where messages are kept."""

    def __init__(self) -> None:
        self.kept: list[str] = []


def store() -> Store:
    raise RuntimeError("tests have no database")


def chat_app(**options: Any) -> UpstreamApp:
    chat = Hub("chat")

    @chat.on("connected")
    async def joined(ctx: Context) -> None:
        if ctx.user_id == "mallory":
            raise HubError("Go away.")
        if ctx.user_id == "broken":
            raise KeyError("door")
        await ctx.groups.add("lobby")

    @chat.on("disconnected")
    async def left(ctx: Context) -> None:
        if ctx.user_id == "clumsy":
            raise KeyError("hat")
        await ctx.clients.all.send("left", ctx.user_id)

    @chat.negotiate
    async def who(user: Annotated[str, Depends(lambda: "ann")]) -> Identity:
        return Identity(user)

    @chat.on("say")
    async def say(ctx: Context, room: str, message: Message) -> Receipt:
        if not message.text:
            raise HubError("There is nothing to say.")
        await ctx.clients.group(room).send("said", ctx.user_id, message)
        return Receipt(len(message.text))

    @chat.on("keep")
    async def keep(text: str, kept: Annotated[Store, Depends(store)]) -> None:
        kept.kept.append(text)

    @chat.on("others")
    async def others(ctx: Context) -> None:
        await ctx.clients.others.send("news", 1)

    @chat.on("each")
    async def each(ctx: Context, user: str) -> None:
        await ctx.clients.caller.send("you", user)
        await ctx.clients.user(user).send("they", user)

    @chat.on("ask")
    async def ask(ctx: Context, connection_id: str) -> int:
        return await ctx.clients.connection(connection_id).invoke("age", result_type=int)

    @chat.on("crash")
    async def crash(ctx: Context, text: str) -> None:
        raise LookupError(text)

    @chat.on("forget")
    async def forget(ctx: Context) -> None:
        ctx.clients.all.send("never")  # type: ignore[unused-coroutine]  # what is to be found

    @chat.on("forgetInThread")
    def forget_in_thread(ctx: Context) -> None:
        ctx.clients.all.send("never")  # type: ignore[unused-coroutine]  # what is to be found

    @chat.on("forgetAndCrash")
    async def forget_and_crash(ctx: Context) -> None:
        ctx.clients.all.send("never")  # type: ignore[unused-coroutine]  # what is to be found
        raise LookupError("too")

    @chat.on("later")
    async def later(ctx: Context, seconds: float) -> None:
        async def work() -> None:
            if seconds < 0:
                raise LookupError("late")
            await asyncio.sleep(seconds)
            await ctx.clients.all.send("worked")

        ctx.after(work)

    @chat.on("close", require=role("admin"))
    async def close(ctx: Context, room: str) -> None:
        await ctx.groups.close_all(room, reason="Closed.")

    return UpstreamApp(chat, **options)
