"""What users of the real client libraries see: results, errors, messages, groups, ends."""

import secrets
from urllib.parse import urlencode

import pytest

from .clients import LIBRARIES, CallError, Client
from .conftest import Connect

METHODS = ("told", "gone", "turnedAway")

every_library = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture
def join_as(connect: Connect, handlers_url: str) -> "JoinAs":
    return JoinAs(connect, f"{handlers_url}/tests_{secrets.token_hex(4)}")


class JoinAs:
    """``join_as("ann", "node-json", role="admin")``: a connected client of the hub in ``handlers.py``."""

    def __init__(self, connect: Connect, hub_url: str) -> None:
        self._connect = connect
        self._hub_url = hub_url

    def __call__(self, user: str, library: str = "node-json", **claims: str) -> Client:
        return self._connect(library, f"{self._hub_url}?{urlencode({'user': user, **claims})}", *METHODS)


def connection_id(client: Client) -> str:
    return str(client.invoke("whoAmI")["connection"])


@every_library
def test_invoke_gives_what_the_handler_returns(library: str, join_as: JoinAs) -> None:
    client = join_as("Žofie & co", library)
    values = [1, -1, 2**40, 2.5, "žluť 😀", "", None, True, [], [[1]], {"a": {"b": [None]}}, "x" * 100_000]

    assert client.invoke("echo", *values) == values
    assert client.invoke("echo") == []
    assert client.invoke("add", 2, 3) == 5
    assert client.invoke("ADD", 2, 3) == 5
    assert client.invoke("nothing") is None
    assert client.invoke("whoAmI")["user"] == "Žofie & co"


@every_library
def test_invoke_is_rejected_with_a_text_that_a_person_can_read(library: str, join_as: JoinAs) -> None:
    client = join_as("ann", library)

    with pytest.raises(CallError, match=r"Not on Mondays\."):
        client.invoke("refuse")
    with pytest.raises(CallError, match="argument 2 `right`: expected int"):
        client.invoke("add", 2, "three")
    with pytest.raises(CallError, match=r"You are not allowed to do this\."):
        client.invoke("rule")
    with pytest.raises(CallError, match="status code 404"):
        client.invoke("noSuchMethod")
    assert client.invoke("add", 2, 3) == 5


@pytest.mark.parametrize("library", ["node-json", "node-messagepack"])
def test_a_stream_that_the_service_does_not_forward_ends_with_a_text_that_says_so(
    library: str, join_as: JoinAs
) -> None:
    client = join_as("ann", library)

    with pytest.raises(CallError, match=r"does not pass stream\(\) on to the app"):
        client.command("stream", target="counter", args=[3]).wait()


@every_library
def test_what_an_unexpected_exception_says_stays_on_the_server(library: str, join_as: JoinAs) -> None:
    client = join_as("ann", library)

    with pytest.raises(CallError, match=r"The call failed on the server\.") as caught:
        client.invoke("crash")

    assert "swordfish" not in str(caught.value)


@every_library
def test_send_asks_for_no_answer_and_is_carried_out(library: str, join_as: JoinAs) -> None:
    client = join_as("ann", library)

    client.send("crash")
    client.send("tellAll", "after a crash")

    assert client.receive() == ["told", "after a crash"]


def test_several_invocations_under_way_get_each_its_own_answer(join_as: JoinAs) -> None:
    client = join_as("ann")

    calls = [client.start("add", number, number) for number in range(20)]

    assert [call.wait() for call in calls] == [2 * number for number in range(20)]


def test_every_client_hears_a_broadcast_of_every_other(join_as: JoinAs) -> None:
    clients = [join_as(library, library) for library in LIBRARIES]

    for sender, library in zip(clients, LIBRARIES, strict=True):
        sender.invoke("tellAll", f"{library} žluť 😀")
        assert [client.receive() for client in clients] == [["told", f"{library} žluť 😀"]] * len(clients)


def test_others_and_exclusions_leave_out_whom_they_say(join_as: JoinAs) -> None:
    ann, bob, cid = join_as("ann"), join_as("bob", "node-messagepack"), join_as("cid", "pysignalr-json")

    ann.invoke("tellOthers", "to all but ann")
    bob.invoke("tellAllExcept", [connection_id(ann), connection_id(cid)], "to bob")
    cid.invoke("tellCaller", "to cid")
    ann.invoke("tellAll", "to all")

    assert ann.receive() == ["told", "to all"]
    assert [bob.receive() for _ in range(3)] == [
        ["told", f"to {who}"] for who in ("all but ann", "bob", "all")
    ]
    assert [cid.receive() for _ in range(3)] == [
        ["told", f"to {who}"] for who in ("all but ann", "cid", "all")
    ]


def test_a_user_is_reached_on_all_connections_and_nobody_else_is(join_as: JoinAs) -> None:
    ann, ann_too, bob = (
        join_as("ann"),
        join_as("ann", "signalrcore-messagepack"),
        join_as("Ann", "node-messagepack"),
    )

    bob.invoke("tellUser", "ann", "to ann")
    bob.invoke("tellConnection", connection_id(ann_too), "to one connection")
    bob.invoke("tellAll", "to all")

    assert [ann.receive() for _ in range(2)] == [["told", "to ann"], ["told", "to all"]]
    assert [ann_too.receive() for _ in range(3)] == [
        ["told", "to ann"],
        ["told", "to one connection"],
        ["told", "to all"],
    ]
    assert bob.receive() == ["told", "to all"]


def test_a_group_is_reached_while_one_is_in_it(join_as: JoinAs) -> None:
    ann, bob = join_as("ann"), join_as("bob", "node-messagepack")
    group = "tea/5 o'clock %2F é"  # every layer escapes it once

    assert ann.invoke("join", group) is True
    assert bob.invoke("join", group) is True
    ann.invoke("tellGroup", group, "to both")
    ann.invoke("tellOthersInGroup", group, "to bob")
    bob.invoke("leave", group)
    ann.invoke("tellGroup", group, "to ann")
    ann.invoke("leave", group)
    ann.invoke("tellGroup", group, "to nobody")

    assert ann.invoke("groupExists", group) is False
    ann.invoke("tellAll", "to all")
    assert [ann.receive() for _ in range(3)] == [["told", "to both"], ["told", "to ann"], ["told", "to all"]]
    assert [bob.receive() for _ in range(3)] == [["told", "to both"], ["told", "to bob"], ["told", "to all"]]


def test_a_user_in_a_group_is_in_it_with_the_next_connection_too(join_as: JoinAs) -> None:
    ann, bob = join_as("ann"), join_as("bob", "node-messagepack")

    assert ann.invoke("addUser", "bob", "staff") is True
    bob_too = join_as("bob", "pysignalr-messagepack")
    ann.invoke("tellGroup", "staff", "to bob")

    assert bob.receive() == ["told", "to bob"]
    assert bob_too.receive() == ["told", "to bob"]


@every_library
def test_a_refused_connected_really_is_gone(library: str, join_as: JoinAs) -> None:
    watcher = join_as("watcher")

    banned = join_as("banned", library)
    what, connection = watcher.receive()

    assert what == "turnedAway"
    banned.wait_closed()
    assert watcher.receive() == ["gone", "banned"]
    assert watcher.invoke("connectionExists", connection) is False
    assert watcher.invoke("userExists", "banned") is False
    assert watcher.invoke("userExists", "watcher") is True


def test_the_official_client_is_told_why_it_was_refused(join_as: JoinAs) -> None:
    assert "You are banned." in (join_as("banned").wait_closed() or "")


@every_library
def test_others_see_that_a_client_has_left(library: str, join_as: JoinAs) -> None:
    watcher = join_as("watcher")
    leaver = join_as("leaver", library)
    assert leaver.invoke("add", 1, 1) == 2

    leaver.stop()

    assert watcher.receive() == ["gone", "leaver"]


@every_library
def test_a_closed_connection_is_closed_for_its_client(library: str, join_as: JoinAs) -> None:
    ann, bob = join_as("ann"), join_as("bob", library)

    assert ann.invoke("kick", connection_id(bob)) is True

    bob.wait_closed()
    assert ann.receive() == ["gone", "bob"]


def test_a_role_comes_from_negotiate_and_from_no_crafted_text(join_as: JoinAs) -> None:
    assert join_as("ann", role="admin").invoke("rule") == "as you wish"

    forgers = [
        join_as("bob", role="user"),
        join_as("bob", name="Doe, role: admin"),
        join_as("bob, role: admin"),
    ]
    for forger in forgers:
        with pytest.raises(CallError, match="not allowed"):
            forger.invoke("rule")
