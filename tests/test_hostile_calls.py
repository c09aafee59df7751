"""Whatever arrives, the answer is one of the error table's, and the process goes on serving."""

import asyncio
import json
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream import Context, Hub, Identity, UpstreamApp, role
from signalr_upstream.auth import sign_connection
from signalr_upstream.claims import SEAL_CLAIM, seal
from signalr_upstream.protocol.upstream import encode_headers

from .support import (
    CONNECTION_STRING,
    KEY,
    MESSAGEPACK,
    Message,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    invoke,
    receive_nothing,
)

TABLE = {200, 204, 400, 401, 404, 405, 408, 413, 415, 503}
"""The statuses of the error table that no handler asks for."""


def answer_of(app: UpstreamApp, scope: Message, body: bytes) -> tuple[int, bytes]:
    """Run one call to its end. An exception of the app fails the test."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    start, content = asyncio.run(call_asgi(app, scope, receive))
    assert len(content["body"]) == int(dict(start["headers"]).get(b"content-length", b"0"))
    assert start["status"] != 200 or content["body"]
    return start["status"], content["body"]


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    recorder = Recorder(max_body_size=2000)

    @recorder.hub.on("*")
    async def anything(ctx: Context, *values: object) -> object:
        repr(
            (
                ctx,
                ctx.user_id,
                ctx.query,
                ctx.headers,
                ctx.claims,
                ctx.claims_raw,
                ctx.arguments,
                ctx.request.url,
            )
        )
        return list(values)

    return recorder


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(
    st.sampled_from(
        ["type", "Type", "target", "Target", "arguments", "invocationId", "streamIds", "headers", "error"]
    ),
    st.sampled_from([1, 10, 11, "echo", "1", ["a"], [], None]) | VALUES,
)
BODIES = (
    st.binary(max_size=300)
    | MEMBERS.map(lambda members: json.dumps(members).encode())
    | st.lists(VALUES, max_size=7).map(lambda items: json.dumps(items).encode())
    | st.lists(st.sampled_from([1, 3, {}, "1", "echo", ["a"], []]) | st.binary(max_size=5), max_size=7).map(
        msgspec.msgpack.encode
    )
)


@settings(max_examples=300, deadline=None)
@given(
    body=BODIES,
    event=st.sampled_from(["echo", "other", "connected", "disconnected"]),
    content_type=st.sampled_from(["application/json", MESSAGEPACK]),
    cut=st.integers(0, 3),
)
def test_any_body_gets_an_answer_of_the_table(
    recorder: Recorder, body: bytes, event: str, content_type: str, cut: int
) -> None:
    scope = asgi_scope(call_headers(event, content_type=content_type))

    status, content = answer_of(recorder.app, scope, body[: len(body) - cut])

    assert status in TABLE - {401, 405, 408, 503}
    assert status in (200, 204) or json.loads(content)["status"] == status


NAMES = [
    b"x-asrs-connection-id",
    b"x-asrs-hub",
    b"x-asrs-category",
    b"x-asrs-event",
    b"x-asrs-user-id",
    b"x-asrs-user-claims",
    b"x-asrs-client-query",
    b"x-asrs-signature",
    b"x-asrs-unknown",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"accept",
]
HEADER_VALUES = st.binary(max_size=30) | st.sampled_from(
    [
        b"",
        b"chat",
        b"connections",
        b"messages",
        b"connected",
        b"echo",
        b"*",
        b"0",
        b"99",
        b"?a=%ff&access_token=1",
        b"gzip",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(NAMES), HEADER_VALUES), max_size=4),
    repeat=st.booleans(),
    path=st.none() | st.binary(max_size=30),
    method=st.sampled_from(["POST", "POST", "POST", "GET", "BREW"]),
)
def test_any_headers_get_an_answer_of_the_table(
    recorder: Recorder, changes: list[tuple[bytes, bytes]], repeat: bool, path: bytes | None, method: str
) -> None:
    scope = asgi_scope(call_headers("echo"), method=method)
    changed = {name for name, _ in changes}
    scope["headers"] = [line for line in scope["headers"] if repeat or line[0] not in changed] + changes
    if path is not None:
        scope["raw_path"] = path
        scope["path"] = path.decode("latin-1")

    status, _ = answer_of(
        recorder.app, scope, b'{"type":1,"invocationId":"1","target":"echo","arguments":["a"]}'
    )

    assert status in TABLE


@settings(max_examples=200, deadline=None)
@given(connection_id=st.binary(max_size=40), signature=st.binary(max_size=200))
def test_nothing_but_a_signature_opens_the_door(connection_id: bytes, signature: bytes) -> None:
    recorder = Recorder()
    scope = asgi_scope(call_headers("echo"))
    scope["headers"] = [
        *[line for line in scope["headers"] if line[0] not in (b"x-asrs-connection-id", b"x-asrs-signature")],
        (b"x-asrs-connection-id", connection_id),
        (b"x-asrs-signature", signature),
    ]

    sent = asyncio.run(call_asgi(recorder.app, scope, receive_nothing))

    assert sent[0]["status"] == 401
    assert recorder.calls == []


def test_the_app_goes_on_serving(recorder: Recorder) -> None:
    recorder.calls.clear()

    assert asyncio.run(invoke(recorder.app, "echo", "a"))["result"] == "a"
    assert recorder.calls == ["a"]


# --- roles ---


@pytest.fixture(scope="module")
def guarded() -> UpstreamApp:
    hub = Hub("chat")

    @hub.on("rule", require=role("admin"))
    async def rule(ctx: Context) -> str:
        return "ruled"

    return UpstreamApp(hub, connection_string=CONNECTION_STRING)


def claims_of_token(app: UpstreamApp, identity: Identity) -> list[tuple[str, str]]:
    """The claims of a token, as the service hands them upstream: one a value."""
    access = asyncio.run(app.client_access(app.hubs[0], identity))
    token: dict[str, Any] = jwt.decode(
        access.access_token, KEY, algorithms=["HS256"], options={"verify_aud": False, "verify_iat": False}
    )
    return [
        (name, str(value))
        for name, values in token.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def ruled(app: UpstreamApp, user_id: str | None, claims: list[tuple[str, str]]) -> bool:
    """Whether this user may rule, by the headers that the service would send for these claims."""
    lines = encode_headers(
        connection_id="c1",
        hub="chat",
        category="messages",
        event="rule",
        user_id=user_id,
        claims=claims,
        client_query="",
        signature=sign_connection("c1", [KEY]),
        content_type="application/json",
    )
    scope = asgi_scope({}, path="/chat/messages/rule")
    scope["headers"] = [(name.lower(), value) for name, value in lines]
    status, body = answer_of(app, scope, b'{"type":1,"invocationId":"1","target":"rule","arguments":[]}')
    assert status == 200
    return b"ruled" in body


ADMIN_SEAL = seal("root", {"role": ["admin"]}, KEY)
FORMER_SEAL = seal("ann", {"role": ["admin"]}, KEY)  # ann was admin once, and kept it
STRANGERS_SEAL = seal("ann", {"role": ["admin"]}, "AKeyThatIsNotOneOfOurs_0123456789ABCDEFGHIJ")
HOSTILE = st.lists(
    st.sampled_from(
        [
            "role: admin",
            ", ",
            ",",
            ": ",
            "admin",
            "role",
            f"{SEAL_CLAIM}: ",
            f", {SEAL_CLAIM}: {ADMIN_SEAL}",
            f", {SEAL_CLAIM}: {FORMER_SEAL}",
            f", {SEAL_CLAIM}: {STRANGERS_SEAL}",
            FORMER_SEAL,
            ADMIN_SEAL.partition(".")[0],
            f", {SEAL_CLAIM}: {ADMIN_SEAL}, x: ",
            "root",
            "ann",
            '"',
            "{",
        ]
    )
    | st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=5),
    max_size=6,
).map("".join)


def test_who_was_issued_the_role_may_rule(guarded: UpstreamApp) -> None:
    claims = claims_of_token(guarded, Identity("ann", claims={"role": ["writer", "admin"]}))

    assert ruled(guarded, "ann", claims)
    assert not ruled(guarded, "bob", claims)
    assert not ruled(guarded, None, claims)
    assert not ruled(guarded, "ann", [claim for claim in claims if claim[0] != SEAL_CLAIM])


@settings(max_examples=200, deadline=None)
@given(
    user_id=HOSTILE.filter(lambda text: text not in ("", "root")) | st.just("ann"),
    values=st.dictionaries(st.sampled_from(["name", "email", "role", "nickname"]), HOSTILE, max_size=3),
    first=st.booleans(),
)
def test_no_claim_and_no_user_id_makes_an_admin(
    guarded: UpstreamApp, user_id: str, values: dict[str, str], first: bool
) -> None:
    if values.get("role") == "admin":
        return  # that one was issued
    claims = claims_of_token(guarded, Identity(user_id, claims=values))
    if first:
        claims.reverse()

    assert not ruled(guarded, user_id, claims)
