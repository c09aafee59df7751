"""An app in this process: what it sees of a request, of the end of one, and of its lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp

from signalr_upstream.local.upstream import app_transport as module
from signalr_upstream.local.upstream.app_transport import AppTransport, CallerLeftError

pytestmark = pytest.mark.anyio

URL = "http://app.localhost/chat/messages/a%2Fb?code=a%20b"


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=AppTransport(app))


async def start(send: Any, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-a", b"b")]})


async def test_a_request_arrives_as_a_server_passes_it_on() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope, await receive()))
        await start(send, 201)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        seen.append(await receive())

    async with client(app) as http:
        response = await http.post(URL, content=b"body", headers={"X-A": "b"})

    assert (response.status_code, response.headers["x-a"], response.content) == (201, "b", b"ab")
    scope, message, last = seen
    assert message == {"type": "http.request", "body": b"body", "more_body": False}
    assert last == {"type": "http.disconnect"}
    assert (scope["method"], scope["path"]) == ("POST", "/chat/messages/a/b")
    assert (scope["raw_path"], scope["query_string"]) == (b"/chat/messages/a%2Fb", b"code=a%20b")
    assert (scope["server"], scope["scheme"], scope["root_path"]) == (("app.localhost", 80), "http", "")
    assert (b"x-a", b"b") in scope["headers"]
    assert "state" not in scope  # no lifespan was run


async def test_a_request_has_a_context_of_its_own() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("inside")
        await start(send)
        await send({"type": "http.response.body"})

    async with client(app) as http:
        await http.get(URL)
        variable.set("caller's")
        await http.get(URL)

    assert seen == ["outside", "caller's"]
    assert variable.get() == "caller's"


@pytest.mark.parametrize("leave", ["cancelled", "closed"])
async def test_an_app_whose_caller_left_is_told_and_not_cancelled(leave: str) -> None:
    waits, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if leave == "closed":
            await start(send)
        waits.set()
        assert await receive() == {"type": "http.disconnect"}
        with pytest.raises(CallerLeftError):
            await send({"type": "http.response.body"})
        told.set()

    transport = AppTransport(app)
    call = asyncio.create_task(transport.handle_async_request(httpx.Request("POST", URL)))
    await waits.wait()
    if leave == "cancelled":
        call.cancel()
        await asyncio.wait([call])
    else:
        await (await call).aclose()
    await asyncio.wait_for(told.wait(), 5)
    await transport.aclose()


@pytest.mark.parametrize("app_waits", [False, True])
async def test_an_answer_that_nobody_reads_on_is_not_produced_on(
    app_waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    produced = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            if produced == 12:  # ten are read, one is in the queue, and this one waits for its place
                blocked.set()
            yield b"x"

    blocked = asyncio.Event()
    transport = AppTransport(StreamingResponse(chunks()))
    response = await transport.handle_async_request(httpx.Request("POST", URL))
    read = 0
    async for _ in response.stream:  # type: ignore[union-attr]  # always async here
        read += 1
        if read == 10:
            break
    if app_waits:
        await blocked.wait()
    await response.aclose()
    await transport.aclose()

    assert read <= produced <= read + 3
    assert caplog.text == ""


async def test_an_app_that_raises_or_says_nothing_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no such table")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"x"})

    for app in (broken, silent, wrong):
        async with client(app) as http:
            assert (await http.post(URL)).status_code == 500
    assert "no such table" in caplog.text


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async with client(app) as http:
        with pytest.raises(httpx.ReadError, match="broke off"):
            await http.post(URL)


async def test_what_is_still_running_at_the_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.01)
    cancelled = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal cancelled
        await start(send)
        await send({"type": "http.response.body"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async with client(app) as http:
        await http.post(URL)

    assert cancelled
