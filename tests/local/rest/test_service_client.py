"""Our output client and our service as a pair, over a socket: each operation is asked for by one, done by the other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection

from signalr_upstream import ServiceClient
from signalr_upstream.client import HubClient
from signalr_upstream.commands import CloseConnection, JoinGroup, SendMessage
from signalr_upstream.errors import InvalidRequestError, NotFoundError, UnauthorizedError
from signalr_upstream.local import LocalService

from ..test_service import connect, open_session

pytestmark = pytest.mark.anyio


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """It takes on every stream."""
    await Response(status_code=204)(scope, receive, send)


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService(app, experimental_streams=True) as service:
        yield service


@pytest.fixture
async def hub(service: LocalService) -> AsyncIterator[HubClient]:
    async with ServiceClient(service.connection_string) as client:
        yield client.hub("chat")


@pytest.fixture
async def client(service: LocalService) -> AsyncIterator[ClientConnection]:
    """A JSON client, user "ann"."""
    async with connect(service) as client:
        await open_session(client)
        yield client


def only_id(service: LocalService) -> str:
    [connection] = service.hub("chat").everybody()
    return connection.connection_id


async def test_sends_reach_the_client(
    service: LocalService, hub: HubClient, client: ClientConnection
) -> None:
    connection_id = only_id(service)
    await hub.groups.add("a/b", connection_id=connection_id)
    await hub.users.add_to_group("ann", group="gü", ttl=60)

    for number, target in enumerate(
        [
            hub.clients.all,
            hub.clients.group("a/b"),
            hub.clients.group("gü"),
            hub.clients.user("ann"),
            hub.clients.connection(connection_id),
        ]
    ):
        await target.send("t", number)
        assert await client.recv() == f'{{"type":1,"target":"t","arguments":[{number}]}}\x1e'
    await hub.clients.all_except([connection_id]).send("t", "not for us")
    assert await hub.users.in_group("ann", group="gü")
    assert await hub.groups.exists("a/b")
    await hub.groups.remove_from_all(connection_id=connection_id)
    assert not await hub.groups.exists("a/b")
    assert not await hub.connections.exists("nobody")
    assert not await hub.groups.add("g", connection_id="nobody")
    await hub.connections.close(connection_id, reason="bye")
    assert await client.recv() == '{"type":7,"error":"bye","allowReconnect":true}\x1e'


async def test_a_client_is_asked_and_answers(
    service: LocalService, hub: HubClient, client: ClientConnection
) -> None:
    target = hub.clients.connection(only_id(service))
    asking = asyncio.create_task(target.invoke("ask", 1, result_type=list[int]))
    assert await client.recv() == '{"type":1,"invocationId":"s1","target":"ask","arguments":[1]}\x1e'
    await client.send('{"type":3,"invocationId":"s1","result":[1,2]}\x1e')
    answer = await asking

    failing = asyncio.create_task(target.invoke("ask"))
    await client.recv()
    await client.send('{"type":3,"invocationId":"s2","error":"not now"}\x1e')

    assert answer == [1, 2]
    with pytest.raises(Exception, match="not now"):
        await failing
    with pytest.raises(NotFoundError):
        await hub.clients.connection("nobody").invoke("ask")


async def test_a_stream_is_fed(service: LocalService, hub: HubClient, client: ClientConnection) -> None:
    await client.send('{"type":4,"invocationId":"7","target":"count","arguments":[]}\x1e')
    await client.send('{"type":1,"invocationId":"8","target":"next","arguments":[]}\x1e')
    assert await client.recv() == '{"type":3,"invocationId":"8"}\x1e'
    target = hub.clients.connection(only_id(service))

    fed = [await target.send_item("7", {"a": 1}), await target.complete_stream("7", error="enough")]

    assert fed == [True, True]
    assert await client.recv() == '{"type":2,"invocationId":"7","item":{"a":1}}\x1e'
    assert await client.recv() == '{"type":3,"invocationId":"7","error":"enough"}\x1e'


async def test_commands_and_pages(service: LocalService, hub: HubClient, client: ClientConnection) -> None:
    commands: list[Any] = [JoinGroup("g"), SendMessage("t", [1])]
    await hub.execute(commands, filter="userId eq 'ann'")
    await hub.execute([CloseConnection("no")], filter="userId ne 'ann'")

    members = [(each.connection_id, each.user_id) async for each in hub.groups.connections("g")]

    assert members == [(only_id(service), "ann")]
    assert await client.recv() == '{"type":1,"target":"t","arguments":[1]}\x1e'
    with pytest.raises(InvalidRequestError, match="character 8"):
        await hub.execute(commands, filter="userId is 'ann'")


async def test_a_generated_token_is_one_of_the_services(service: LocalService, hub: HubClient) -> None:
    token = await hub.generate_token("bob", minutes=1)

    async with connect(service, Authorization=f"Bearer {token}") as client:
        await open_session(client)
        assert await hub.users.exists("bob")


async def test_frames_for_each_protocol_are_taken(service: LocalService, client: ClientConnection) -> None:
    async with ServiceClient(service.connection_string, protocols=("json", "messagepack")) as sender:
        await sender.hub("chat").clients.all.send("t", "ü")

    assert await client.recv() == '{"type":1,"target":"t","arguments":["ü"]}\x1e'


async def test_a_wrong_key_is_told_what_was_expected(service: LocalService) -> None:
    wrong = service.connection_string.replace("AccessKey=", f"AccessKey={'x' * 44};Old=")

    async with ServiceClient(wrong) as sender:
        with pytest.raises(UnauthorizedError, match="not signed with HS256 and the service's key"):
            await sender.hub("chat").clients.all.send("t")
