"""Typed clients: what the pages can be called with is a class, and type checkers know every send."""

from typing import Protocol

from msgspec import Struct
from starlette.requests import Request

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp
from signalr_upstream.errors import NotFoundError


class Move(Struct):
    player: str
    field: int


class GameClient(Protocol):
    """What a page does: one method for each ``connection.on(...)`` in its JavaScript, named as there."""

    async def playerJoined(self, name: str, connection: str) -> None: ...  # noqa: N802 - its name in JavaScript

    async def moved(self, move: Move) -> None: ...

    async def challenged(self, by: str) -> bool:
        """Ask the player. What gives something is asked of one connection, and waited for."""
        ...


game = Hub("game", client=GameClient)


@game.negotiate
async def sign_in(request: Request) -> Identity:
    return Identity(request.query_params["name"])


@game.on("connected")
async def connected(ctx: Context[GameClient]) -> None:
    await ctx.clients.others.playerJoined(ctx.user_id or "somebody", ctx.connection_id)


@game.on("challenge")
async def challenge(ctx: Context[GameClient], connection: str) -> bool:
    """Ask another player; both of them are in the table's group if the answer is yes."""
    try:
        accepted = await ctx.clients.connection(connection).challenged(ctx.user_id or "somebody")
    except NotFoundError:
        raise HubError("That player has left.") from None
    if accepted:
        await ctx.groups.add("table")
        await ctx.groups.add("table", connection_id=connection)
    return accepted


@game.on("move")
async def move(ctx: Context[GameClient], field: int) -> None:
    await ctx.clients.group("table").moved(Move(ctx.user_id or "somebody", field))


app = UpstreamApp(game)
