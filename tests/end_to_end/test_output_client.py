"""Every operation of the output client, at a strict service, with real clients at the other end."""

import datetime
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from signalr_upstream import Identity, ServiceClient
from signalr_upstream.claims import ClientAccess
from signalr_upstream.client import HubClient
from signalr_upstream.commands import CloseConnection, JoinGroup, LeaveGroup, SendMessage
from signalr_upstream.errors import ClientInvocationError, NotFoundError, ResultError
from signalr_upstream.local import LocalService, ManualClock

from .conftest import Connect
from .people import Door, Person, StreamTaker

pytestmark = pytest.mark.anyio

BOTH = ("node-json", "node-messagepack")


class Party(NamedTuple):
    """A service, a hub of it, who comes in, and what they call for."""

    service: LocalService
    hub: HubClient
    door: Door
    streams: StreamTaker
    clock: ManualClock

    async def join(self, user_id: str, library: str = "node-json") -> tuple[Person, str]:
        """A client of a user, and its connection id."""
        access = await self.hub.client_access(Identity(user_id))
        person = await self.door.let_in(access, "told", library=library)
        connected = self.service.hub("chat").user(user_id)
        return person, connected[-1].connection_id


@pytest.fixture(params=[("json",), ("json", "messagepack")], ids="+".join)
def protocols(request: pytest.FixtureRequest) -> Any:
    """What the bodies of sends are written in."""
    return request.param


@pytest.fixture
async def party(connect: Connect, protocols: Any) -> AsyncIterator[Party]:
    streams, clock = StreamTaker(), ManualClock(time.time() + 60)  # tokens are not from its future
    async with (
        LocalService(streams, experimental_streams=True, clock=clock) as service,
        ServiceClient(service.connection_string, protocols=protocols) as sender,
        Door(connect) as door,
    ):
        yield Party(service, sender.hub("chat"), door, streams, clock)


async def test_sends_reach_whom_they_are_for(party: Party) -> None:
    clients = party.hub.clients
    (ann, ann_id), (bob, bob_id) = await party.join("ann"), await party.join("bob", "node-messagepack")
    room = "tea/5 o'clock %2F é"
    assert await party.hub.groups.add(room, connection_id=ann_id)
    assert await party.hub.groups.add(room, connection_id=bob_id)

    targets = {
        "both": [
            clients.all,
            clients.group(room),
            clients.users(["ann", "bob"]),
            clients.connections([ann_id, bob_id]),
        ],
        "ann": [clients.user("ann"), clients.connection(ann_id), clients.all_except([bob_id])],
        "bob": [clients.user("bob"), clients.group(room, excluding=[ann_id]), clients.groups(["none", room])],
    }
    for whom, some in targets.items():
        for number, target in enumerate(some):
            await target.send("told", whom, number, "žluť 😀")
    await clients.all.send("told", "end")

    def heard(*whom: str) -> list[list[Any]]:
        return [["told", each, number, "žluť 😀"] for each in whom for number in range(len(targets[each]))]

    # The last of bob's reaches everybody in the room.
    assert [await ann.receive() for _ in range(9)] == [
        *heard("both", "ann"),
        heard("bob")[-1],
        ["told", "end"],
    ]
    assert [await bob.receive() for _ in range(8)] == [*heard("both", "bob"), ["told", "end"]]


@pytest.mark.parametrize("library", BOTH)
async def test_a_client_is_asked_and_its_answer_is_what_the_caller_expects(
    library: str, party: Party
) -> None:
    _, connection = await party.join("ann", library)
    target = party.hub.clients.connection(connection)

    assert await target.invoke("ask", 20, "é", result_type=tuple[str, int, str]) == ("answered", 20, "é")
    assert await target.invoke("ask", [1, None], {"a": 2.5}) == ["answered", [1, None], {"a": 2.5}]
    with pytest.raises(ResultError, match="expected int"):
        await target.invoke("ask", 20, result_type=list[int])
    with pytest.raises(ClientInvocationError, match="provide a result"):
        await target.invoke("nothing of that name")
    with pytest.raises(NotFoundError):
        await party.hub.clients.connection("nobody").invoke("ask")


@pytest.mark.parametrize("library", BOTH)
async def test_a_clients_stream_is_fed_and_ended(library: str, party: Party) -> None:
    ann, _ = await party.join("ann", library)
    call = ann.client.command("stream", target="counter", args=[3])
    connection, stream = await party.streams.next()
    target = party.hub.clients.connection(connection)

    assert await target.send_item(stream, {"number": 0})
    assert await target.send_item(stream, {"number": 1})
    assert await target.send_item(stream, {"number": 2}, completed=True)
    assert not await target.send_item(stream, {"number": 3})
    assert await ann.wait(call) == [{"number": number} for number in range(3)]

    failing = ann.client.command("stream", target="counter", args=[3])
    _, stream = await party.streams.next()
    assert await target.complete_stream(stream, error="enough")
    with pytest.raises(Exception, match="enough"):
        await ann.wait(failing)
    assert not await target.complete_stream(stream)
    assert not await party.hub.clients.connection("nobody").send_item(stream, 1)


async def test_commands_are_carried_out_for_whom_the_filter_fits(party: Party) -> None:
    (ann, ann_id), (bob, _) = await party.join("ann 1"), await party.join("bob", "node-messagepack")
    hub = party.hub

    await hub.execute([JoinGroup("a"), SendMessage("told", ["a", 1])], filter="startswith(userId, 'ann')")
    await hub.execute([SendMessage("told", ["not in a"])], filter="not ('a' in groups)")
    await hub.clients.group("a").send("told", "to the group")
    await hub.execute([LeaveGroup("a"), SendMessage("told", ["all"])])
    await hub.execute([CloseConnection("go home")], filter=f"connectionId eq '{ann_id}'")

    assert [await ann.receive() for _ in range(3)] == [
        ["told", "a", 1],
        ["told", "to the group"],
        ["told", "all"],
    ]
    assert [await bob.receive() for _ in range(2)] == [["told", "not in a"], ["told", "all"]]
    assert "go home" in (await ann.wait_closed() or "")
    assert not await hub.groups.exists("a")


async def test_the_connections_of_a_group_are_listed_page_by_page(party: Party) -> None:
    ids = {}
    for number, library in enumerate([*BOTH, *BOTH, BOTH[0]]):
        _, connection = await party.join(f"user {number}", library)
        ids[connection] = f"user {number}"
        await party.hub.groups.add("g", connection_id=connection)

    listed = [each async for each in party.hub.groups.connections("g", page_size=2)]
    some = [each async for each in party.hub.groups.connections("g", page_size=2, top=3)]

    assert {each.connection_id: each.user_id for each in listed} == ids
    assert len(listed) == 5
    assert len(some) == 3
    pages = [call for call in party.service.rest_calls if "/groups/g/connections?" in f"{call.path}?"]
    assert len([call for call in pages if call.method == "GET"]) == 3 + 2


async def test_who_is_told_to_go_goes_and_hears_why(party: Party) -> None:
    (ann, ann_id), (bob, bob_id) = await party.join("ann"), await party.join("bob", "node-messagepack")
    cid, cid_id = await party.join("cid", "node-messagepack")
    dan, dan_id = await party.join("dan")
    hub = party.hub
    for connection in (ann_id, bob_id):
        await hub.groups.add("g", connection_id=connection)

    await hub.groups.close_all("g", excluding=[bob_id], reason="the group is closed")
    assert "the group is closed" in (await ann.wait_closed() or "")
    await hub.users.close_all("bob", reason="bob has to go")
    assert "bob has to go" in (await bob.wait_closed() or "")
    assert await hub.connections.close(cid_id, reason="one of many")
    assert "one of many" in (await cid.wait_closed() or "")
    await hub.close_all(excluding=[dan_id], reason="nobody is left")
    await hub.clients.all.send("told", "still here")
    assert await dan.receive() == ["told", "still here"]
    await hub.close_all(reason="good night")
    assert "good night" in (await dan.wait_closed() or "")


async def test_a_user_is_in_a_group_for_its_time_with_every_connection(party: Party) -> None:
    hub = party.hub
    ann, ann_id = await party.join("ann")
    await hub.users.add_to_group("ann", group="g", ttl=20)
    again, _ = await party.join("ann", "node-messagepack")

    await hub.clients.group("g").send("told", 1)
    assert await hub.users.in_group("ann", group="g")
    await hub.groups.remove_from_all(connection_id=ann_id)
    await hub.clients.group("g").send("told", 2)
    party.clock.advance(21)
    assert not await hub.users.in_group("ann", group="g")
    await hub.users.add_to_group("ann", group="h")
    await hub.users.add_to_group("ann", group="i")
    await hub.users.remove_from_group("ann", group="h")
    await hub.clients.groups(["h", "i"]).send("told", 3)
    await hub.users.remove_from_all_groups("ann")
    await hub.clients.groups(["h", "i"]).send("told", 4)
    await hub.clients.all.send("told", 5)

    assert [await ann.receive() for _ in range(3)] == [["told", number] for number in (1, 3, 5)]
    assert [await again.receive() for _ in range(4)] == [["told", number] for number in (1, 2, 3, 5)]


async def test_what_is_there_and_what_is_not(party: Party) -> None:
    _, connection = await party.join("ann")
    hub = party.hub
    await hub.groups.add("g", connection_id=connection)

    assert await hub.connections.exists(connection)
    assert await hub.users.exists("ann")
    assert await hub.groups.exists("g")
    await hub.groups.remove("g", connection_id=connection)
    assert not await hub.groups.exists("g")
    assert not await hub.groups.add("g", connection_id="nobody")
    assert not await hub.connections.exists("nobody")
    assert not await hub.users.exists("bob")
    async with ServiceClient(party.service.connection_string) as sender:
        assert await sender.health()


async def test_a_token_that_the_service_made_lets_a_client_in(party: Party) -> None:
    token = await party.hub.generate_token("bob", minutes=5)
    url = f"{party.service.url}/client/?hub=chat"

    bob = await party.door.let_in(ClientAccess(url, token), "told", library="node-messagepack")
    await party.hub.clients.user("bob").send("told", "by the service's token")

    assert await bob.receive() == ["told", "by the service's token"]


@pytest.mark.parametrize("protocols", [("json", "messagepack")], indirect=True)
async def test_bytes_times_and_integers_reach_messagepack_clients_exactly(party: Party) -> None:
    node, connection = await party.join("ann", "node-messagepack")
    python, _ = await party.join("bob", "pysignalr-messagepack")
    json_client, _ = await party.join("cid", "node-json")
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789_000, datetime.UTC)
    safe = [2**53 - 1, -(2**53) + 1, 2**32, -(2**31) - 1]  # all that JavaScript's numbers hold
    large = [2**63 - 1, -(2**63), 2**64 - 1]

    await party.hub.clients.all.send("told", b"\x00\xff\xc1", when, safe, {"k": b""})
    await party.hub.clients.user("bob").send("told", large, when.replace(microsecond=789_012))

    shown = {"time": "2026-02-03T04:05:06.789Z"}
    assert await node.receive() == ["told", {"bytes": "00ffc1"}, shown, safe, {"k": {"bytes": ""}}]
    shown = {"time": "2026-02-03T04:05:06.789000+00:00"}
    assert await python.receive() == ["told", {"bytes": "00ffc1"}, shown, safe, {"k": {"bytes": ""}}]
    assert await python.receive() == ["told", large, {"time": "2026-02-03T04:05:06.789012+00:00"}]
    # JSON has neither: base64 and ISO 8601, as .NET writes them.
    assert await json_client.receive() == ["told", "AP/B", "2026-02-03T04:05:06.789000Z", safe, {"k": ""}]
    target = party.hub.clients.connection(connection)
    assert await target.invoke("ask", b"\x01", result_type=tuple[str, bytes]) == ("answered", b"\x01")
