"""A chat: rooms, people who come and go, messages to one person.

Nothing is remembered here: the service knows who is connected and who is in which room, and each page keeps
its own list of people. So any number of workers can serve it, and it can be restarted under open pages.
"""

import time
import uuid
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp

# Checked before a handler runs; the caller is told which argument does not fit.
Room = Annotated[str, Meta(min_length=1, max_length=30)]

LONGEST_TEXT = 500


class Person(Struct):
    """Somebody in one window: a person with two windows is here twice, under one name."""

    id: str
    name: str


class Message(Struct):
    """What was said; without a room it is for one person's eyes only."""

    id: str
    sender: str
    text: str
    at: float
    room: str | None = None


class Receipt(Struct):
    """What ``invoke("sendMessage", ...)`` resolves to."""

    id: str
    at: float


chat = Hub("chat")


@chat.negotiate
async def sign_in(request: Request) -> Identity:
    """Say who is connecting. A real application asks its login session here instead of believing the page."""
    name = request.query_params.get("name", "").strip()
    if not name.isprintable() or not 1 <= len(name) <= 30:
        raise HTTPException(403, "A name has 1 to 30 printable characters.")
    return Identity(user_id=name)


@chat.on("joinRoom")
async def join_room(ctx: Context, room: Room) -> None:
    await ctx.groups.add(room)
    await ctx.clients.others_in_group(room).send("joined", room, caller(ctx))


@chat.on("greet")
async def greet(ctx: Context, room: Room, newcomer: str) -> None:
    """Those who see somebody join tell the newcomer that they are here."""
    await ctx.clients.connection(newcomer).send("here", room, caller(ctx))


@chat.on("leaveRoom")
async def leave_room(ctx: Context, room: Room) -> None:
    await ctx.groups.remove(room)
    await ctx.clients.group(room).send("left", room, caller(ctx))


@chat.on("disconnected")
async def disconnected(ctx: Context) -> None:
    """The service has taken the connection out of its rooms; pages that knew the person show that it left."""
    await ctx.clients.all.send("gone", caller(ctx))


@chat.on("sendMessage")
async def send_message(ctx: Context, room: Room, text: str) -> Receipt:
    message = compose(ctx, text, room)
    await ctx.clients.group(room).send("message", message)
    return Receipt(message.id, message.at)


@chat.on("whisper")
async def whisper(ctx: Context, to: str, text: str) -> Receipt:
    message = compose(ctx, text)
    if not await ctx.users.exists(to):
        raise HubError(f"{to} is not here.")
    await ctx.clients.user(to).send("whisper", message)
    return Receipt(message.id, message.at)


def caller(ctx: Context) -> Person:
    return Person(ctx.connection_id, ctx.user_id or "somebody")


def compose(ctx: Context, text: str, room: str | None = None) -> Message:
    """Make a message, or raise the HubError whose text the sender's page shows."""
    text = text.strip()
    if text.startswith("/"):
        command, _, text = text.partition(" ")
        if command != "/shout":
            raise HubError(f"There is no command {command}. The one there is: /shout.")
        text = text.strip().upper()
    if not text:
        raise HubError("There is nothing to send: write something first.")
    if len(text) > LONGEST_TEXT:
        raise HubError(f"A message has at most {LONGEST_TEXT} characters, this one has {len(text)}.")
    return Message(uuid.uuid4().hex, caller(ctx).name, text, time.time(), room)


# --- the page and the official client it uses ---------------------------------------------------------------

HERE = Path(__file__).parent
CLIENT = HERE / "node_modules" / "@microsoft"


async def page(request: Request) -> Response:
    if not CLIENT.is_dir():
        return PlainTextResponse(
            "The page needs the official SignalR client: run `npm ci` in examples/chat, then reload.", 503
        )
    return FileResponse(HERE / "page" / "index.html")


app = UpstreamApp(
    chat,
    routes=[
        Route("/", page),
        Mount("/page", StaticFiles(directory=HERE / "page")),
        Mount("/lib", StaticFiles(directory=CLIENT, check_dir=False)),
    ],
)
