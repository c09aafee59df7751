"""The watch over secrets sees them: a test that tells one fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from signalr_upstream.auth import sign_connection
from signalr_upstream.errors import HubError, SignalRError

from . import canaries
from .canaries import secret_in
from .support import CONNECTION_STRING, asgi_scope, call_headers

TELLING = """
import logging, sys
from signalr_upstream.errors import HubError
from tests.canaries import COOKIE, KEY, no_error_text_holds_a_secret, pytest_runtest_makereport

def test_quiet():
    logging.getLogger("app").warning("nothing")

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
"""


def test_a_test_that_tells_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "test_telling.py").write_text(TELLING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.canaries",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
    ]

    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    for name in ("log", "output", "error_output", "traceback", "error"):
        assert f"test_{name}" in done.stdout
    assert "test_quiet" not in done.stdout
    assert "a cookie stands in the captured log call of this test" in done.stdout
    assert "a key stands in the text of a HubError" in done.stdout


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
        (sign_connection("c1", [canaries.KEY]), "a signature"),
        ("Endpoint=https://x;AccessKey=0123456789abcdef0123456789abcdef;", "an access key"),
        ("Endpoint=https://x;AccessKey=<redacted>;", None),
        ("upstream call answered 401: no valid signature for connection 'c1'", None),
    ],
)
def test_secrets_are_recognised(text: str, secret: str | None) -> None:
    assert secret_in(text) == secret


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
