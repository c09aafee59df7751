"""Spans and metrics as OpenTelemetry's SDK gets them, with the names of its semantic conventions."""

from typing import Any

import httpx
import pytest
from opentelemetry.baggage import get_baggage
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv._incubating.metrics import http_metrics, rpc_metrics
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
)
from opentelemetry.semconv.metrics.http_metrics import HTTP_CLIENT_REQUEST_DURATION
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from signalr_upstream import Context, Hub, HubError, Identity, ServiceClient, UpstreamApp
from signalr_upstream.errors import ConnectError
from signalr_upstream.open_telemetry import OpenTelemetry
from signalr_upstream.telemetry import PoolUse

from .issuer import Issuer, entra
from .support import CONNECTION_STRING, OTHER_KEY, RestService, call_headers, invocation, post, with_header

pytestmark = pytest.mark.anyio

# https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
SECRET = "the-canary-of-this-test"


class Collected:
    """An observer, and what the SDK has got from it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracer_provider = TracerProvider()
        tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OpenTelemetry(
            tracer_provider=tracer_provider,
            meter_provider=MeterProvider([self._reader]),
            clock=lambda: self.now,
        )
        self.rest = RestService()

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Labels and value (or count) of each series of a metric."""
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), getattr(point, "value", None) or getattr(point, "count", 0))
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def app(self, **options: Any) -> UpstreamApp:
        hub = Hub("chat")

        @hub.on("ok")
        async def ok(ctx: Context, text: str) -> str:
            assert get_current_span().is_recording()
            await ctx.clients.all.send("news", text)
            return text

        @hub.on("fail")
        async def fail(ctx: Context) -> None:
            raise RuntimeError(SECRET)

        @hub.on("refuse")
        async def refuse(ctx: Context) -> None:
            raise HubError("no")

        @hub.negotiate
        async def who() -> Identity:
            return Identity(user_id="ann")

        return UpstreamApp(
            hub,
            **{"connection_string": CONNECTION_STRING, **options},
            http_client=self.rest.client,
            telemetry=[self.observer],
        )


@pytest.fixture
def collected() -> Collected:
    return Collected()


async def test_a_trace_goes_on_from_the_request_through_the_handler_into_its_sends(
    collected: Collected,
) -> None:
    headers = {**call_headers("ok"), "traceparent": TRACEPARENT}

    await post(collected.app(), headers, invocation("ok", SECRET))

    client, server = collected.spans
    assert (server.name, server.kind, server.status.status_code) == (
        "chat/ok",
        SpanKind.SERVER,
        StatusCode.UNSET,
    )
    assert f"{server.context.trace_id:032x}" == TRACE_ID
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert dict(server.attributes or {}) == {
        rpc_attributes.RPC_SYSTEM_NAME: "signalr",
        rpc_attributes.RPC_METHOD: "chat/ok",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        "signalr.connection.id": "c1",
        "signalr_upstream.outcome": "success",
    }
    assert (client.name, client.kind) == ("POST /api/hubs/{hub}/:send", SpanKind.CLIENT)
    assert client.parent is not None
    assert client.parent.span_id == server.context.span_id
    assert dict(client.attributes or {}) == {
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 202,
        server_attributes.SERVER_ADDRESS: "chat.service.signalr.net",
        server_attributes.SERVER_PORT: 443,
        "url.template": "/api/hubs/{hub}/:send",
    }
    (request,) = collected.rest.requests
    assert request.headers["traceparent"] == f"00-{TRACE_ID}-{client.context.span_id:016x}-01"
    assert SECRET not in "".join(span.to_json() for span in collected.spans)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"X-ASRS-Signature": None}, {}),
        ({"X-ASRS-Signature": "sha256=" + "0" * 64}, {}),
        ({"X-ASRS-Connection-Id": None}, {}),
        ({}, {"connection_string": "Endpoint=https://chat.service.signalr.net;AccessKey=;"}),
        ({}, {"code": "another-code-than-the-callers"}),
    ],
)
async def test_a_call_that_is_not_proven_is_in_no_trace_of_its_senders(
    collected: Collected, changes: dict[str, str | None], options: dict[str, Any]
) -> None:
    headers = {**call_headers("ok"), "traceparent": TRACEPARENT}
    for name, value in changes.items():
        headers = with_header(headers, name, value)

    answer = await post(collected.app(**options), headers, invocation("ok", "a"))

    assert answer.status_code in (401, 503)
    (server,) = collected.spans
    assert server.parent is None
    assert f"{server.context.trace_id:032x}" != TRACE_ID


async def test_a_refused_call_that_is_proven_goes_on_with_its_trace(collected: Collected) -> None:
    await post(collected.app(), {**call_headers("nobody"), "traceparent": TRACEPARENT}, invocation("nobody"))

    (server,) = collected.spans
    assert f"{server.context.trace_id:032x}" == TRACE_ID


async def test_baggage_ends_at_the_handler(collected: Collected) -> None:
    hub = Hub("chat")
    seen: list[object] = []

    @hub.on("ok")
    async def ok(ctx: Context) -> None:
        seen.append(get_baggage("tenant"))
        await ctx.clients.all.send("news")

    app = UpstreamApp(
        hub,
        connection_string=CONNECTION_STRING,
        http_client=collected.rest.client,
        telemetry=[collected.observer],
    )
    await post(app, {**call_headers("ok"), "baggage": "tenant=blue"}, invocation("ok"))

    assert seen == ["blue"]
    (request,) = collected.rest.requests
    assert "baggage" not in request.headers
    assert "traceparent" in request.headers


async def test_a_call_without_a_trace_begins_one_and_leaves_nothing_current(collected: Collected) -> None:
    app = collected.app()

    for _ in range(2):
        await post(app, call_headers("ok"), invocation("ok", "a"))

    servers = [span for span in collected.spans if span.kind is SpanKind.SERVER]
    assert [span.parent for span in servers] == [None, None]
    assert servers[0].context.trace_id != servers[1].context.trace_id
    assert not get_current_span().is_recording()


@pytest.mark.parametrize(
    ("event", "status", "error_type"),
    [
        ("fail", StatusCode.ERROR, "RuntimeError"),
        ("refuse", StatusCode.UNSET, "HubError"),
        ("guess", StatusCode.UNSET, "NoHandlerError"),
    ],
)
async def test_a_span_is_an_error_where_the_server_is_at_fault(
    collected: Collected, event: str, status: StatusCode, error_type: str
) -> None:
    await post(collected.app(), call_headers(event), invocation(event))

    (span,) = collected.spans
    assert span.status.status_code is status
    assert (span.attributes or {})[error_attributes.ERROR_TYPE] == error_type
    assert span.name == ("chat/unknown" if event == "guess" else f"chat/{event}")
    assert SECRET not in span.to_json()


async def test_calls_that_cannot_be_checked_for_want_of_keys_are_the_servers_fault(
    collected: Collected,
) -> None:
    collected.rest = RestService(lambda _: httpx.Response(500))
    keyless = "Endpoint=https://chat.service.signalr.net;AuthType=azure;Version=1.0;"
    app = collected.app(connection_string=keyless, seal_key="s" * 32, entra=entra())
    headers = {**call_headers("ok"), "Authorization": f"Bearer {Issuer().token()}"}

    assert (await post(app, headers, invocation("ok", "a"))).status_code == 503
    await app.aclose()

    assert [span.status.status_code for span in collected.spans if span.kind is SpanKind.SERVER] == [
        StatusCode.ERROR
    ]


async def test_calls_are_measured_and_counted(collected: Collected) -> None:
    app = collected.app(max_body_size=1000)
    await post(app, call_headers("ok"), invocation("ok", "a"))
    await post(app, call_headers("fail"), invocation("fail"))
    await post(app, call_headers("ok"), b"x" * 1001)
    await post(app, call_headers("ok", key=OTHER_KEY))
    await post(app, {}, path="/chat/negotiate")

    durations = collected.points(rpc_metrics.RPC_SERVER_CALL_DURATION)
    assert [
        (labels["rpc.method"], labels["signalr_upstream.outcome"], count) for labels, count in durations
    ] == [
        ("chat/ok", "success", 1),
        ("chat/fail", "failed", 1),
        ("chat/ok", "body_too_large", 1),
        ("unknown/unknown", "unauthorized", 1),
    ]
    assert collected.points("signalr_upstream.calls.active") == [({}, 0)]
    assert collected.points("signalr_upstream.calls_by_key") == [({"key": 0}, 3)]
    assert collected.points("signalr_upstream.auth_failures") == [({"reason": "signature_wrong"}, 1)]
    assert collected.points("signalr_upstream.refused_bodies") == [({"reason": "body_too_large"}, 1)]
    assert collected.points("signalr_upstream.negotiations") == [({"hub": "chat", "outcome": "success"}, 1)]


async def test_attempts_are_measured_and_their_errors_named(collected: Collected) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if len(collected.rest.requests) == 1:
            return httpx.Response(503, headers={"retry-after": "0"})
        raise httpx.ConnectError("nobody there")

    collected.rest = RestService(answer)
    client = ServiceClient(
        "Endpoint=http://127.0.0.1:8888;AccessKey=ThisIsAnAccessKeyForTests_0123456789ABCDEFGH;",
        http_client=collected.rest.client,
        telemetry=[collected.observer],
        total_timeout=0.3,
    )

    with pytest.raises(ConnectError):
        await client.hub("chat").clients.all.send("news")

    first, second = collected.spans[:2]
    assert (first.attributes or {})["error.type"] == "UnavailableError"
    assert (second.attributes or {})["error.type"] == "ConnectError"
    assert (second.attributes or {})[http_attributes.HTTP_REQUEST_RESEND_COUNT] == 1
    assert (second.attributes or {})["server.port"] == 8888
    assert {span.status.status_code for span in collected.spans} == {StatusCode.ERROR}
    points = collected.points(HTTP_CLIENT_REQUEST_DURATION)
    assert [labels.get("http.response.status_code") for labels, _ in points] == [503, None]
    assert collected.points("signalr_upstream.rest.retries")[0][0] == {
        "url.template": "/api/hubs/{hub}/:send"
    }


class Pool:
    def pool_use(self) -> PoolUse:
        return PoolUse(busy=3, idle=2, waiting=1)


def test_connections_and_ages_are_looked_at_when_somebody_asks(collected: Collected) -> None:
    pool = Pool()
    collected.observer.watch(pool)
    collected.observer.fetched("temporary_key", "https://east")
    collected.observer.fetched("temporary_key", "https://west")
    collected.now = 90

    assert collected.points(http_metrics.HTTP_CLIENT_OPEN_CONNECTIONS) == [
        ({"http.connection.state": "active"}, 3),
        ({"http.connection.state": "idle"}, 2),
    ]
    assert collected.points("signalr_upstream.rest.waiting") == [({}, 1)]
    assert collected.points("signalr_upstream.key.age") == [
        ({"key": "temporary_key", "source": source}, 90) for source in ("https://east", "https://west")
    ]
