"""Event streams and posts over real sockets: clients that vanish, fall silent, or do not finish what they say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from signalr_upstream.local import LocalService, request_body
from signalr_upstream.local.clock import ManualClock

from .echo_app import EchoApp
from .http_client import HANDSHAKE, HttpClient, event

pytestmark = pytest.mark.anyio

INVOKED = b'{"type":1,"invocationId":"0","target":"echo","arguments":[1]}\x1e'
ANSWERED = b'{"type":3,"invocationId":"0","result":[1]}\x1e'


@pytest.fixture
async def app() -> EchoApp:
    return EchoApp()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def service(app: EchoApp, clock: ManualClock) -> AsyncIterator[LocalService]:
    async with LocalService(app, clock=clock) as service:
        yield service


@pytest.fixture
async def http(service: LocalService) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {HttpClient(service).token}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False) as http:
        yield http


async def negotiate(http: httpx.AsyncClient) -> str:
    """The path of a new connection."""
    answer = await http.post("/client/negotiate?hub=chat&negotiateVersion=1")
    return f"/client/?hub=chat&id={answer.json()['connectionToken']}"


@asynccontextmanager
async def streaming(http: httpx.AsyncClient, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """An event stream whose handshake is over, and its chunks."""
    async with http.stream("GET", path, headers={"Accept": "text/event-stream"}, timeout=None) as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b":\r\n"
        await http.post(path, content=HANDSHAKE)
        assert await anext(chunks) == event(b"{}\x1e")
        yield chunks


async def told_of_the_end(app: EchoApp) -> None:
    while ("disconnected", None) not in app.events:  # noqa: ASYNC110 - a peer's end comes when the system says so
        await asyncio.sleep(0.01)


async def test_a_stream_answers_and_its_end_is_told_at_once(http: httpx.AsyncClient, app: EchoApp) -> None:
    path = await negotiate(http)
    async with streaming(http, path) as chunks:
        await http.post(path, content=INVOKED)
        assert await anext(chunks) == event(ANSWERED)

    await told_of_the_end(app)

    assert (await http.post(path, content=INVOKED)).status_code == 404


async def test_what_a_client_does_not_finish_is_not_waited_for(
    service: LocalService, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT", 0.05)
    path = await negotiate(http)
    await http.get(path)
    answers = []
    for target in ("/client/negotiate?hub=chat", path):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = (
            f"POST {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {http.headers['Authorization']}\r\n"
        )
        writer.write(f"{head}Content-Length: 100\r\n\r\nhalf a bo".encode())
        answers.append(await reader.readuntil(b"\r\n\r\n"))
        if len(answers) == 2:
            assert b"The body took over" in await reader.read()  # up to the end: the connection is closed
        writer.close()

    assert answers[0].startswith(b"HTTP/1.1 200 OK")
    assert answers[1].startswith(b"HTTP/1.1 408 Request Timeout")
    assert (await http.post(path, content=HANDSHAKE)).status_code == 200


async def test_a_socket_that_says_nothing_after_its_request_is_let_go(
    service: LocalService, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    token = http.headers["Authorization"].removeprefix("Bearer ")
    path = f"{await negotiate(http)}&access_token={token}"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    assert b"text/event-stream" in await reader.readuntil(b":\r\n\r\n")

    clock.advance(15)

    assert b"Handshake was canceled." in await reader.readuntil(b"0\r\n\r\n")
    writer.close()


async def test_a_client_that_closes_its_own_side_only_is_gone(
    service: LocalService, http: httpx.AsyncClient, app: EchoApp
) -> None:
    path = await negotiate(http)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
    writer.write(f"{head}Authorization: Bearer {HttpClient(service).token}\r\n\r\n".encode())
    await reader.readuntil(b":\r\n\r\n")
    await http.post(path, content=HANDSHAKE)
    await reader.readuntil(b"data: {}\x1e")

    writer.write_eof()
    await told_of_the_end(app)

    assert (await http.post(path, content=INVOKED)).status_code == 404
    writer.close()
    await writer.wait_closed()
