"""One app and two services: clients at both, replies to where the connection lives, one that dies and comes back."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, UpstreamApp
from signalr_upstream.connection_string import Endpoint
from signalr_upstream.errors import PartialDelivery
from signalr_upstream.local import LocalService
from signalr_upstream.router import DefaultRouter

from .conftest import Connect
from .people import Person, Served
from .processes import PATIENCE, free_port

pytestmark = pytest.mark.anyio

KEYS = ("n" * 44, "s" * 44)


class InTurn(DefaultRouter):
    """Clients go to one endpoint after the other."""

    def __init__(self) -> None:
        self._turn = itertools.count()

    def negotiate(self, endpoints: Sequence[Endpoint], *, hub: str, identity: Identity) -> Endpoint:
        return endpoints[next(self._turn) % len(endpoints)]


def make_app(chat: Hub, ports: tuple[int, int]) -> UpstreamApp:
    @chat.negotiate
    async def who(request: Request) -> Identity:
        return Identity(request.query_params["user"])

    @chat.on("connected")
    async def connected(ctx: Context) -> None:
        await ctx.groups.add("everybody")

    @chat.on("ready")
    async def ready(ctx: Context) -> None:
        """Answered when ``connected`` has been: messages of a connection go one after the other."""

    @chat.on("tellCaller")
    async def tell_caller(ctx: Context, text: str) -> None:
        await ctx.clients.caller.send("told", text)

    @chat.on("tellGroup")
    async def tell_group(ctx: Context, text: str) -> None:
        await ctx.clients.group("everybody").send("told", text)

    strings = [
        f"Endpoint=http://localhost;Port={port};AccessKey={key};Version=1.0;"
        for port, key in zip(ports, KEYS, strict=True)
    ]
    return UpstreamApp(chat, connection_string=strings, router=InTurn())


def about_connections(service: LocalService) -> list[str]:
    """Ids of the connections that the service was asked about."""
    return [
        call.path.split("/connections/")[1].split("/")[0]
        for call in service.rest_calls
        if "/connections/" in call.path
    ]


def ids(service: LocalService) -> set[str]:
    return {connection.connection_id for connection in service.hub("chat").everybody()}


async def test_two_services_one_of_which_dies_and_comes_back(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalr_upstream.rest.health.LOOK_AGAIN_EVERY", 0.1)
    chat, ports = Hub("chat"), (free_port(), free_port())
    app = make_app(chat, ports)

    async with Served(app) as served, contextlib.AsyncExitStack() as stack:

        def service(number: int) -> LocalService:
            upstream = served.url + "/{hub}/{category}/{event}"
            return LocalService(upstream=upstream, keys=[KEYS[number]], port=ports[number])

        async def join(user: str) -> Person:
            url = f"{served.url}/chat?user={user}"
            person = Person(await asyncio.to_thread(connect, "node-json", url, "told"))
            await person.invoke("ready")
            return person

        north = await stack.enter_async_context(service(0))
        south = await stack.enter_async_context(service(1))

        # Clients are at both, and both are told.
        ann, bob = await join("ann"), await join("bob")
        assert len(ids(north)) == len(ids(south)) == 1
        await chat.clients.all.send("told", "to all")
        await chat.clients.user("bob").send("told", "to bob")
        await ann.invoke("tellGroup", "to the group")
        await bob.invoke("tellCaller", "to bob again")
        assert [await ann.receive() for _ in range(2)] == [["told", "to all"], ["told", "to the group"]]
        expected = ["to all", "to bob", "to the group", "to bob again"]
        assert [await bob.receive() for _ in range(4)] == [["told", text] for text in expected]

        # What concerns a connection was asked only where it lives.
        assert set(about_connections(north)) == ids(north)
        assert set(about_connections(south)) == ids(south)

        # One dies: the other is told, and new clients go there.
        await north.aclose()
        await ann.wait_closed()
        with pytest.raises(PartialDelivery) as caught:
            await chat.clients.all.send("told", "one is gone")
        assert list(caught.value.errors) == [f"http://localhost:{ports[0]}"]
        await chat.clients.all.send("told", "it is left out")
        cid, dan = await join("cid"), await join("dan")
        assert len(ids(south)) == 3
        assert [await bob.receive() for _ in range(2)] == [
            ["told", "one is gone"],
            ["told", "it is left out"],
        ]

        # It comes back, and is used as before.
        north = await stack.enter_async_context(service(0))
        async with asyncio.timeout(PATIENCE):
            while not north.rest_calls:
                await chat.clients.all.send("told", "is it back?")
        eve, fay = await join("eve"), await join("fay")
        assert (len(ids(north)), len(ids(south))) == (1, 4)
        await chat.clients.group("everybody").send("told", "end")
        for person in (cid, dan, eve, fay):
            while (text := (await person.receive())[1]) != "end":
                assert text == "is it back?"
    await app.aclose()
