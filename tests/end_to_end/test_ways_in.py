"""How a client gets in: without an access key, through reverse proxies, to an application's hub; and for how long."""

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, ServiceClient, UpstreamApp, role
from signalr_upstream.local import LocalService, ManualClock, UpstreamTemplate

from .conftest import Connect
from .people import Door, Person, Served
from .processes import free_port

pytestmark = pytest.mark.anyio

PATH = "/{hub}/{category}/{event}"


def make_hub() -> Hub:
    chat = Hub("chat")

    @chat.negotiate
    async def who(request: Request) -> Identity:
        return Identity("ann", claims={"role": ["admin"]})

    @chat.on("tell", require=role("admin"))
    async def tell(ctx: Context, text: str) -> str:
        await ctx.clients.caller.send("told", text)
        return f"{ctx.user_id} said {text}"

    return chat


class AsyncCredential:
    """A credential as those of ``azure.identity.aio``; its tokens are those of a service's own issuer."""

    service: LocalService

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        self.asked.append(scopes)
        return self.service.credential.get_token(*scopes)


class SyncCredential(AsyncCredential):
    """A credential as those of ``azure.identity``, which blocks."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        self.asked.append(scopes)
        return self.service.credential.get_token(*scopes)


class Prefix:
    """A reverse proxy that serves one service below ``/signalr``, as plain bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> "Prefix":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://localhost:{self._server.sockets[0].getsockname()[1]}/signalr"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [(reader, far_writer), (far_reader, writer)]
        pumps = [asyncio.create_task(self._pump(source, sink)) for source, sink in ways]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, far_writer):
            end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data.replace(b" /signalr/", b" /", 1))
            await sink.drain()


async def join(connect: Connect, url: str) -> Person:
    return Person(await asyncio.to_thread(connect, "node-json", url, "told"))


@pytest.mark.parametrize("kind", [AsyncCredential, SyncCredential])
async def test_entra_id_in_place_of_access_keys_from_negotiate_to_the_answer(
    kind: type[AsyncCredential], connect: Connect
) -> None:
    chat, port, key, credential = make_hub(), free_port(), "k" * 44, kind()
    app = UpstreamApp(
        chat,
        connection_string=f"Endpoint=http://localhost;Port={port};Version=1.0;",
        credential=credential,
        upstream_keys=[key],
        seal_key="s" * 44,
    )
    async with (
        Served(app) as served,
        LocalService(upstream=served.url + PATH, port=port, keys=[key]) as service,
    ):
        credential.service = service
        people = [await join(connect, f"{served.url}/chat") for _ in range(2)]

        for person in people:
            assert await person.invoke("tell", "hello") == "ann said hello"
            assert await person.receive() == ["told", "hello"]
        await chat.clients.user("ann").send("told", "both")
        assert [await person.receive() for person in people] == [["told", "both"]] * 2

        assert credential.asked == [("https://signalr.azure.com/.default",)]
        assert [call.path for call in service.rest_calls].count("/api/auth/accessKey") == 1
        assert {call.status for call in service.rest_calls} == {200, 202}
        await app.aclose()


async def test_a_service_behind_reverse_proxies(connect: Connect) -> None:
    async with LocalService() as service, Prefix(service.port) as front, Prefix(service.port) as back:
        string = f"{service.connection_string}ClientEndpoint={front.url};ServerEndpoint={back.url};"
        async with ServiceClient(string) as sender, Door(connect) as door:
            hub = sender.hub("chat")
            access = await hub.client_access(Identity("ann"))
            assert access.url == f"{front.url}/client/?hub=chat"

            ann = await door.let_in(access, "told", library="node-messagepack")
            await hub.clients.user("ann").send("told", "through both")

            assert await ann.receive() == ["told", "through both"]
            assert front.connections >= 1
            assert back.connections == 1


async def test_applications_that_share_a_service_do_not_meet(connect: Connect) -> None:
    hubs, port, key = (make_hub(), make_hub()), free_port(), "k" * 44
    string = f"Endpoint=http://localhost;Port={port};AccessKey={key};Version=1.0;"
    north, south = (
        UpstreamApp(hub, connection_string=string, application=name)
        for hub, name in zip(hubs, ("North", "South"), strict=True)
    )
    async with Served(north) as at_north, Served(south) as at_south:
        templates = [
            UpstreamTemplate(at_north.url + PATH, hub="north_chat"),
            UpstreamTemplate(at_south.url + PATH, hub="south_chat"),
        ]
        async with LocalService(upstream=templates, port=port, keys=[key]):
            ann, bob = [await join(connect, f"{served.url}/chat") for served in (at_north, at_south)]

            assert await ann.invoke("tell", "north") == "ann said north"
            assert await bob.invoke("tell", "south") == "ann said south"
            await hubs[0].clients.user("ann").send("told", "to north")
            await hubs[1].clients.all.send("told", "to south")

            assert [await ann.receive() for _ in range(2)] == [["told", "north"], ["told", "to north"]]
            assert [await bob.receive() for _ in range(2)] == [["told", "south"], ["told", "to south"]]
            await north.aclose()
            await south.aclose()


async def test_a_connection_ends_with_the_login_behind_it(connect: Connect) -> None:
    now = time.time()
    clock = ManualClock(now + 1)  # a client that is silent for 30 seconds is gone anyway
    async with (
        LocalService(clock=clock) as service,
        ServiceClient(service.connection_string) as sender,
        Door(connect) as door,
    ):
        hub = sender.hub("chat")
        ends = now + 21
        login = Identity("ann", expires_at=ends, close_on_expiration=True)
        ann = await door.let_in(await hub.client_access(login), "told")
        only_token = Identity("bob", expires_at=ends)
        bob = await door.let_in(await hub.client_access(only_token), "told")

        clock.advance(18)
        await hub.clients.all.send("told", "shortly before")
        clock.advance(3)
        await ann.wait_closed()
        await hub.clients.all.send("told", "afterwards")

        assert await ann.receive() == ["told", "shortly before"]
        assert [await bob.receive() for _ in range(2)] == [
            ["told", "shortly before"],
            ["told", "afterwards"],
        ]
        assert not await hub.users.exists("ann")
