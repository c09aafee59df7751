"""What the app is sent, and what its answers, and its silence, become for the client."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from msgspec import Raw
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from signalr_upstream.local import UpstreamTemplate
from signalr_upstream.local.admission import read_claims
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.upstream.attempts import Post
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.local.upstream.rules import Rules, Served
from signalr_upstream.protocol.messages import (
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
)
from signalr_upstream.protocol.upstream import MAX_ANSWER

from ...recorded import load, raw

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
    return Upstream(rules=Rules(TEMPLATE), keys=[KEY], transport=app, **options)


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


async def test_an_app_whose_certificate_nobody_knows_is_explained() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    service = Upstream(rules=Rules(f"https://127.0.0.1:{port}/"), keys=[KEY])

    completion = await service.call(ANN, ECHO, binary=False)
    await service.aclose()
    server.close()
    await server.wait_closed()

    assert isinstance(completion, Completion)
    assert "its certificate is not one of a public authority: use http" in (completion.error or "")


async def test_an_app_whose_host_there_is_not_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    service = Upstream(rules=Rules("http://nowhere.invalid/"), keys=[KEY])

    completion = await service.call(ANN, ECHO, binary=False)
    await service.aclose()

    assert isinstance(completion, Completion)
    assert "the app at http://nowhere.invalid failed: there is no such host" in (completion.error or "")


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


async def test_who_invokes_what_no_template_fits_is_told_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = (
        '{"UpstreamSettings":{"Templates":[{"UrlTemplate":"http://x","CategoryPattern":"connections"}]}}'
    )
    (tmp_path / "settings.json").write_text(settings)
    in_code = Rules([UpstreamTemplate(TEMPLATE, event="other")])
    error = "no upstream template fits hub 'chat', category 'messages', event 'echo': add one to "

    for rules, where in ((in_code, "those of the local service"), (Rules(tmp_path), str(tmp_path))):
        app = App()
        completion = await Upstream(rules=rules, keys=[KEY], transport=app).call(ANN, ECHO, binary=False)
        assert isinstance(completion, Completion)
        assert f"Invocation failed, {error}{where}" in (completion.error or "")
        assert app.requests == []
    assert error in caplog.text


async def test_that_no_template_fits_connections_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    rules = Rules([UpstreamTemplate(TEMPLATE, category="messages")])
    app = App()

    await Upstream(rules=rules, keys=[KEY], transport=app).call(ANN, OpenConnection(), binary=False)

    assert (app.requests, caplog.text) == ([], "")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            httpx.Response(403, json={"title": "Forbidden", "detail": "not on Sundays"}),
            "403: not on Sundays\n",
        ),
        (httpx.Response(500, text="<h1>Oh\r\n\x1b[0m no</h1>"), "500: <h1>Oh [0m no</h1>\n"),
        (httpx.Response(500, content=b"\xff" * 10_000), "500: " + "\ufffd" * 300 + "\n"),
        (httpx.Response(500, html="<h1>Oh no</h1>"), "500\n"),
        (
            httpx.Response(
                404,
                json={"detail": "no handler"},
                headers={"content-type": "application/problem+json; charset=utf-8"},
            ),
            "404: no handler\n",
        ),
    ],
)
async def test_a_connected_that_fails_is_logged_with_what_the_app_said(
    answer: httpx.Response, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await upstream(App(answer)).call(ANN, OpenConnection(), binary=False) is None

    assert f"'connected' of hub 'chat': the app at http://localhost:8080 answered {said}" in caplog.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404), "404. "),
        (httpx.Response(404, html="<!doctype html>\n<title>404 Not Found</title>"), "404. "),
        (httpx.Response(404, json={"detail": "Not Found"}), "404: Not Found. "),  # as FastAPI answers
        (httpx.Response(404, text="Not Found"), "404: Not Found. "),  # as Starlette does
    ],
)
async def test_a_404_that_is_not_of_our_app_names_the_path_and_what_a_prefix_needs(
    answer: httpx.Response, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    await upstream(App(answer)).call(ANN, OpenConnection(), binary=False)

    assert (
        f"'connected' of hub 'chat': the app at http://localhost:8080/chat/api/connections/connected?code=... "
        f"answered {said}Mounted under a prefix?"
    ) in caplog.text
    assert "dev --path '/prefix/{hub}/{category}/{event}'" in caplog.text
    assert "local --upstream 'http://host/prefix/{hub}/{category}/{event}'" in caplog.text
    assert "s3cret" not in caplog.text


async def test_rules_can_be_asked_for_at_every_call() -> None:
    prefixes = iter(["/old", "/new"])
    rules = Rules(lambda: Served((UpstreamTemplate(f"http://localhost{next(prefixes)}/{{event}}"),)))
    app = App(httpx.Response(204), httpx.Response(204))
    service = Upstream(rules=rules, keys=[KEY], transport=app)

    for _ in range(2):
        await service.call(ANN, ECHO, binary=False)

    assert [request.url.path for request in app.requests] == ["/old/echo", "/new/echo"]


@pytest.mark.parametrize("target", ["a\r\nb", "a\0b", "a\vb", "a\fb"])
async def test_a_target_that_would_break_the_headers_is_refused(target: str) -> None:
    app = App()

    completion = await upstream(app).call(ANN, Invocation(target, Raw(b"[]"), "0"), binary=False)

    assert isinstance(completion, Completion)
    assert "it cannot be sent to the app" in (completion.error or "")
    assert app.requests == []


async def test_each_key_makes_a_signature_in_order() -> None:
    # reference/local-service-and-clients 6.1: Microsoft's own vector
    app = App()
    keys = ["7aab239577fd4f24bc919802fb629f5f", "a5f2815d0d0c4b00bd27e832432f91ab"]
    caller = Caller("0f9c97a2f0bf4706afe87a14e0797b11", "chat", None, (), "")

    await Upstream(rules=Rules(TEMPLATE), keys=keys, transport=app).call(
        caller, OpenConnection(), binary=False
    )

    assert app.requests[0].headers["x-asrs-signature"] == (
        "sha256=7767effcb3946f3e1de039df4b986ef02c110b1469d02c0a06f41b3b727ab561,"
        "sha256=d4aefb65547a00a9881fa8ac8bd03d0faf77af9da5205d45c6e57cbda4377760"
    )


async def test_headers_are_utf_8() -> None:
    # reference/local-service-and-clients 2.2
    app = App()
    caller = Caller("c", "chat", "Zoë", (("name", "Zoë 😀"),), "")

    await upstream(app).call(caller, Invocation("grüß", Raw(b"[]")), binary=False)

    headers = dict(app.requests[0].headers.raw)
    assert headers[b"X-ASRS-User-Id"] == "Zoë".encode()
    assert headers[b"X-ASRS-User-Claims"] == "name: Zoë 😀".encode()
    assert headers[b"X-ASRS-Event"] == "grüß".encode()
    assert app.requests[0].url.raw_path == b"/chat/api/messages/gr%C3%BC%C3%9F?code=s3cret"


@pytest.mark.parametrize("target", [".", ".."])
async def test_dots_alone_are_posted_to_a_path_of_their_own(target: str) -> None:
    app = App()

    await upstream(app).call(ANN, Invocation(target, Raw(b"[]")), binary=False)

    assert app.requests[0].url.raw_path == f"/chat/api/messages/{'%2E' * len(target)}?code=s3cret".encode()


async def test_every_other_value_passes_the_wire() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service = Upstream(rules=Rules(f"http://127.0.0.1:{port}/{{event}}"), keys=[KEY])
    # vectors/emulator, NOTES: an empty value gives `type: `, its space is lost where it is the last
    caller = Caller("c", "chat", " ann\t", (("role", ""), ("dept", "")), "")

    for target in ("\x01", "a\tb", "a  b", "\x7f", "\x85", "é\u2028"):
        completion = await service.call(caller, Invocation(target, Raw(b"[]"), "0"), binary=False)
        assert completion == Completion("0"), repr(target)
    await service.aclose()
    server.close()
    await server.wait_closed()

    assert b"\r\nX-ASRS-User-Claims: role: , dept:\r\nX-ASRS" in heads[0]
    assert b"\r\nX-ASRS-User-Id: ann\r\n" in heads[0]
    assert b"\r\nX-ASRS-Event: \x01\r\n" in heads[0]
    assert len(heads) == 6


async def test_a_target_too_long_for_a_url_is_refused_with_few_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    completion = await upstream(App()).call(ANN, Invocation("x" * 70_000, Raw(b"[]"), "0"), binary=False)

    assert isinstance(completion, Completion)
    assert "InvalidURL" in (completion.error or "")
    assert len(caplog.text) < 500


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

    service = Upstream(app=app, rules=Rules("http://app/{hub}/{category}/{event}"), keys=[KEY])
    completion = await service.call(ANN, Invocation("a/b", Raw(b"[1]"), "0"), binary=False)
    await service.aclose()

    assert completion == Completion("0", result=Raw(b"[1]"))
    assert seen[0]["raw_path"] == b"/chat/messages/a%2Fb"


async def test_an_endless_answer_of_an_app_in_this_process_is_stopped_at_the_limit() -> None:
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            yield b"x" * 1024 * 1024

    service = Upstream(app=StreamingResponse(endless()), rules=Rules("http://app/"), keys=[KEY])
    completion = await service.call(ANN, ECHO, binary=False)
    await service.aclose()

    assert completion == Completion("0", error="Invocation failed, response too large.")
    assert produced <= 20


async def test_an_app_in_this_process_that_raises_is_a_500() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    app: ASGIApp = broken
    completion = await Upstream(app=app, rules=Rules("http://app/{hub}/{category}/{event}"), keys=[KEY]).call(
        ANN, ECHO, binary=False
    )

    assert completion == Completion("0", error="Invocation failed, status code 500")


def test_no_secret_is_in_a_repr() -> None:
    assert "s3cret" not in repr(ANN) + repr(Upstream(rules=Rules(TEMPLATE), keys=[KEY])) + repr(
        Upstream(keys=[KEY])
    )
    assert KEY not in repr(Upstream(rules=Rules(TEMPLATE), keys=[KEY]))
    post = Post("conn-1", "chat", "messages", "echo", TEMPLATE, [(b"Authorization", b"s3cret")], b"s3cret")
    assert repr(post) == "<Post of 'echo' to http://localhost:8080>"


# --- redirects ---


def redirect(status: int, location: str) -> httpx.Response:
    return httpx.Response(status, headers={"Location": location})


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
async def test_a_lenient_service_follows_a_redirect_within_the_host(status: int, method: str) -> None:
    # vectors/emulator: 301 and 302 come again as GET with the X-ASRS headers, 307 as POST with its body
    app = App(redirect(status, "/redirected/x?code=t"), httpx.Response(200, content=COMPLETED))

    assert await upstream(app, lenient=True).call(ANN, ECHO, binary=False) == COMPLETED

    first, second = app.requests
    assert (second.method, str(second.url)) == (method, "http://localhost:8080/redirected/x?code=t")
    assert second.content == (first.content if method == "POST" else b"")
    assert second.headers["x-asrs-signature"] == first.headers["x-asrs-signature"]
    assert ("content-type" in second.headers) is (method == "POST")
    assert second.headers.get("content-length") == ("70" if method == "POST" else None)


@pytest.mark.parametrize(
    ("answer", "lenient"),
    [
        (redirect(307, "/x"), False),
        (redirect(307, "http://localhost:8081/x?code=s3cret"), True),
        (redirect(307, "https://localhost:8080/x"), True),
        (redirect(307, "http://elsewhere:8080/x"), True),
        (redirect(307, "http://["), True),
        (redirect(304, "/x"), True),
        (httpx.Response(307), True),
    ],
)
async def test_a_signature_goes_nowhere_else(answer: httpx.Response, lenient: bool) -> None:
    app = App(answer)

    completion = await upstream(app, lenient=lenient).call(ANN, ECHO, binary=False)

    assert isinstance(completion, Completion)
    assert completion.error is not None
    assert "s3cret" not in completion.error
    assert completion.error.startswith("Invocation failed, ")
    assert len(app.requests) == 1


async def test_redirects_come_to_an_end() -> None:
    app = App(*[redirect(307, "/again")] * 51)

    completion = await upstream(app, lenient=True).call(ANN, ECHO, binary=False)

    assert completion == Completion(
        "0",
        error="Invocation failed, status code 307: a redirect is not followed, since the signature would go along. "
        "Use the URL that it leads to.",
    )
    assert len(app.requests) == 51


# --- trying again ---


async def settled(task: "asyncio.Task[Any]") -> bool:
    """Let everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


FAILURES = (httpx.Response(500), httpx.ConnectError("refused"), httpx.Response(408), httpx.ReadError("cut"))


async def test_what_failed_is_tried_again_on_the_services_schedule() -> None:
    app = App(*FAILURES[:3], httpx.Response(200, content=COMPLETED))
    clock = ManualClock()
    journal = Journal(clock)
    calling = asyncio.create_task(upstream(app, retry=True, journal=journal).call(ANN, ECHO, binary=False))

    for number, pause in enumerate((1.0, 3.0, 5.0), start=1):
        assert not await settled(calling)
        assert len(app.requests) == number
        clock.advance(pause - 0.01)
        assert not await settled(calling)
        assert len(app.requests) == number
        clock.advance(0.01)

    assert await calling == Completion("0", result=Raw(b'"ok"'))
    assert [request.content for request in app.requests] == [app.requests[0].content] * 4
    # the journal has every attempt
    assert [call.answer and call.answer.status for call in journal.upstream_calls] == [500, None, 408, 200]
    starts = [call.start - journal.upstream_calls[0].start for call in journal.upstream_calls]
    assert starts == [0.0, 1.0, 4.0, 9.0]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (httpx.Response(503), "Invocation failed, status code 503"),
        (httpx.ReadError("cut"), "Invocation failed, the app at http://localhost:8080 failed: ReadError"),
    ],
)
async def test_after_four_attempts_the_last_answer_counts(
    last: httpx.Response | Exception, error: str
) -> None:
    app = App(*FAILURES[:3], last)
    clock = ManualClock()
    calling = asyncio.create_task(
        upstream(app, retry=True, journal=Journal(clock)).call(ANN, ECHO, binary=False)
    )

    for pause in (1.0, 3.0, 5.0):
        await settled(calling)
        clock.advance(pause)

    assert await calling == Completion("0", error=error)
    assert len(app.requests) == 4


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.Response(429), httpx.Response(204)])
async def test_what_would_fail_again_is_not_tried_again(answer: httpx.Response) -> None:
    app = App(answer)

    await upstream(app, retry=True, journal=Journal(ManualClock())).call(ANN, ECHO, binary=False)

    assert len(app.requests) == 1


async def test_attempts_end_with_the_time_for_all_of_them() -> None:
    app = App(*FAILURES)
    clock = ManualClock()
    calling = asyncio.create_task(
        upstream(app, retry=True, journal=Journal(clock), timeout=2.0).call(ANN, ECHO, binary=False)
    )

    await settled(calling)
    clock.advance(1.0)
    await settled(calling)
    clock.advance(1.0)

    completion = await calling
    assert isinstance(completion, Completion)
    assert "did not answer within 2 seconds" in (completion.error or "")
    assert len(app.requests) == 2


async def test_nothing_is_tried_again_unless_it_is_asked_for() -> None:
    app = App(httpx.Response(500))

    await upstream(app).call(ANN, ECHO, binary=False)

    assert len(app.requests) == 1
