"""What an attacker tries that no other test of a module does, by category: timing, headers, bodies, claims, secrets."""

import hmac
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from signalr_upstream import Context, HubError, verify_signature
from signalr_upstream.auth import sign_connection
from signalr_upstream.claims import MAX_CACHED_SEALS, Unsealer, seal
from signalr_upstream.errors import SignatureError

from .canaries import secret_in
from .support import (
    JSON,
    KEY,
    MESSAGEPACK,
    OTHER_KEY,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    invocation,
    path_of,
    post,
    serve,
    with_header,
)

pytestmark = pytest.mark.anyio

CONTROL = {chr(code) for code in (*range(9), *range(11, 32), 127)}


# --- timing ---


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What is compared in constant time."""
    pairs: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        pairs.append((bytes(a), bytes(b)))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    return pairs


@pytest.mark.parametrize("right", [0, 1, 32, 63])
def test_a_signature_is_compared_whole_however_much_of_it_is_right(
    compared: list[tuple[bytes, bytes]], right: int
) -> None:
    signature = sign_connection("c1", [KEY])
    digits = signature.removeprefix("sha256=")
    guess = "sha256=" + digits[:right] + "".join("0" if digit != "0" else "1" for digit in digits[right:])

    with pytest.raises(SignatureError):
        verify_signature(guess, "c1", [KEY, OTHER_KEY])

    other = sign_connection("c1", [OTHER_KEY])
    assert compared == [(signature.encode(), guess.encode()), (other.encode(), guess.encode())]


def test_a_seal_is_compared_whole(compared: list[tuple[bytes, bytes]]) -> None:
    sealed = seal("ann", {"role": "admin"}, KEY)
    guess = sealed[:-1] + ("A" if sealed[-1] != "A" else "B")

    assert Unsealer([KEY]).unseal(f"su: {guess}", "ann") == {}

    assert compared == [(sealed.split(".")[1].encode(), guess.split(".")[1].encode())]


def test_a_seal_is_compared_once_and_again_when_many_others_came_in_between(
    compared: list[tuple[bytes, bytes]],
) -> None:
    """Clients choose how many there are: they are not all remembered."""
    unsealer = Unsealer([KEY])
    sealed = seal("ann", {"role": "admin"}, KEY)
    for _ in range(2):
        assert unsealer.unseal(f"su: {sealed}", "ann")
    assert len(compared) == 1

    for number in range(MAX_CACHED_SEALS):
        assert unsealer.unseal(f"su: {seal(f'user{number}', {'a': 'b'}, KEY)}", f"user{number}")
    assert unsealer.unseal(f"su: {sealed}", "ann")

    assert len(compared) == 1 + MAX_CACHED_SEALS + 1


async def test_the_code_is_compared_whole(compared: list[tuple[bytes, bytes]]) -> None:
    recorder = Recorder(code="a-code-from-a-vault")

    await post(recorder.app, call_headers("echo"), b"", path="/chat/messages/echo?code=a-code-from-a-vauls")

    assert (b"a-code-from-a-vauls", b"a-code-from-a-vault") in compared


# --- headers ---


@pytest.mark.parametrize(
    "name", ["x_asrs_signature", "x-asrs-signature ", " x-asrs-signature", "x-asrs-signaturе"]
)
async def test_a_header_that_only_looks_like_the_signature_is_none(name: str) -> None:
    recorder = Recorder()
    headers = call_headers("echo")
    signature = headers.pop("X-ASRS-Signature")
    scope = asgi_scope(headers, path="/chat/messages/echo")
    scope["headers"].append((name.encode(), signature.encode()))

    sent = await call_asgi(recorder.app, scope, body_of(invocation("echo", "a")))

    assert sent[0]["status"] == 401
    assert recorder.calls == []


@pytest.mark.parametrize(
    "name", ["hub", "category", "event", "connection-id", "user-id", "user-claims", "client-query"]
)
@pytest.mark.parametrize(
    "hostile",
    [
        b"a\r\nX-ASRS-Hub: chat",
        b"a\nERROR forged line",
        b"a\x00b",
        b"\x1b[2Ja",
        "é\u2028".encode(),
        b"\xff\xfe",
    ],
)
async def test_line_breaks_and_controls_in_headers_reach_neither_log_nor_answer(
    name: str, hostile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A server refuses them; behind another one they may arrive."""
    caplog.set_level(logging.DEBUG)
    recorder = Recorder()
    scope = asgi_scope(call_headers("echo"), path="/chat/messages/echo")
    line = f"x-asrs-{name}".encode()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in (line, b"x-asrs-signature")]
    scope["headers"].append((line, hostile))
    connection_id = dict(scope["headers"])[b"x-asrs-connection-id"]
    digest = hmac.digest(KEY.encode(), connection_id, "sha256").hex()
    scope["headers"].append((b"x-asrs-signature", f"sha256={digest}".encode()))

    start, body = await call_asgi(recorder.app, scope, body_of(invocation("echo", "a")))

    assert start["status"] in (200, 400, 404)
    answered = b"".join(value for _, value in start["headers"]) + body["body"].removesuffix(b"\x1e")
    assert not CONTROL & set(answered.decode())
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("signalr")]
    assert not any(CONTROL & set(message) for message in logged)
    assert not any("\nERROR" in message or "\nX-ASRS" in message for message in logged)


def body_of(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return receive


# --- bodies ---

LIMIT = 1024 * 1024
HEAD = b"\x96\x01\x80\xa11\xa4echo"
BOMBS = {
    "deep JSON": (JSON, b'{"type":1,"invocationId":"1","target":"echo","arguments":' + b"[" * 500_000),
    "deep JSON objects": (JSON, b'{"type":1,"target":"echo","arguments":[' + b'{"a":' * 100_000),
    "deep JSON beside the message": (JSON, b'{"x":' * 100_000),
    "deep MessagePack": (MESSAGEPACK, HEAD + b"\x91" * 500_000),
    "an array that says it has 4 billion items": (MESSAGEPACK, HEAD + b"\xdd\xff\xff\xff\xff"),
    "a map that says it has 4 billion items": (MESSAGEPACK, HEAD + b"\x91\xdf\xff\xff\xff\xff"),
    "a text that says it has 4 GiB": (MESSAGEPACK, HEAD + b"\x91\xdb\xff\xff\xff\xff"),
    "bytes that say they are 4 GiB": (MESSAGEPACK, HEAD + b"\x91\xc6\xff\xff\xff\xff"),
    "an extension that says it has 4 GiB": (MESSAGEPACK, HEAD + b"\x91\xc9\xff\xff\xff\xff\x01"),
    "a message that says it has 4 billion parts": (MESSAGEPACK, b"\xdd\xff\xff\xff\xff"),
    "headers that say they are 4 billion": (MESSAGEPACK, b"\x96\x01\xdf\xff\xff\xff\xff"),
    "arrays of arrays that say a lot": (MESSAGEPACK, HEAD + b"\xdc\xff\xff" * 60),
    "a number with a million digits": (JSON, b'{"type":' + b"1" * 1_000_000 + b"}"),
    "a type in capitals, a million times": (JSON, b"{" + b'"Type":1,' * 100_000 + b'"x":1}'),
    "an unfinished text": (JSON, b'{"type":1,"target":"' + b"\\u0000" * 160_000),
    "not UTF-8": (JSON, b'{"type":1,"target":"echo","arguments":["' + b"\xff" * 900_000 + b'"]}'),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_and_costs_no_memory(name: str) -> None:
    content_type, body = BOMBS[name]
    recorder = Recorder()
    assert len(body) <= LIMIT
    tracemalloc.start()
    try:
        answer = await post(recorder.app, call_headers("echo", content_type=content_type), body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.status_code == 400
    assert recorder.calls == []
    assert peak < 32 * LIMIT


async def test_a_number_in_arguments_with_a_million_digits_is_an_error_and_no_hang() -> None:
    async def go(value: int) -> int:
        return value

    body = b'{"type":1,"invocationId":"1","target":"go","arguments":[' + b"9" * 1_000_000 + b"]}"
    answer = await post(serve(go), call_headers("go"), body)

    assert answer.status_code == 200
    assert b'"error":"argument 1 `value`' in answer.content


# --- claims ---


async def test_claims_are_those_of_each_call_and_not_of_the_connection() -> None:
    seen: list[dict[str, Any]] = []

    async def go(ctx: Context) -> None:
        seen.append(dict(ctx.claims))

    app = serve(go)
    admin, user = ({"role": (role,)} for role in ("admin", "user"))
    for claims in (admin, user, admin, None):
        header = "" if claims is None else f"su: {seal('ann', claims, KEY)}"
        await post(app, call_headers("go", user_id="ann", claims=header), invocation("go"))

    assert seen == [admin, user, admin, {}]


# --- secrets ---


async def test_no_answer_and_no_log_tells_a_secret_whatever_goes_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "httpx")  # the test's own end
    caplog.set_level(logging.DEBUG)

    async def go(ctx: Context, kind: str) -> Any:
        logging.getLogger("app").info("%r %r %s %s", ctx, dict(ctx.headers), ctx.query, ctx.claims)
        match kind:
            case "error":
                raise HubError("refused")
            case "crash":
                raise RuntimeError("crashed")
            case "result":
                return object()
        return kind

    app = serve(go, code="the-code")
    code = {"path": f"{path_of(call_headers('go'))}?code=the-code"}
    good = call_headers("go", user_id="ann")
    answers = [
        *[
            await post(app, good, invocation("go", kind), **code)
            for kind in ("ok", "error", "crash", "result")
        ],
        await post(app, good, invocation("go", "ok")),
        await post(app, good, invocation("go", 5), **code),
        await post(app, good, b"{", **code),
        await post(app, good, b"", path="/other/messages/go?code=the-code"),
        await post(app, good, b"", path=code["path"], method="PUT"),
        await post(
            app, with_header(good, "X-ASRS-Signature", sign_connection("c1", [OTHER_KEY])), b"", **code
        ),
        await post(app, with_header(good, "Content-Type", "text/plain"), b"", **code),
        await post(
            app, with_header(good, "X-ASRS-Event", "other"), b"", path="/chat/messages/other?code=the-code"
        ),
    ]

    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405, 415}
    for answer in answers:
        assert secret_in(answer.text + str(answer.headers)) is None
    assert "answered 200" in caplog.text
    assert secret_in(caplog.text) is None
    assert "the-code" not in caplog.text
