"""Connected and disconnected: refused clients are gone, and failures do not come back as a retry."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from signalr_upstream import Context, Forbidden, Hub, HubError, UpstreamApp, role
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    RestService,
    connect,
    detail,
    disconnect,
)

pytestmark = pytest.mark.anyio


def on_connected(function: Callable[..., Any], service: RestService, **options: Any) -> UpstreamApp:
    """An app whose ``connected`` is ``function``, with a mocked service behind it."""
    hub = Hub("chat")
    hub.on("connected", require=options.pop("require", None))(function)
    given = {"connection_string": CONNECTION_STRING, "http_client": service.client, **options}
    return UpstreamApp(hub, **given)


async def welcome(ctx: Context) -> str:
    return "no client sees this"


async def test_a_connected_handler_that_returns_lets_the_client_stay() -> None:
    service = RestService()

    answer = await connect(on_connected(welcome, service))

    assert (answer.status_code, answer.content) == (204, b"")
    assert service.requests == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HubError("The room is full & closed."), "The room is full & closed."),
        (Forbidden(), str(Forbidden())),
        (ValueError("the password is hunter2"), MASKED),
        (HubError("half a \ud800 pair"), "half a ? pair"),
    ],
)
async def test_a_refused_connection_is_closed_with_the_reason_before_the_answer(
    error: Exception, reason: str
) -> None:
    service = RestService()

    async def refuse(ctx: Context) -> None:
        raise error

    answer = await connect(on_connected(refuse, service), connection_id="c-1_x")

    assert service.lines == ["DELETE chat.service.signalr.net/api/hubs/chat/connections/c-1_x"]
    assert service.requests[0].url.params["reason"] == reason
    assert "refused" in detail(answer, 403)
    assert str(error) not in answer.text


async def test_the_answer_waits_for_the_close() -> None:
    order: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        order.append(request.method)
        return httpx.Response(200)

    async def refuse(ctx: Context) -> None:
        raise HubError("no")

    app = on_connected(refuse, RestService(answer))
    assert (await connect(app)).status_code == 403
    order.append("answered")

    assert order == ["DELETE", "answered"]


async def test_a_refusing_require_closes_the_connection_too() -> None:
    service = RestService()
    app = on_connected(welcome, service, require=role("member"))

    assert (await connect(app)).status_code == 403
    assert service.requests[0].url.params["reason"] == str(Forbidden())


async def test_a_connected_handler_over_its_time_limit_refuses() -> None:
    service = RestService()

    def slow(ctx: Context) -> None:
        raise TimeoutError

    async def endless(ctx: Context) -> None:
        await asyncio.Event().wait()

    assert (await connect(on_connected(slow, service))).status_code == 403
    assert (await connect(on_connected(endless, service, handler_timeout=0.02))).status_code == 403
    assert [request.url.params["reason"] for request in service.requests] == [MASKED, TIMED_OUT]


async def test_only_the_endpoint_that_called_is_asked_to_close() -> None:
    service = RestService()

    async def refuse(ctx: Context) -> None:
        raise HubError("no")

    app = on_connected(refuse, service, connection_string=[CONNECTION_STRING, OTHER_CONNECTION_STRING])
    await connect(app, key=OTHER_KEY)

    assert service.lines == ["DELETE other.service.signalr.net/api/hubs/chat/connections/c1"]


def break_down(request: httpx.Request) -> httpx.Response:
    raise RuntimeError("the client has been closed")


def be_gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host")


@pytest.mark.parametrize(
    "answer", [be_gone, break_down, lambda _: httpx.Response(500), lambda _: httpx.Response(401)]
)
async def test_a_close_that_fails_is_logged_and_the_refusal_is_answered_all_the_same(
    answer: Callable[[httpx.Request], httpx.Response], caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(ctx: Context) -> None:
        raise HubError("no")

    assert (await connect(on_connected(refuse, RestService(answer)))).status_code == 403
    assert "is still there" in caplog.text
    assert "Bearer" not in caplog.text


async def test_a_connection_that_has_gone_by_itself_needs_no_close(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(ctx: Context) -> None:
        raise HubError("no")

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, headers={"x-ms-error-code": "Warning.Connection.NotExisted"})

    assert (await connect(on_connected(refuse, RestService(answer)))).status_code == 403
    assert "is still there" not in caplog.text


@pytest.mark.parametrize("error", [HubError("no"), ValueError("broken")])
async def test_a_disconnected_handler_that_raises_is_logged_and_answered_204(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    service = RestService()
    hub = Hub("chat")

    @hub.on("disconnected")
    def left(ctx: Context) -> None:
        raise error

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client)

    assert (await disconnect(app)).status_code == 204
    assert str(error) in caplog.text
    assert service.requests == []


async def test_a_disconnected_that_require_refuses_is_a_204() -> None:
    hub = Hub("chat")

    @hub.on("disconnected", require=lambda ctx: False)
    def left(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    assert (await disconnect(UpstreamApp(hub, connection_string=CONNECTION_STRING))).status_code == 204


async def test_connection_events_carry_no_arguments_and_no_invocation_id() -> None:
    hub = Hub("chat")
    seen: list[object] = []

    @hub.on("Connected")
    async def joined(*, ctx: Context, label: str = "kept") -> None:
        seen.append((ctx.arguments, ctx.invocation_id, ctx.error, label))

    assert (await connect(UpstreamApp(hub, connection_string=CONNECTION_STRING))).status_code == 204
    assert seen == [((), None, None, "kept")]
