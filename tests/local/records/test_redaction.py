"""What opens doors is hidden, wherever it stands; all else is left as it was."""

import json

import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.local.records.fixture import lines_of
from signalr_upstream.local.records.redaction import (
    HIDDEN,
    hide_claim,
    hide_headers,
    hide_query,
    hide_tokens,
    hide_url,
    is_secret_header,
)

from ..doors import call, make

TOKEN = encode_token({"aud": "http://localhost/client/?hub=chat", "exp": 4102444800}, "k" * 44)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("hub=chat&access_token=s3cret&x=1", f"hub=chat&access_token={HIDDEN}&x=1"),
        ("id=s3cret&ID=s3cret&Access_Token=s3cret", f"id={HIDDEN}&ID={HIDDEN}&Access_Token={HIDDEN}"),
        ("access%5Ftoken=s3cret", f"access%5Ftoken={HIDDEN}"),
        ("code=s3cret&sig=s3cret", f"code={HIDDEN}&sig={HIDDEN}"),
        (f"theirs={TOKEN}", f"theirs={HIDDEN}"),
        ("hub=chat&idea=1&&flag", "hub=chat&idea=1&&flag"),
        ("", ""),
    ],
)
def test_queries_lose_what_opens_doors_and_nothing_else(query: str, shown: str) -> None:
    assert hide_query(query) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8080/chat/a?code=s3cret", f"http://localhost:8080/chat/a?code={HIDDEN}"),
        ("http://user:s3cret@localhost/a", f"http://{HIDDEN}@localhost/a"),
        (f"/api/hubs/{TOKEN}", f"/api/hubs/{HIDDEN}"),
        ("/api/hubs/chat/:send?api-version=2024-12-01", "/api/hubs/chat/:send?api-version=2024-12-01"),
    ],
)
def test_urls_lose_passwords_and_secrets(url: str, shown: str) -> None:
    assert hide_url(url) == shown


def test_headers_that_open_doors_are_hidden_and_the_others_shown_as_the_app_sees_them() -> None:
    shown = hide_headers(
        [
            (b"X-ASRS-User-Id", "Jürgen".encode()),
            (b"X-ASRS-User-Claims", b"asrs.s.uid: ann, su: czNjcmV0.czNjcmV0, role: Doe, role: admin"),
            (b"X-ASRS-Client-Query", b"?hub=chat&id=s3cret&access_token=s3cret"),
            (b"X-ASRS-Signature", b"sha256=s3cret"),
            (b"Authorization", b"Bearer s3cret"),
            (b"Cookie", b"s3cret"),
            (b"Set-Cookie", b"s3cret"),
            (b"X-Theirs", TOKEN.encode()),
            (b"Content-Type", b"application/json"),
        ]
    )

    assert shown == [
        ("X-ASRS-User-Id", "Jürgen"),
        ("X-ASRS-User-Claims", f"asrs.s.uid: ann, su: {HIDDEN}, role: Doe, role: admin"),
        ("X-ASRS-Client-Query", f"?hub=chat&id={HIDDEN}&access_token={HIDDEN}"),
        ("X-ASRS-Signature", HIDDEN),
        ("Authorization", HIDDEN),
        ("Cookie", HIDDEN),
        ("Set-Cookie", HIDDEN),
        ("X-Theirs", HIDDEN),
        ("Content-Type", "application/json"),
    ]


def test_claims_lose_the_sealed_identity_and_tokens() -> None:
    assert hide_claim("su", "whatever") == HIDDEN
    assert hide_claim("role", "admin") == "admin"
    assert hide_claim("theirs", f"a {TOKEN} b") == f"a {HIDDEN} b"


def test_tokens_are_found_in_any_text() -> None:
    assert hide_tokens(f'{{"token":"{TOKEN}","x":1}}') == f'{{"token":"{HIDDEN}","x":1}}'
    assert hide_tokens("eyJust a text. with dots.") == "eyJust a text. with dots."


def test_headers_of_messages_are_judged_by_their_name_in_any_case() -> None:
    assert [is_secret_header(name) for name in ("AUTHORIZATION", "cookie", "traceparent")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"AccessKey":"s3cr+/t==","KeyId":"t-1"}', '{"AccessKey":"[hidden]","KeyId":"t-1"}'),
        ('{"accessKey" : "s3cret"}', '{"accessKey" : "[hidden]"}'),
        (
            json.dumps('{"AccessKey":"s3cret","KeyId":"t-1"}'),
            '"{\\"AccessKey\\":\\"[hidden]\\",\\"KeyId\\":\\"t-1\\"}"',
        ),
        (
            "Endpoint=http://x;AccessKey=s3cret==;Version=1.0;",
            "Endpoint=http://x;AccessKey=[hidden];Version=1.0;",
        ),
        ("/api/auth/accessKey?api-version=1", "/api/auth/accessKey?api-version=1"),
    ],
)
def test_access_keys_are_hidden_in_any_text(text: str, shown: str) -> None:
    assert hide_tokens(text) == shown


@pytest.mark.anyio
async def test_a_recording_holds_no_key_and_no_token() -> None:
    service = make()
    key = (await call(service, "GET", "/api/auth/accessKey")).json()["AccessKey"]
    token = (await call(service, "POST", "/api/hubs/chat/:generateToken")).json()["token"]

    recorded = json.dumps(lines_of(service.journal))

    assert len(service.rest_calls) == 2
    assert recorded.count("[hidden]") == 2
    assert key not in recorded
    assert token not in recorded
