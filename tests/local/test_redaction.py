"""What the service hands out to open doors is hidden wherever calls are shown or written down."""

import json

import pytest

from signalr_upstream.local.fixture import lines_of
from signalr_upstream.local.redaction import hide_tokens

from .doors import call, make

pytestmark = pytest.mark.anyio


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


async def test_a_recording_holds_no_key_and_no_token() -> None:
    service = make()
    key = (await call(service, "GET", "/api/auth/accessKey")).json()["AccessKey"]
    token = (await call(service, "POST", "/api/hubs/chat/:generateToken")).json()["token"]

    recorded = json.dumps(lines_of(service.journal))

    assert len(service.rest_calls) == 2
    assert recorded.count("[hidden]") == 2
    assert key not in recorded
    assert token not in recorded
