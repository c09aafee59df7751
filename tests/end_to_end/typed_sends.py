"""What type checkers know of sends and results; read by mypy and pyright, and not run."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from msgspec import Struct

from signalr_upstream import ClientAccess, Context, Hub, Identity, ServiceClient, UpstreamApp
from signalr_upstream.rest.paging import GroupConnection


class Move(Struct):
    column: int


chat = Hub("chat")
app = UpstreamApp(chat)


@chat.on("play")
async def play(ctx: Context, opponent: str) -> int:
    move = await ctx.clients.connection(opponent).invoke("nextMove", 1, result_type=Move, timeout=10)
    assert_type(move, Move)
    assert_type(await ctx.clients.others.send("moved", move), None)
    assert_type(await ctx.groups.add("lobby"), bool)
    return move.column


async def send(service: ServiceClient) -> None:
    hub = service.hub("chat")
    for clients in (hub.clients, chat.clients, app.hub(chat).clients):
        player = clients.connection("connection")
        assert_type(await player.invoke("ask"), Any)
        assert_type(await player.invoke("ask", result_type=list[int]), list[int])
        assert_type(await player.invoke("ask", result_type=tuple[str, int]), tuple[str, int])
        assert_type(await player.send_item("1", {"a": 1}, completed=True), bool)
        assert_type(await clients.users(["ann"]).send("t", 1, b"", idempotent=True), None)
    connections = hub.groups.connections("lobby", top=10)
    assert_type(connections, AsyncIterator[GroupConnection])
    assert_type([each.user_id async for each in connections], list[str | None])
    assert_type(await hub.users.in_group("ann", group="lobby"), bool)
    assert_type(await hub.generate_token("ann", minutes=5), str)
    assert_type(await hub.client_access(Identity("ann", claims={"role": ["admin"]})), ClientAccess)
    assert_type(await chat.client_access(Identity.anonymous()), ClientAccess)
    assert_type(await service.health(), bool)
