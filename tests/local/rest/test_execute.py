"""``:execute``: commands for the connections that a filter finds."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from signalr_upstream.local import LocalService

from ..doors import call, make
from ..handmade import connect

pytestmark = pytest.mark.anyio

EXECUTE = "/api/hubs/chat/:execute"
SEND = b'{"type":"SendMessage","message":{"target":"t","arguments":[1]}}'
SENT = b'{"type":1,"target":"t","arguments":[1]}\x1e'


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    service = make()
    yield service
    await service.aclose()


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("startswith(userId, 'listener-')", "ab"),  # rest-and-management.md 1.1 #21
        ("connectionId eq 'c' or 'g' in groups", "bc"),
        ("userId eq null", "c"),
        ("", "abc"),
        (" ", "abc"),
    ],
)
async def test_a_message_reaches_who_is_found(service: LocalService, filter_: str, found: str) -> None:
    users = {"a": "listener-1", "b": "listener-2", "c": None}
    clients = {name: await connect(service, connection_id=name, user_id=user) for name, user in users.items()}
    service.hub("chat").join("b", "g")

    response = await call(service, "POST", f"{EXECUTE}?filter={quote(filter_)}", b"[" + SEND + b"]")

    assert response.status_code == 202
    assert {name for name, client in clients.items() if client.take() == [SENT]} == set(found)


async def test_commands_are_carried_out_in_their_order_for_whom_the_filter_found_at_first(
    service: LocalService,
) -> None:
    one = await connect(service, connection_id="a", user_id="ann")
    two = await connect(service, connection_id="b", user_id="bob")
    hub = service.hub("chat")
    hub.join("a", "old")
    body = (
        b'[{"type":"LeaveGroup","group":"old"},{"type":"JoinGroup","group":"new"},'
        + SEND
        + b',{"type":"CloseConnection","reason":"bye"},{"type":"JoinGroup","group":"late"}]'
    )

    response = await call(service, "POST", f"{EXECUTE}?filter='old'%20in%20groups", body)

    assert response.status_code == 202
    assert one.take() == [SENT, b'{"type":7,"error":"bye","allowReconnect":true}\x1e']
    assert (one.gone, two.gone, two.take()) == (True, False, [])
    assert (hub.group("old"), hub.group("new"), hub.group("late")) == ([], [], [])


async def test_joining_and_leaving_changes_groups(service: LocalService) -> None:
    await connect(service, connection_id="a")
    hub = service.hub("chat")

    await call(service, "POST", EXECUTE, b'[{"type":"JoinGroup","group":"g"}]')
    joined = [member.connection_id for member in hub.group("g")]
    await call(service, "POST", EXECUTE, b'[{"type":"LeaveGroup","group":"g"}]')

    assert (joined, hub.group("g")) == (["a"], [])


@pytest.mark.parametrize(
    ("query", "kind", "body", "status", "said"),
    [
        ("?filter=userId%20eq", "application/json", b"[]", 400, "(character 10)"),
        ("", "application/json", b"[" + SEND + b',{"type":"Dance"}]', 400, "command 1"),
        (
            "",
            "application/json",
            b"[" + SEND + b',{"type":"SendMessage","message":{"target":"t","arguments":[1e999]}}]',
            400,
            "not valid JSON",
        ),
        ("", "application/x-msgpack", b"\x90", 415, "application/json"),
        ("", "application/json", b"", 400, "not a JSON array"),
    ],
)
async def test_nothing_is_done_where_something_is_wrong(
    service: LocalService, *, query: str, kind: str, body: bytes, status: int, said: str
) -> None:
    client = await connect(service)

    response = await call(service, "POST", EXECUTE + query, body, kind=kind)

    assert (response.status_code, client.take()) == (status, [])
    assert said in response.json()["message"]
