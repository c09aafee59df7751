"""What goes wrong when it is told to, and what goes on as before."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import websockets
from msgspec import Raw
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock, Timer
from signalr_upstream.local.faults import Faults, FaultSettings, pause
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.rest.outgoing import Outgoing
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.protocol.messages import Completion, Invocation

pytestmark = pytest.mark.anyio

KEY = "k" * 44
ANN = Caller("c1", "chat", "ann", (), "?hub=chat")
ECHO = Invocation("echo", Raw(b"[]"), "0")
SEND = "/api/hubs/chat/:send?api-version=2024-12-01"


class App(httpx.AsyncBaseTransport):
    """Answers each call with its number."""

    def __init__(self) -> None:
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        body = {"type": 3, "invocationId": "0", "result": self.calls}
        return httpx.Response(200, content=json.dumps(body).encode() + b"\x1e")


class WatchedClock(ManualClock):
    """Tells when somebody has begun to wait for it."""

    def __init__(self) -> None:
        super().__init__(time.time())
        self.waiting = asyncio.Semaphore(0)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self.waiting.release()
        return super().call_at(when, callback)


def upstream(faults: Faults) -> tuple[App, Upstream, Journal]:
    app, journal = App(), Journal(ManualClock())
    return (
        app,
        Upstream(
            rules=Rules("http://localhost/{event}"), keys=[KEY], transport=app, journal=journal, faults=faults
        ),
        journal,
    )


# --- calls to the app ---


async def test_a_status_is_taken_for_the_apps_answer() -> None:
    app, service, journal = upstream(Faults(upstream_status=503))

    completion = await service.call(ANN, ECHO, binary=False)

    assert completion == Completion("0", error="Invocation failed, status code 503")
    assert app.calls == 0
    [call] = journal.upstream_calls
    assert call.answer is not None
    assert (call.answer.status, call.answer.headers) == (503, ((b"X-Injected-Fault", b"upstream_status"),))


async def test_a_duplicate_calls_the_app_twice_and_the_second_answer_counts() -> None:
    app, service, journal = upstream(Faults(upstream_duplicate=True))

    completion = await service.call(ANN, ECHO, binary=False)

    assert completion == Completion("0", result=Raw(b"2"))
    assert app.calls == 2
    first, second = journal.upstream_calls
    assert first.request == second.request
    assert [json.loads(call.answer.body[:-1])["result"] for call in (first, second) if call.answer] == [1, 2]


async def test_a_call_waits_for_the_latency_that_is_set() -> None:
    clock = WatchedClock()
    faults = Faults(upstream_latency=2.5)
    app = App()
    service = Upstream(
        rules=Rules("http://localhost/{event}"),
        keys=[KEY],
        transport=app,
        journal=Journal(clock),
        faults=faults,
    )
    calling = asyncio.create_task(service.call(ANN, ECHO, binary=False))
    await clock.waiting.acquire()
    clock.advance(2.4)
    await asyncio.sleep(0)
    early = app.calls

    clock.advance(0.1)
    await calling

    assert (early, app.calls) == (0, 1)


async def test_no_latency_waits_for_nothing() -> None:
    with pytest.raises(StopIteration):
        pause(ManualClock(), 0.0).send(None)


# --- requests ---


def http(service: LocalService, path: str) -> httpx.AsyncClient:
    token = encode_token({"aud": f"http://localhost{path}", "exp": time.time() + 60}, KEY)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(service.asgi),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {token}"},
    )


async def rest(service: LocalService) -> httpx.Response:
    async with http(service, "/api/hubs/chat/:send") as client:
        return await client.post(SEND, json={"target": "t", "arguments": []})


async def negotiate(service: LocalService) -> httpx.Response:
    async with http(service, "/client/?hub=chat") as client:
        return await client.post("/client/negotiate?hub=chat&negotiateVersion=1")


@pytest.mark.parametrize(("status", "retry_after"), [(429, "7"), (503, "7"), (500, None), (599, None)])
async def test_rest_calls_are_refused_and_clients_are_not(status: int, retry_after: str | None) -> None:
    service = LocalService(keys=[KEY])
    service.faults.rest_status = status
    service.faults.rest_retry_after = 7

    refused = await rest(service)

    assert (refused.status_code, refused.headers.get("retry-after")) == (status, retry_after)
    assert refused.headers["x-injected-fault"] == "rest_status"
    assert (await negotiate(service)).status_code == 200
    assert service.rest_calls[0].answer is not None
    assert service.rest_calls[0].answer.status == status


async def test_clients_are_refused_and_rest_calls_are_not() -> None:
    service = LocalService(keys=[KEY])
    service.faults.client_status = 429
    service.faults.client_retry_after = 3

    refused = await negotiate(service)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.headers["x-injected-fault"] == "client_status"
    assert (await rest(service)).status_code == 202


@pytest.mark.parametrize("lenient", [False, True])
async def test_tokens_are_taken_for_expired(lenient: bool) -> None:
    service = LocalService(keys=[KEY], lenient=lenient)
    service.faults.rest_token_expired = True
    statuses = [(await rest(service)).status_code, (await negotiate(service)).status_code]
    service.faults.clear()
    service.faults.client_token_expired = True

    expired = await negotiate(service)

    assert statuses == [401, 200]
    assert expired.status_code == 401
    assert (
        'error="invalid_token", error_description="The token expired' in expired.headers["www-authenticate"]
    )
    assert (await rest(service)).status_code == 202


async def test_requests_wait_for_the_latency_of_their_kind() -> None:
    clock = WatchedClock()
    service = LocalService(keys=[KEY], clock=clock)
    service.faults.rest_latency = 1.0
    service.faults.client_latency = 2.0
    requests = [asyncio.create_task(rest(service)), asyncio.create_task(negotiate(service))]
    for _ in requests:
        await clock.waiting.acquire()
    clock.advance(1.0)
    first = await requests[0]
    waits = not requests[1].done()
    clock.advance(1.0)

    assert (first.status_code, waits, (await requests[1]).status_code) == (202, True, 200)


# --- clients ---


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService(keys=[KEY]) as service:
        yield service


def connect(service: LocalService) -> Any:
    claims = {"aud": f"{service.url}/client/?hub=chat", "exp": time.time() + 60}
    return websockets.connect(
        f"ws://127.0.0.1:{service.port}/client/?hub=chat",
        additional_headers={"Authorization": f"Bearer {encode_token(claims, KEY)}"},
        proxy=None,
    )


async def shake_hands(service: LocalService, client: ClientConnection) -> str:
    """The connection's id."""
    await client.send('{"protocol":"json","version":1}\x1e')
    assert await client.recv() == "{}\x1e"
    return service.hub("chat").everybody()[-1].connection_id


async def test_a_dropped_client_gets_no_close_and_the_others_stay(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(service) as dropped, connect(service) as other:
        connection_id = await shake_hands(service, dropped)
        await shake_hands(service, other)

        assert service.faults.drop(connection_id)
        with pytest.raises(ConnectionClosedError) as end:
            await dropped.recv()

        assert end.value.rcvd is None  # not even a close frame: code 1006
        assert [c.connection_id == connection_id for c in service.hub("chat").everybody()] == [False]
        await other.send('{"type":1,"invocationId":"1","target":"t","arguments":[]}\x1e')
        assert "no upstream app" in await other.recv()
    assert not service.faults.drop(connection_id)
    assert "does not read" not in caplog.text


async def test_a_held_client_gets_everything_when_it_is_released(service: LocalService) -> None:
    async with connect(service) as client:
        connection_id = await shake_hands(service, client)
        connection = service.hub("chat").connection(connection_id)
        assert connection is not None

        assert service.faults.hold(connection_id)
        assert service.faults.hold(connection_id)  # once is enough
        for number in range(3):
            connection.send(_message(number))
        held = service.faults.held
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.05)
        service.faults.release(connection_id)

        assert held == {connection_id}
        assert [json.loads((await client.recv())[:-1])["arguments"] for _ in range(3)] == [[0], [1], [2]]
        assert service.faults.held == frozenset()
        service.faults.release(connection_id)
        service.faults.hold(connection_id)
        connection.send(_message(3))
        service.faults.clear()
        assert "[3]" in await client.recv()


async def test_a_held_client_is_cut_off_like_any_that_does_not_read(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(service) as client:
        connection_id = await shake_hands(service, client)
        connection = service.hub("chat").connection(connection_id)
        assert connection is not None
        service.faults.hold(connection_id)

        for _ in range(6):
            connection.send(_message("x" * 1_000_000))
        with pytest.raises(ConnectionClosedError):
            await client.recv()

    assert "does not read what is sent to it" in caplog.text
    assert service.faults.held == frozenset()
    assert not service.faults.hold(connection_id)


async def test_a_client_is_refused_at_the_opening_of_its_transport(service: LocalService) -> None:
    service.faults.client_status = 503

    with pytest.raises(InvalidStatus) as refused:
        await connect(service)

    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"] == "1"


class Line:
    """The end of a transport."""

    def __init__(self) -> None:
        self.broken = False

    def abort(self) -> None:
        self.broken = True

    def hold_back(self, released: asyncio.Event) -> None:
        raise AssertionError


def test_a_client_that_came_back_is_reached_on_its_new_transport() -> None:
    faults, old, new = Faults(), Line(), Line()
    with faults.reaching("c", old), ExitStack() as later:
        later.enter_context(faults.reaching("c", new))
        kept = later.pop_all()  # the old transport ends before the new one does

    with kept:
        assert faults.drop("c")
    assert (old.broken, new.broken) == (False, True)
    assert not faults.drop("c")


# --- settings ---


def test_settings_are_changed_together_and_cleared() -> None:
    faults = Faults()

    faults.change(FaultSettings(upstream_status=500, client_latency=1.0))
    changed = (faults.upstream_status, faults.client_latency)
    faults.clear()

    assert changed == (500, 1.0)
    assert faults == Faults()


def _message(value: object) -> Outgoing:
    return Outgoing.json("t", json.dumps([value]).encode())
