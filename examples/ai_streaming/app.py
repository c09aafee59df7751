"""Answers of an AI, token by token: to who asked, or to everybody in a room."""

import asyncio
import uuid
from collections.abc import AsyncIterator

from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, UpstreamApp

assistant = Hub("assistant")


@assistant.negotiate
async def anybody(request: Request) -> Identity:
    return Identity.anonymous()


async def tokens(question: str) -> AsyncIterator[str]:
    """What an AI would say. Put your model's stream here: any async iterator will do."""
    for word in f"You asked: {question} That is a good question.".split():
        await asyncio.sleep(0.02)
        yield f"{word} "


@assistant.on("ask")
async def ask(ctx: Context, question: str) -> str:
    """Answer at once with the name of the stream; its tokens follow, and the caller may go on asking."""
    stream = uuid.uuid4().hex
    ctx.after(answer, ctx, stream, question)
    return stream


async def answer(ctx: Context, stream: str, question: str) -> None:
    await ctx.stream_to_caller("token", tokens(question), stream_id=stream)


@assistant.on("joinRoom")
async def join_room(ctx: Context, room: str) -> None:
    await ctx.groups.add(room)


@assistant.on("askInRoom")
async def ask_in_room(ctx: Context, room: str, question: str) -> str:
    """As ``ask``, and everybody in the room reads along."""
    stream = uuid.uuid4().hex
    ctx.after(answer_room, ctx, room, stream, question)
    return stream


async def answer_room(ctx: Context, room: str, stream: str, question: str) -> None:
    """Send what ``stream_to_caller`` sends, so that clients read both in one way."""
    everybody = ctx.clients.group(room)
    number = 0
    try:
        async for token in tokens(question):
            await everybody.send("token", stream, number, "item", token)
            number += 1
    except Exception:
        await everybody.send("token", stream, number, "error", "The AI has lost its thread.")
        raise
    await everybody.send("token", stream, number, "end", None)


app = UpstreamApp(assistant)
