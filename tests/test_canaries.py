"""The watch over secrets sees them: a test that tells one fails."""

import json
import re
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from signalr_upstream.auth import sign_connection
from signalr_upstream.errors import HubError, SignalRError

from . import canaries
from .canaries import secret_in
from .support import CONNECTION_STRING, asgi_scope, call_headers

TELLING = """
import asyncio, logging, sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from signalr_upstream import Hub, UpstreamApp
from signalr_upstream.errors import HubError
from tests.canaries import CLIENT_TOKEN, COOKIE, KEY
from tests.canary_watch import *
from tests.canary_watch import pytest_runtest_makereport

def answer(text):
    async def page(request):
        return HTMLResponse(text)
    async def negotiate(request):
        return JSONResponse({"url": text, "accessToken": CLIENT_TOKEN}, headers={"x": text})
    async def socket(websocket):
        await websocket.accept()
        await websocket.close(4000, text)
    routes = [Route("/x", page), Route("/x/negotiate", negotiate), WebSocketRoute("/x", socket)]
    return TestClient(UpstreamApp(Hub("chat"), routes=routes))

def test_quiet():
    logging.getLogger("app").warning("nothing")
    answer("nothing").get("/x")
    answer("nothing").get("/x/negotiate")

def test_log():
    logging.getLogger("app").warning("the cookie is %s", COOKIE)

def test_output():
    print("the key is", KEY)

def test_error_output():
    print("the key is", KEY, file=sys.stderr)

def test_traceback():
    try:
        raise ValueError(KEY)
    except ValueError:
        logging.getLogger("app").exception("failed")

def test_error():
    try:
        HubError(f"the key is {KEY}")
    except HubError:
        pass

def test_page():
    answer(f"<b>{COOKIE}</b>").get("/x")

def test_token_page():
    answer(CLIENT_TOKEN).get("/x")

def test_negotiate():
    answer(KEY).get("/x/negotiate")

def test_close_reason():
    with answer(COOKIE).websocket_connect("/x") as websocket:
        websocket.receive()

def test_span():
    with TracerProvider().get_tracer("x").start_as_current_span("call") as span:
        span.add_event("failed", {"with": KEY})

def test_metric():
    MeterProvider().get_meter("x").create_counter("calls").add(1, {"cookie": COOKIE})

def test_prometheus_metric():
    Counter("calls", "Calls.", ["of"], registry=CollectorRegistry()).labels(KEY).inc()
"""


def test_a_test_that_tells_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "test_telling.py").write_text(TELLING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]

    done = subprocess.run(
        [*command, "-p", "tests.canary_watch", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::test_(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(re.findall(r"^def test_(\w+)", TELLING, re.MULTILINE)) - {"quiet"}, done.stdout
    for told in (
        "a cookie stands in the captured log call of this test",
        "a key stands in the text of a HubError",
        "a cookie stands in what GET /x is answered",
        "a token stands in what GET /x is answered",
        "a key stands in what GET /x/negotiate is answered",
        "a cookie stands in what websocket /x is answered",
        "a key stands in the span call",
        "a cookie stands in a label of ",
    ):
        assert told in done.stdout


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {canaries.KEY}", "a key"),
        (f"key {canaries.OTHER_KEY}", "another key"),
        (CONNECTION_STRING, "an access key"),
        (f"name: {canaries.CLAIM}", "a claim"),
        (f"?code={canaries.CODE}", "the code of the upstream URL"),
        (f"id={canaries.CONNECTION_TOKEN}", "a connection token"),
        (f"Bearer {canaries.BEARER_TOKEN}", "a token"),
        (f"access_token={canaries.CLIENT_TOKEN}", "a token"),
        (sign_connection("c7", [canaries.KEY]), "a signature"),
        (sign_connection("c1", [canaries.KEY]).removeprefix("sha256="), "a signature"),
        ("Endpoint=https://x;AccessKey=0123456789abcdef0123456789abcdef;", "an access key"),
        ("Endpoint=https://x;AccessKey=<redacted>;", None),
        ("upstream call answered 401: no valid signature for connection 'c1'", None),
    ],
)
def test_secrets_are_recognised(text: str, secret: str | None) -> None:
    assert secret_in(text) == secret


@pytest.mark.parametrize("secret", [canaries.KEY, canaries.CLAIM, canaries.COOKIE, canaries.BEARER_TOKEN])
@pytest.mark.parametrize(
    "written",
    [
        lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
        lambda secret: "".join(f"&#{byte};" for byte in secret.encode()),
        lambda secret: "".join(f"\\u{byte:04x}" for byte in secret.encode()),
        lambda secret: json.dumps({"a": json.dumps(secret + '"')}),
        lambda secret: b64encode(secret.encode()).decode(),
        lambda secret: b64encode(f".{secret}.".encode()).decode(),
        lambda secret: b64encode(f"..{secret}..".encode()).decode(),
        lambda secret: urlsafe_b64encode(f"~~~{secret}".encode()).decode(),
    ],
)
def test_secrets_are_recognised_however_they_are_written(written: Callable[[str], str], secret: str) -> None:
    assert secret_in(f"one {written(secret)} two") is not None


def test_calls_of_the_tests_bring_every_secret() -> None:
    scope = asgi_scope(call_headers("echo"))
    lines = b"\n".join(value for _, value in scope["headers"]).decode()

    for planted in (
        canaries.CLAIM,
        canaries.COOKIE,
        canaries.CLIENT_TOKEN,
        canaries.CONNECTION_TOKEN,
        canaries.BEARER_TOKEN,
        "sha256=",
    ):
        assert planted in lines
    assert canaries.CODE.encode() in scope["query_string"]


def test_errors_are_watched_here() -> None:
    with pytest.raises(AssertionError, match="a key stands in the text of a HubError"):
        HubError(canaries.KEY)
    assert str(SignalRError("harmless")) == "harmless"
