"""``signalr-upstream send`` and ``invoke``: clients of a local service get what the shell says."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from click.testing import Result

from signalr_upstream.local import LocalService

from .conftest import CONNECTION_STRING, Programs


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService() as service:
        yield service


async def run(programs: Programs, service: LocalService, *arguments: str) -> Result:
    # In a thread: the command has an event loop of its own.
    return await asyncio.to_thread(
        programs.run, *arguments, AzureSignalRConnectionString=service.connection_string
    )


@pytest.mark.parametrize(
    ("whom", "who"),
    [
        (["--all"], ["ann", "bob"]),
        (["--all", "--excluding", "<bob>"], ["ann"]),
        (["--group", "lobby"], ["ann", "bob"]),
        (["--group", "lobby", "--excluding", "<bob>"], ["ann"]),
        (["--group", "lobby", "--group", "room"], ["ann", "bob", "bob"]),
        (["--user", "ann"], ["ann"]),
        (["--connection-id", "<bob>"], ["bob"]),
    ],
)
@pytest.mark.anyio
async def test_a_message_reaches_whom_it_is_for(
    programs: Programs, service: LocalService, whom: list[str], who: list[str]
) -> None:
    clients = {name: await service.connect("chat", user_id=name) for name in ("ann", "bob")}
    hub = service.hub("chat")
    for group, members in {"lobby": ["ann", "bob"], "room": ["bob"]}.items():
        for name in members:
            hub.join(clients[name].connection_id, group)
    whom = [word.replace("<bob>", clients["bob"].connection_id) for word in whom]

    result = await run(programs, service, "send", "--hub", "chat", *whom, "say", '{"a": [1]}', "hello", "2")

    assert (result.exit_code, result.output) == (0, "")
    for name in who:
        assert await clients[name].receive() == ("say", [{"a": [1]}, "hello", 2])
    assert [client.waiting for client in clients.values()] == [[], []]


@pytest.mark.anyio
async def test_a_client_is_asked(programs: Programs, service: LocalService) -> None:
    ann = await service.connect("chat", user_id="ann")
    ann.on("add", lambda a, b: {"sum": a + b})

    result = await run(
        programs, service, "invoke", "--hub", "chat", "--connection-id", ann.connection_id, "add", "1", "2"
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"sum": 3}


@pytest.mark.anyio
async def test_a_client_that_is_gone_is_an_error(programs: Programs, service: LocalService) -> None:
    result = await run(programs, service, "invoke", "--hub", "chat", "--connection-id", "gone", "add")

    assert result.exit_code == 1
    assert "invoke_connection: the service answered 404" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say to whom"),
        (["--all", "--user", "ann"], "say to whom"),
        (["--user", "ann", "--excluding", "c1"], "--excluding goes with"),
        (["--group", "a", "--group", "b", "--excluding", "c1"], "--excluding goes with"),
    ],
)
def test_it_has_to_be_said_to_whom(programs: Programs, arguments: list[str], says: str) -> None:
    result = programs.run("send", "--hub", "chat", *arguments, "say")

    assert result.exit_code == 2
    assert says in result.output


def test_without_a_connection_string_nothing_is_sent(programs: Programs) -> None:
    result = programs.run("send", "--hub", "chat", "--all", "say")

    assert result.exit_code == 1
    assert "set AzureSignalRConnectionString" in result.output
    result = programs.run("send", "--hub", "chat", "--all", "--connection", "Other", "say")
    assert "set Other" in result.output


def test_an_argument_that_is_no_text_is_refused(programs: Programs) -> None:
    result = programs.run(
        "send", "--hub", "chat", "--all", "say", "\udcff", AzureSignalRConnectionString=CONNECTION_STRING
    )

    assert result.exit_code == 2
    assert "an argument is no text" in result.output
