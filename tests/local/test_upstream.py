"""What the app is sent, and what its answers, and its silence, become for the client."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from msgspec import Raw
from starlette.types import ASGIApp, Receive, Scope, Send

from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local.admission import read_claims
from signalr_upstream.local.upstream import Caller, Upstream
from signalr_upstream.protocol.messages import (
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
)
from signalr_upstream.protocol.upstream import MAX_ANSWER

from ..recorded import load, raw

pytestmark = pytest.mark.anyio

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
TEMPLATE = "http://localhost:8080/{hub}/api/{category}/{event}?code=s3cret"
ANN = Caller("conn-1", "chat", "ann", (("asrs.s.uid", "ann"),), "?hub=chat&access_token=s3cret")
ECHO = Invocation("echo", Raw(b'["alice",42]'), "0")


class App(httpx.AsyncBaseTransport):
    """An app: notes requests, and answers what it is told to."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers) or [httpx.Response(204)]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def upstream(app: App, **options: Any) -> Upstream:
    return Upstream(template=TEMPLATE, keys=[KEY], transport=app, **options)


async def test_an_invocation_is_posted_as_the_service_does() -> None:
    # reference/local-service-and-clients 6.6, with the signature in lower case as Azure's
    app = App(httpx.Response(200, content=b'{"type":3,"invocationId":"0","result":"ok"}\x1e'))

    completion = await upstream(app).call(ANN, ECHO, binary=False)

    assert completion == Completion("0", result=Raw(b'"ok"'))
    [request] = app.requests
    assert (request.method, str(request.url)) == (
        "POST",
        "http://localhost:8080/chat/api/messages/echo?code=s3cret",
    )
    assert request.content == b'{"type":1,"invocationId":"0","target":"echo","arguments":["alice",42]}'
    assert request.headers.raw == [
        (b"Host", b"localhost:8080"),
        (b"X-ASRS-Connection-Id", b"conn-1"),
        (b"X-ASRS-Hub", b"chat"),
        (b"X-ASRS-Category", b"messages"),
        (b"X-ASRS-Event", b"echo"),
        (b"X-ASRS-User-Id", b"ann"),
        (b"X-ASRS-User-Claims", b"asrs.s.uid: ann"),
        (b"X-ASRS-Client-Query", b"?hub=chat&access_token=s3cret"),
        (
            b"X-ASRS-Signature",
            b"sha256=261f7f58ff9fb9bb8be7e4951a807fe6091e5c074885bf63b865eccd28728881",
        ),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"70"),
    ]


async def test_messagepack_goes_to_the_app_as_messagepack_but_connected_is_json() -> None:
    app = App(
        httpx.Response(204),
        httpx.Response(200, content=bytes.fromhex("09950380a13003a26f6b")),
        httpx.Response(204),
    )
    service = upstream(app)

    await service.call(ANN, OpenConnection(), binary=True)
    completion = await service.call(
        ANN, Invocation("send", Raw(bytes.fromhex("92a5616c6963652a")), "0"), binary=True
    )
    await service.call(ANN, CloseConnection("why"), binary=True)

    # reference/local-service-and-clients 6.6
    assert completion == Completion("0", result=Raw(b"\xa2ok"))
    opened, invoked, closed = app.requests
    assert (opened.headers["content-type"], opened.content) == ("application/json", b'{"type":10}')
    assert invoked.headers["content-type"] == "application/x-msgpack"
    assert invoked.content == bytes.fromhex("960180a130a473656e6492a5616c6963652a90")
    assert (closed.url.path, closed.content) == (
        "/chat/api/connections/disconnected",
        b'{"Type":11,"Error":"why"}',
    )


async def test_recorded_tokens_give_the_recorded_headers() -> None:
    counts = {"equal": 0, "different": 0}
    _, scenarios = load("upstream_headers.jsonl")
    for scenario in scenarios:
        theirs = dict(scenario["headers"])
        user_id, claims = read_claims(scenario["claims"])
        app = App()
        caller = Caller(
            theirs["X-ASRS-Connection-Id"],
            theirs["X-ASRS-Hub"],
            user_id,
            claims,
            theirs["X-ASRS-Client-Query"],
        )

        await upstream(app).call(caller, OpenConnection(), binary=False)

        ours = [
            [name.decode(), value.decode()]
            for name, value in app.requests[0].headers.raw
            if name not in (b"Host", b"Content-Length")
        ]
        expected = [
            [name, value.lower() if name == "X-ASRS-Signature" else value.strip()]
            for name, value in scenario["headers"]
        ]
        same = [[name, value.strip()] for name, value in ours] == expected
        counts["equal" if same else "different"] += 1
        assert same, scenario["name"]
        assert app.requests[0].content == raw(scenario["body"])
    print(f"recorded upstream headers: {counts}")
    assert counts == {"equal": 39, "different": 0}


HANDLED = b'{"type":1,"target":"hello","arguments":[]}\x1e'
COMPLETED = b'{"invocationId":"0", "type":3, "result":"ok"}\x1e'


@pytest.mark.parametrize(
    "body",
    [COMPLETED, HANDLED + COMPLETED, COMPLETED * 2, b'{"type":7,"error":"bye"}\x1e'],
)
async def test_a_lenient_service_passes_answers_on_as_they_are(body: bytes) -> None:
    answer = await upstream(App(httpx.Response(200, content=body)), lenient=True).call(
        ANN, ECHO, binary=False
    )

    assert answer == body


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"hello plain", "not one framed Completion"),
        (COMPLETED.replace(b'"0"', b'"1"'), "answered another invocation"),
        (HANDLED, "not one framed Completion"),
        (COMPLETED + b"x", "not one framed Completion"),
        (b"\xff\x1e", "cannot be read"),
        (b"x" * (MAX_ANSWER + 1), "response too large"),
    ],
)
async def test_but_none_that_would_leave_the_client_waiting(body: bytes, error: str) -> None:
    answer = await upstream(App(httpx.Response(200, content=body)), lenient=True).call(
        ANN, ECHO, binary=False
    )

    assert isinstance(answer, Completion)
    assert error in (answer.error or "")


STREAM = StreamInvocation("7", "count", Raw(b"[3]"))


async def test_a_stream_that_the_app_takes_goes_on() -> None:
    app = App(httpx.Response(204))

    assert await upstream(app, lenient=True).call(ANN, STREAM, binary=False) is None
    assert app.requests[0].url.path == "/chat/api/messages/count"
    assert app.requests[0].content == b'{"type":4,"invocationId":"7","target":"count","arguments":[3]}'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200), "the app did not take it: it answers 204"),
        (httpx.Response(200, content=b'{"type":3,"invocationId":"7","result":1}\x1e'), "did not take it"),
        (httpx.Response(200, content=b'{"type":3,"invocationId":"7","error":"no"}\x1e'), "no"),
        (httpx.Response(404), "status code 404"),
    ],
)
async def test_a_stream_that_the_app_does_not_take_ends(answer: httpx.Response, error: str) -> None:
    completion = await upstream(App(answer), lenient=True).call(ANN, STREAM, binary=False)

    assert isinstance(completion, Completion)
    assert error in (completion.error or "")


async def test_who_waits_for_nothing_is_told_nothing() -> None:
    app = App(httpx.Response(500), httpx.ConnectError("refused"), httpx.Response(200, content=b"\x1e"))
    service = upstream(app)

    for _ in range(3):
        assert await service.call(ANN, Invocation("echo", Raw(b"[]")), binary=False) is None
    assert (await upstream(App()).call(ANN, Invocation("echo", Raw(b"[]"), ""), binary=False)) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404), "Invocation failed, status code 404"),
        (
            httpx.Response(302, headers={"location": "http://elsewhere/"}),
            "Invocation failed, status code 302",
        ),
        (httpx.Response(200, content=b"x" * (MAX_ANSWER + 1)), "Invocation failed, response too large."),
        (
            httpx.ConnectError("x?code=s3cret"),
            "the app at http://localhost:8080 failed: nothing listens there",
        ),
        (httpx.ReadError("x?code=s3cret"), "the app at http://localhost:8080 failed: ReadError"),
        (httpx.RemoteProtocolError("x"), "the app at http://localhost:8080 failed: RemoteProtocolError"),
    ],
)
async def test_every_failure_of_the_app_is_explained_to_who_waits(
    answer: httpx.Response | Exception, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    completion = await upstream(App(answer)).call(ANN, ECHO, binary=False)

    assert isinstance(completion, Completion)
    assert error in (completion.error or "")
    assert "s3cret" not in caplog.text + str(completion.error)
    assert "echo" in caplog.text


async def test_an_answer_over_the_limit_is_not_read_to_its_end() -> None:
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            yield b"x" * 1024 * 1024

    completion = await upstream(App(httpx.Response(200, content=endless()))).call(ANN, ECHO, binary=False)

    assert completion == Completion("0", error="Invocation failed, response too large.")
    assert produced == 17


async def test_an_app_that_does_not_answer_is_given_up() -> None:
    class Silent(App):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    completion = await upstream(Silent(), timeout=0.01).call(ANN, ECHO, binary=False)

    assert isinstance(completion, Completion)
    assert "did not answer within 0.01 seconds" in (completion.error or "")


async def test_without_an_app_the_client_is_told_so() -> None:
    completion = await Upstream(keys=[KEY]).call(ANN, ECHO, binary=False)

    assert completion == Completion(
        "0", error="Invocation failed, no upstream app: start the local service with one"
    )


@pytest.mark.parametrize("target", ["a\r\nb", "a\0b"])
async def test_a_target_that_would_break_the_headers_is_refused(target: str) -> None:
    app = App()

    completion = await upstream(app).call(ANN, Invocation(target, Raw(b"[]"), "0"), binary=False)

    assert isinstance(completion, Completion)
    assert "it cannot be sent to the app" in (completion.error or "")
    assert app.requests == []


async def test_a_target_too_long_for_a_url_is_refused() -> None:
    completion = await upstream(App()).call(ANN, Invocation("x" * 70_000, Raw(b"[]"), "0"), binary=False)

    assert isinstance(completion, Completion)
    assert "InvalidURL" in (completion.error or "")


@pytest.mark.parametrize(
    "template", ["http://[/{event}", "/api/{event}", "ftp://localhost/{event}", "http:///x", ""]
)
def test_a_template_that_is_no_url_is_refused_at_once(template: str) -> None:
    with pytest.raises(ConfigurationError, match="no http or https URL"):
        Upstream(template=template, keys=[KEY])


async def test_calls_wait_for_an_app_that_is_being_restarted() -> None:
    refused = httpx.ConnectError("refused")
    app = App(refused, refused, httpx.Response(204))

    assert await upstream(app, connect_patience=5.0).call(ANN, ECHO, binary=False) == Completion("0")
    assert len(app.requests) == 3


async def test_an_app_that_stays_away_is_given_up() -> None:
    app = App(*[httpx.ConnectError("refused")] * 10)

    completion = await upstream(app, connect_patience=0.15).call(ANN, ECHO, binary=False)

    assert isinstance(completion, Completion)
    assert completion.error is not None
    assert 2 <= len(app.requests) <= 3


async def test_an_app_in_this_process_needs_no_socket() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        body = (await receive())["body"]
        answer = {"type": 3, "invocationId": "0", "result": json.loads(body)["arguments"]}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode() + b"\x1e"})

    service = Upstream(app=app, keys=[KEY])
    completion = await service.call(ANN, Invocation("a/b", Raw(b"[1]"), "0"), binary=False)
    await service.aclose()

    assert completion == Completion("0", result=Raw(b"[1]"))
    assert seen[0]["raw_path"] == b"/chat/messages/a%2Fb"


async def test_an_app_in_this_process_that_raises_is_a_500() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    app: ASGIApp = broken
    completion = await Upstream(app=app, keys=[KEY]).call(ANN, ECHO, binary=False)

    assert completion == Completion("0", error="Invocation failed, status code 500")


def test_no_secret_is_in_a_repr() -> None:
    assert "s3cret" not in repr(ANN) + repr(Upstream(template=TEMPLATE, keys=[KEY])) + repr(
        Upstream(keys=[KEY])
    )
    assert KEY not in repr(Upstream(template=TEMPLATE, keys=[KEY]))
