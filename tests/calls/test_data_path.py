"""The error table of the design, row by row in its order, up to where a handler runs."""

import logging
import threading
from typing import Any

import pytest

from signalr_upstream.auth import sign_connection
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.protocol.upstream import encode_headers

from ..support import (
    JSON,
    KEY,
    OTHER_KEY,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    completion,
    detail,
    invocation,
    path_of,
    post,
    receive_nothing,
    with_header,
)

pytestmark = pytest.mark.anyio


# --- the order of the checks ---


async def test_every_check_has_its_place_in_the_order_of_the_table() -> None:
    right = call_headers("echo")
    wrong = {
        **right,
        "X-ASRS-Signature": "sha256=00",
        "X-ASRS-Event": "",
        "Content-Type": "text/plain",
    }
    body = b"x" * 200
    request: dict[str, Any] = {"method": "PUT", "path": "/other/messages/echo"}
    keyless = Recorder(connection_string="Endpoint=https://x.test;AccessKey=;Version=1.0;").app
    app = Recorder(max_body_size=100).app

    assert detail(await post(keyless, wrong, body, **request), 503)
    assert detail(await post(app, wrong, body, **request), 401)
    wrong["X-ASRS-Signature"] = right["X-ASRS-Signature"]
    assert detail(await post(app, wrong, body, **request), 405)
    request["method"] = "POST"
    assert "x-asrs-event" in detail(await post(app, wrong, body, **request), 400)
    wrong["X-ASRS-Event"] = "nobody"
    assert "disagree" in detail(await post(app, wrong, body, **request), 400)
    request["path"] = "/chat/messages/nobody"
    assert detail(await post(app, wrong, body, **request), 404)
    wrong["X-ASRS-Event"] = "echo"
    request["path"] = "/chat/messages/echo"
    assert detail(await post(app, wrong, body, **request), 415)
    wrong["Content-Type"] = JSON
    assert detail(await post(app, wrong, body, **request), 413)
    assert detail(await post(app, wrong, b"x", **request), 400)
    assert completion(await post(app, wrong, invocation("echo", 1), **request))["error"]
    assert completion(await post(app, wrong, invocation("echo", "a"), **request))["result"] == "a"


# --- no keys ---


@pytest.mark.parametrize(
    ("access_key", "reason"),
    [
        ("", "is empty"),
        ("${SIGNALR_KEY}", "is an unexpanded placeholder"),
        ("<your access key, at least 32 characters>", "is an unexpanded placeholder"),
        ("@Microsoft.KeyVault(SecretUri=https://v.test/secrets/k)", "is an unexpanded placeholder"),
        ("short", "is shorter than 32 bytes"),
        (EMULATOR_KEY, "well-known key"),
    ],
)
async def test_a_key_that_counts_as_none_never_serves(
    access_key: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"Endpoint=https://chat.service.signalr.net;AccessKey={access_key};Version=1.0;"
    recorder = Recorder(connection_string=text)
    headers = call_headers("echo")

    for signature in (headers["X-ASRS-Signature"], "", "sha256="):
        for _ in range(2):
            scope = asgi_scope(with_header(headers, "X-ASRS-Signature", signature))
            sent = await call_asgi(recorder.app, scope, receive_nothing)
            assert sent[0]["status"] == 503
            assert reason in sent[1]["body"].decode()

    assert recorder.calls == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert len(access_key) < 6 or access_key not in caplog.text


async def test_without_any_connection_string_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    recorder = Recorder(connection_string=None)

    answer = await post(recorder.app, call_headers("connected"), b'{"type":10}')

    assert "AzureSignalRConnectionString" in detail(answer, 503)
    assert recorder.calls == []


async def test_a_function_that_cannot_say_the_connection_string_yet_is_a_503_and_no_call_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    askers: list[threading.Thread] = []

    def source() -> str:
        askers.append(threading.current_thread())
        raise FileNotFoundError(f"/run/secrets/{KEY}")

    recorder = Recorder(connection_string=source)

    for _ in range(3):
        answer = await post(recorder.app, call_headers("echo"), invocation("echo", "a"))
        assert "connection string failed: FileNotFoundError" in detail(answer, 503)

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert askers.count(threading.current_thread()) == 1
    assert recorder.calls == []


async def test_a_connection_string_that_cannot_be_read_is_a_503_with_the_reason() -> None:
    recorder = Recorder(connection_string=f"Endpoint=nowhere;AccessKey={KEY}")

    text = detail(await post(recorder.app, call_headers("connected"), b'{"type":10}'), 503)

    assert "valid URI" in text
    assert KEY not in text
    assert recorder.calls == []


# --- signature ---


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        sign_connection("c2", [KEY]),
        sign_connection("c1", [OTHER_KEY]),
        sign_connection("c1", [KEY]).removeprefix("sha256="),
        sign_connection("c1", [KEY])[:-1],
    ],
)
async def test_no_handler_runs_and_no_body_is_read_without_a_right_signature(signature: str | None) -> None:
    recorder = Recorder()
    for event in ("connected", "disconnected", "echo"):
        scope = asgi_scope(with_header(call_headers(event), "X-ASRS-Signature", signature))

        sent = await call_asgi(recorder.app, scope, receive_nothing)

        assert sent[0]["status"] == 401
    assert recorder.calls == []


@pytest.mark.parametrize("signature", ["", sign_connection("", [KEY]), sign_connection("c1", [KEY])])
async def test_no_handler_runs_without_a_connection_id(signature: str) -> None:
    recorder = Recorder()
    for connection_id in (None, ""):
        headers = with_header(call_headers("echo"), "X-ASRS-Connection-Id", connection_id)
        scope = asgi_scope({**headers, "X-ASRS-Signature": signature})

        assert (await call_asgi(recorder.app, scope, receive_nothing))[0]["status"] == 401
    assert recorder.calls == []


async def test_any_of_several_signatures_and_keys_will_do() -> None:
    signature = sign_connection("c1", [KEY])
    recorder = Recorder(upstream_keys=[OTHER_KEY])
    several = [
        signature.upper().replace("SHA", "sha"),  # as Microsoft's emulator writes it
        f"sha256=00, {signature}",
        f"{signature} ,sha256=00",
        sign_connection("c1", [OTHER_KEY]),
    ]
    for value in several:
        headers = with_header(call_headers("echo"), "X-ASRS-Signature", value)
        assert completion(await post(recorder.app, headers, invocation("echo", "a")))["result"] == "a"
    assert len(recorder.calls) == len(several)


async def test_repeated_signature_lines_are_joined() -> None:
    headers = call_headers("echo")
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"X-ASRS-Signature", b"sha256=" + b"0" * 64))

    answer = await post(Recorder().app, lines, invocation("echo", "a"), path=path_of(headers))

    assert completion(answer)["result"] == "a"


async def test_the_refusal_says_what_to_look_at_and_shows_no_signature(
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = call_headers("echo", key=OTHER_KEY)

    text = detail(await post(Recorder().app, headers), 401)

    assert "access key" in text
    assert headers["X-ASRS-Signature"][7:] not in text + caplog.text
    assert "'c1'" in caplog.text


async def test_insecure_serves_unsigned_calls_but_no_call_without_a_connection() -> None:
    recorder = Recorder(insecure=True)
    unsigned = with_header(call_headers("echo"), "X-ASRS-Signature", None)

    assert completion(await post(recorder.app, unsigned, invocation("echo", "a")))["result"] == "a"
    detail(await post(recorder.app, with_header(unsigned, "X-ASRS-Connection-Id", None)), 401)


# --- code= ---


async def test_with_code_the_url_has_to_carry_it() -> None:
    recorder = Recorder(code="the+secret")
    headers = call_headers("echo")
    path = path_of(headers)

    for query in ("", "?code=", "?code=wrong", "?code=the%2Bsecret&code=x", "?Code=the%2Bsecret"):
        answer = await post(recorder.app, headers, invocation("echo", "a"), path=path + query)
        assert "code=" in detail(answer, 401)
    assert recorder.calls == []
    answer = await post(recorder.app, headers, invocation("echo", "a"), path=f"{path}?x=1&code=the%2Bsecret")
    assert completion(answer)["result"] == "a"


# --- method and headers ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_only_post_is_an_upstream_call(method: str) -> None:
    recorder = Recorder()

    answer = await post(recorder.app, call_headers("connected"), method=method)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert recorder.calls == []


@pytest.mark.parametrize("name", ["X-ASRS-Hub", "X-ASRS-Category", "X-ASRS-Event"])
async def test_a_missing_header_is_named(name: str) -> None:
    recorder = Recorder()
    headers = call_headers("echo")

    for value in (None, ""):
        answer = await post(recorder.app, with_header(headers, name, value), path=path_of(headers))
        assert name.lower() in detail(answer, 400)
    unsigned = with_header(with_header(headers, name, None), "X-ASRS-Signature", None)
    detail(await post(recorder.app, unsigned, path=path_of(headers)), 401)


@pytest.mark.parametrize(
    "name",
    [
        "X-ASRS-Connection-Id",
        "X-ASRS-Hub",
        "X-ASRS-Category",
        "X-ASRS-Event",
        "X-ASRS-User-Id",
        "Content-Type",
    ],
)
async def test_a_repeated_header_is_refused_even_with_equal_values(name: str) -> None:
    recorder = Recorder()
    headers = call_headers("echo", user_id="ann")
    lines = [(key.encode(), value.encode()) for key, value in headers.items()]
    lines.append((name.encode(), headers[name].encode()))

    answer = await post(recorder.app, lines, invocation("echo", "a"), path=path_of(headers))

    assert name.lower() in detail(answer, 400)
    assert recorder.calls == []


async def test_headers_of_others_may_be_repeated() -> None:
    headers = call_headers("echo")
    lines = [(key.encode(), value.encode()) for key, value in headers.items()]
    lines += [(b"X-Forwarded-For", b"10.0.0.1"), (b"X-Forwarded-For", b"10.0.0.2")]

    answer = await post(Recorder().app, lines, invocation("echo", "a"), path=path_of(headers))

    assert completion(answer)["result"] == "a"


async def test_the_headers_the_protocol_module_writes_are_taken() -> None:
    lines = encode_headers(
        connection_id="c1",
        hub="chat",
        category="messages",
        event="echo",
        user_id="ann",
        claims=[("role", "x")],
        client_query="?a=b",
        signature=sign_connection("c1", [KEY]),
        content_type=JSON,
    )

    answer = await post(Recorder().app, lines, invocation("echo", "a"), path="/chat/messages/echo")

    assert completion(answer)["result"] == "a"
