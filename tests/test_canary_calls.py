"""Calls of every kind, good and bad, with every secret in them: none is in a log, answer, span, metric or page."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from signalr_upstream import Context, Hub, HubError, Identity, ServiceClient, SignalRError, UpstreamApp, role
from signalr_upstream.auth import encode_token, sign_connection
from signalr_upstream.duplicates import Duplicates
from signalr_upstream.errors import Redeliver
from signalr_upstream.local import LocalService, NotAdmittedError
from signalr_upstream.local.records.fixture import lines_of
from signalr_upstream.open_telemetry import OpenTelemetry
from signalr_upstream.prometheus import Prometheus

from .canaries import (
    BEARER_TOKEN,
    CLAIM,
    CLIENT_TOKEN,
    CODE,
    CONNECTION_TOKEN,
    COOKIE,
    KEY,
    OTHER_KEY,
    secret_in,
)
from .issuer import Issuer, entra
from .support import (
    CONNECTION_STRING,
    MESSAGEPACK,
    OTHER_CONNECTION_STRING,
    RestService,
    asgi_scope,
    call_headers,
    connect,
    disconnect,
    invocation,
    msgpack_invocation,
    path_of,
    post,
    with_header,
)

pytestmark = pytest.mark.anyio


def echo(status: int) -> Callable[[httpx.Request], httpx.Response]:
    """A service, or something on the way to it, that says everything back to who asks, or sends it on."""

    def answer(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"]
        said = f"{request.url}?access_token={CLIENT_TOKEN} {token}"
        headers = {
            "location": f"https://elsewhere.example/?access_token={CLIENT_TOKEN}",
            "www-authenticate": f'Bearer error_description="{token}"',
            "set-cookie": COOKIE,
            "retry-after": "0",
        }
        body = {"code": CLIENT_TOKEN, "message": said, "AccessKey": OTHER_KEY}
        return httpx.Response(status, headers=headers, json=body)

    return answer


def fail(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("[Errno 111] Connection refused", request=request)

    return answer


SERVICES = {
    **{str(status): echo(status) for status in (200, 202, 307, 400, 401, 403, 404, 413, 429, 500, 503)},
    "nobody there": fail(httpx.ConnectError),
    "cut off": fail(httpx.ReadError),
}


class Telemetry:
    """Observers of both kinds, and all that they have told."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        otel = OpenTelemetry(tracer_provider=tracers, meter_provider=MeterProvider([self._reader]))
        self.prometheus = Prometheus(CollectorRegistry())
        self.observers = [otel, self.prometheus]

    @property
    def spans(self) -> list[str]:
        return [span.to_json() for span in self._spans.get_finished_spans()]

    @property
    def metrics(self) -> str:
        data = self._reader.get_metrics_data()
        return data.to_json() if data else ""


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that is logged, but for the lines of the tests' own HTTP clients, who log where they go."""
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.WARNING, name)
    caplog.set_level(logging.DEBUG)  # the last one counts for what is caught
    return caplog


def make_hub() -> Hub[Any]:
    hub = Hub("chat")

    @hub.on("go")
    async def go(ctx: Context, kind: str) -> Any:
        logging.getLogger("app").info("%r %r %s %s", ctx, dict(ctx.headers), ctx.query, ctx.claims)
        match kind:
            case "send":
                await ctx.clients.all.send("news", "told")
            case "group":
                await ctx.groups.add("lobby")
            case "ask":
                return await ctx.clients.connection("c2").invoke("ask", timeout=1)
            case "refuse":
                raise HubError("refused")
            case "crash":
                raise RuntimeError("crashed")
            case "again":
                raise Redeliver
            case "odd":
                return object()
            case "after":
                ctx.after(ctx.clients.all.send, "later")
        return kind

    @hub.on("late", timeout=0.001)
    async def late(ctx: Context) -> None:
        await asyncio.Event().wait()

    @hub.on("guarded", require=role("admin"))
    async def guarded(ctx: Context) -> None: ...

    @hub.on("connected")
    async def connected(ctx: Context) -> None:
        if ctx.user_id is None:
            raise HubError("not you")

    @hub.negotiate
    async def who(request: Any) -> Identity:
        match request.query_params.get("kind"):
            case "refuse":
                raise HubError("refused")
            case "forbid":
                raise HTTPException(403, "forbidden")
            case "crash":
                raise RuntimeError("crashed")
        return Identity(user_id="ann", claims={"name": CLAIM})

    return hub


def make_app(telemetry: Telemetry, service: str, **options: Any) -> UpstreamApp:
    return UpstreamApp(
        make_hub(),
        **{
            "connection_string": CONNECTION_STRING,
            "code": CODE,
            "http_client": RestService(SERVICES[service]).client,
            "telemetry": telemetry.observers,
            "slow_after": 0,
            "duplicates": Duplicates(),
            "health": True,
            "routes": [telemetry.prometheus.route()],
            "max_body_size": 1000,
            **options,
        },
    )


KINDS = ("ok", "send", "group", "ask", "refuse", "crash", "again", "odd", "after")


async def good_calls(app: UpstreamApp) -> list[httpx.Response]:
    """Calls that reach a handler, each twice."""
    answers = []
    for kind in KINDS:
        for _ in range(2):
            body = invocation("go", kind, invocation_id=kind)
            answers.append(await post(app, call_headers("go", user_id="ann"), body))
        headers = call_headers("go", content_type=MESSAGEPACK)
        answers.append(await post(app, headers, msgpack_invocation("go", kind, invocation_id=f"m{kind}")))
        answers.append(await post(app, call_headers("go"), invocation("go", kind, invocation_id=None)))
    for event in ("late", "guarded", "go"):
        answers.append(await post(app, call_headers(event), invocation(event)))
    await app.after_work_done()
    return [*answers, await connect(app), await disconnect(app)]


async def bad_calls(app: UpstreamApp) -> list[httpx.Response]:
    """Calls that reach none."""
    good = call_headers("go")
    path, secret = path_of(good), f"?code={CODE}"
    body = invocation("go", "ok")
    wrong = sign_connection("c1", [KEY.swapcase()])
    doubled = [(name.lower().encode(), value.encode()) for name, value in good.items()]
    return [
        await post(app, with_header(good, "X-ASRS-Signature", None), body),
        await post(app, with_header(good, "X-ASRS-Signature", f"{wrong},{BEARER_TOKEN}"), body),
        await post(app, with_header(good, "X-ASRS-Connection-Id", None), body),
        await post(app, good, body, path=path),
        await post(app, good, body, path=f"{path}?code={CODE}x"),
        await post(app, good, body, method="PUT"),
        await post(app, [*doubled, (b"x-asrs-user-claims", CLAIM.encode())], body, path=path + secret),
        await post(app, good, body, path="/elsewhere/messages/go" + secret),
        await post(app, with_header(good, "X-ASRS-Hub", None), body, path=path + secret),
        await post(app, with_header(good, "X-ASRS-Event", "nobody"), body),
        await post(app, with_header(good, "Content-Type", "text/plain"), body),
        await post(app, with_header(good, "Content-Encoding", "gzip"), body),
        await post(app, good, CLIENT_TOKEN.encode() * 100),
        await post(app, good, CLIENT_TOKEN.encode()),
        await post(app, good, invocation("go", CLIENT_TOKEN, 1)),
        await post(app, {}, body, path=path + secret),
        await post(app, {}, body, path=path + secret, method="GET"),
    ]


async def own_answers(app: UpstreamApp) -> list[httpx.Response]:
    """Negotiate, health, metrics, and what is not there."""
    paths = [
        f"/chat/negotiate?access_token={CLIENT_TOKEN}&kind={kind}"
        for kind in ("", "refuse", "forbid", "crash")
    ]
    paths += [
        f"/{where}?code={CODE}&id={CONNECTION_TOKEN}" for where in ("chat/negotiate/negotiate", "x/negotiate")
    ]
    headers = {"Cookie": COOKIE, "Authorization": f"Bearer {BEARER_TOKEN}", "Origin": "https://evil.example"}
    answers = [await post(app, headers, path=path) for path in paths]
    for path in ("/chat/negotiate", "/healthz", "/readyz", "/metrics", "/nothing"):
        answers.append(await post(app, headers, path=f"{path}?code={CODE}", method="GET"))
    return answers


def text_of(answer: httpx.Response) -> str:
    """An answer without the token that was asked for."""
    text = f"{answer.status_code} {answer.headers} {answer.content.decode('latin-1')}"
    if answer.status_code == 200 and "/negotiate" in answer.url.path:
        text = text.replace(answer.json()["accessToken"], "")
    return text


def assert_clean(telemetry: Telemetry, log: pytest.LogCaptureFixture, answers: list[httpx.Response]) -> None:
    for text in [*map(text_of, answers), *telemetry.spans, telemetry.metrics, log.text]:
        assert secret_in(text) is None, text
    fields = [str(vars(record)) for record in log.records if record.name.startswith("signalr_upstream")]
    assert fields
    for text in fields:
        assert secret_in(text) is None, text


# --- the app ---


@pytest.mark.parametrize("service", SERVICES)
async def test_calls_that_are_served_tell_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, service: str
) -> None:
    app = make_app(telemetry, service)

    answers = await good_calls(app) + await own_answers(app)

    assert {204, 200, 503, 403, 404, 405} <= {answer.status_code for answer in answers}
    assert_clean(telemetry, log, answers)
    names = [json.loads(span)["name"] for span in telemetry.spans]
    assert {"chat/go", "chat/late", "chat/connected", "POST /api/hubs/{hub}/:send"} <= set(names)
    (metrics,) = (answer.text for answer in answers if answer.url.path == "/metrics")
    for told in (
        'handler="go",hub="chat",outcome="duplicate"',
        'operation="send_to_all"',
        'outcome="refused"',
    ):
        assert told in metrics
    assert "rpc.server.call.duration" in telemetry.metrics


async def test_the_service_of_these_tests_says_secrets() -> None:
    """Else the test above could not fail."""
    rest = RestService(SERVICES["400"])
    client = ServiceClient(CONNECTION_STRING, http_client=rest.client)

    with pytest.raises(SignalRError):
        await client.hub("chat").clients.all.send("news")

    (request,) = rest.requests
    answer = SERVICES["400"](request)
    assert secret_in(str(request.headers.raw)) == "a token"
    for said in (answer.text, *answer.headers.values()):
        assert said == "0" or said.isdigit() or said == "application/json" or secret_in(said)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
async def test_calls_that_are_refused_tell_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, debug: bool, level: int
) -> None:
    log.set_level(level, "signalr_upstream")
    app = make_app(telemetry, "202", debug=debug)

    answers = await bad_calls(app)

    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405, 413, 415}
    assert_clean(telemetry, log, answers)
    assert "signature_missing" in telemetry.metrics
    assert "unknown/unknown" in "".join(telemetry.spans)


async def test_a_worker_with_too_many_calls_tells_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture
) -> None:
    app = make_app(telemetry, "202", max_concurrent_calls=0)

    assert_clean(telemetry, log, await good_calls(app))


@pytest.mark.parametrize(
    "connection_string",
    [
        "",
        f"AccessKey={KEY}",
        f"Endpoint=https://x.test;AccessKey={KEY};Version=9",
        f"Endpoint={KEY};AccessKey={KEY}",
        f"Endpoint=https://{OTHER_KEY}:{KEY}@x.test;AccessKey={KEY}",
        f"Endpoint=https://x.test/?code={CODE};AccessKey=short",
        f"Endpoint=https://x.test;AuthType=azure.app;ClientId=c;ClientSecret={OTHER_KEY}",
    ],
)
async def test_a_configuration_that_cannot_work_tells_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, connection_string: str
) -> None:
    app = make_app(telemetry, "202", connection_string=connection_string)

    answers = [await post(app, call_headers("go"), invocation("go", "ok")), *await own_answers(app)]

    assert answers[0].status_code == 503
    assert_clean(telemetry, log, answers)


@pytest.mark.parametrize("reply", [None, httpx.ConnectError(f"no way, {BEARER_TOKEN}")])
async def test_calls_with_tokens_of_entra_tell_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, reply: Exception | None
) -> None:
    issuer = Issuer()
    issuer.reply = reply
    client = issuer.client()
    app = make_app(telemetry, "202", entra=entra(), http_client=client, code=None)
    await app.services.start()
    header = "Authorization"
    tokens = [
        issuer.token(),
        issuer.token(aud="api://another"),
        issuer.token(oid="stranger", appid=None),
        issuer.token(exp=1),
        issuer.token(headers={"kid": "unknown", "jku": "https://evil.example"}),
        issuer.token(headers={"kid": CODE}),
        issuer.token()[:-4] + "AAAA",
        encode_token({"aud": "api://my-app"}, KEY),
        KEY,
        "x" * 9000 + KEY,
    ]
    good = call_headers("go")
    answers = [
        await post(
            app, with_header(good, header, f"Bearer {token}"), invocation("go", "ok", invocation_id=str(n))
        )
        for n, token in enumerate(tokens)
    ]
    answers.append(await post(app, {**good, "Authentication": f"Bearer {tokens[0]}"}, invocation("go", "ok")))
    answers.append(await post(app, with_header(good, header, None), invocation("go", "ok")))
    await app.aclose()

    assert {answer.status_code for answer in answers} == ({200, 401} if reply is None else {503, 401})
    assert_clean(telemetry, log, answers)


@pytest.mark.parametrize("service", SERVICES)
async def test_sends_by_every_way_tell_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, service: str
) -> None:
    client = ServiceClient(
        [CONNECTION_STRING, OTHER_CONNECTION_STRING],
        http_client=RestService(SERVICES[service]).client,
        telemetry=telemetry.observers,
        total_timeout=0.2,
    )
    hub = client.hub("chat")
    told = []
    for call in (
        hub.clients.all.send("news", CLIENT_TOKEN),
        hub.clients.users(["ann", "ben"]).send("news"),
        hub.clients.connection("c2").invoke("ask", timeout=1),
        hub.users.in_group("ann", group="lobby"),
        hub.connections.close("c2", reason="over"),
        hub.generate_token("ann"),
        client.health(),
    ):
        try:
            await call
        except SignalRError as error:
            told.append(f"{error!r} {error} {vars(error)}")
    await client.aclose()

    for text in [*told, *telemetry.spans, telemetry.metrics, log.text]:
        assert secret_in(text) is None, text
    assert any("http.client.request.duration" in text for text in [telemetry.metrics])
    assert telemetry.spans


# --- the local service ---


def http(service: LocalService, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(service.asgi, client=("127.0.0.1", 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


async def strangers(service: LocalService) -> list[str]:
    """Requests to the service with every secret at the wrong place, and what they are answered."""
    secret = f"access_token={CLIENT_TOKEN}&id={CONNECTION_TOKEN}&code={CODE}"
    wrong = encode_token({"aud": "http://localhost/client/?hub=chat", "exp": 4102444800}, OTHER_KEY)
    asked = [
        ("POST", f"/client/negotiate?hub=chat&{secret}", {}),
        ("POST", f"/client/negotiate?hub=chat&{secret}", {"Authorization": f"Bearer {wrong}"}),
        ("POST", f"/client/negotiate?hub=chat&{secret}", {"Origin": f"https://{KEY}.example"}),
        ("GET", f"/client/?hub=chat&{secret}", {"Accept": "text/event-stream"}),
        ("POST", f"/client/?hub=chat&{secret}", {}),
        (
            "POST",
            f"/api/hubs/chat/:send?{secret}&api-version=2024-01-01",
            {"Authorization": f"Bearer {wrong}"},
        ),
        ("POST", f"/api/hubs/chat/:send?{secret}", {"Authorization": KEY}),
        ("GET", f"/api/hubs/chat/users/ann?{secret}", {"Authorization": f"Bearer {wrong}, Bearer {wrong}"}),
        ("GET", f"/nothing?{secret}", {"Host": f"{COOKIE}.example"}),
        ("GET", f"/inspector/api/events?token={KEY}", {"Authorization": f"Bearer {KEY}"}),
    ]
    async with http(service, **{"Cookie": COOKIE, "X-Forwarded-Token": CLIENT_TOKEN}) as client:
        answers = [await client.request(method, url, headers=headers) for method, url, headers in asked]
    assert all(answer.status_code >= 400 for answer in answers)
    return [text_of(answer) for answer in answers]


async def pages_of(service: LocalService) -> list[str]:
    """Everything that the inspector shows."""
    journal = service.journal
    numbers = [frame.number for frame in journal.frames]
    numbers += [call.number for call in journal.upstream_calls]
    numbers += [call.number for call in journal.rest_calls]
    numbers += [refusal.number for refusal in journal.refused_requests]
    paths = ["", "/inspector.js", *(f"/api/entries/{number}" for number in numbers)]
    async with http(service, Authorization=f"Bearer {service._inspector.token}") as client:
        pages = [await client.get(f"/inspector{path}") for path in paths]
    assert {page.status_code for page in pages} == {200}
    return [await first_news(service), *(page.text for page in pages)]


async def first_news(service: LocalService) -> str:
    """The state and the newest rows, as a page gets them when it is opened."""
    told = asyncio.Event()
    news: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            news.append(message["body"])
            told.set()

    headers = {"Host": "localhost", "Authorization": f"Bearer {service._inspector.token}"}
    scope = asgi_scope(headers, method="GET", path="/inspector/api/events")
    await service.asgi(scope, receive, send)
    return b"".join(news).decode()


@pytest.mark.parametrize("status", [None, 401, 500])
async def test_the_local_service_and_its_inspector_tell_no_secret(
    telemetry: Telemetry, log: pytest.LogCaptureFixture, status: int | None
) -> None:
    app = make_app(telemetry, "202", duplicates=None)
    async with LocalService(app, keys=[KEY], port=None) as service:
        client = await service.connect(
            "chat",
            user_id="ann",
            claims={"pass": CLIENT_TOKEN},
            query={"id": CONNECTION_TOKEN, "access_token": CLIENT_TOKEN},
        )
        service.faults.rest_status = service.faults.upstream_status = status
        for kind in ("ok", "send", "refuse", "crash", "odd"):
            with contextlib.suppress(HubError):
                await client.invoke("go", kind)
        with contextlib.suppress(HubError):
            await client.invoke("go", CLIENT_TOKEN, f"AccessKey={KEY};")
        service.faults.clear()
        await client.close()
        with pytest.raises(NotAdmittedError):
            await service.connect_via(
                f"/chat?kind=refuse&access_token={CLIENT_TOKEN}", headers={"Cookie": COOKIE}
            )
        answers = await strangers(service)
        pages = await pages_of(service)
        exported = [*lines_of(service.journal)]

    shown = "".join(pages)
    assert all(told in shown for told in ("[hidden]", "X-ASRS-Signature", "/:send", "/client/negotiate"))
    for text in [*answers, *pages, *map(str, exported), repr(service), *telemetry.spans, log.text]:
        assert secret_in(text) is None, text
