"""The curl line does what the service did, holds no secret, and no text of a client acts in the shell."""

import json
import os
import subprocess

import pytest

from signalr_upstream.auth import verify_signature
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.inspector.curl import curl_line, quoted, why_no_curl_line
from signalr_upstream.local.records.entries import UpstreamCall
from signalr_upstream.local.records.journal import Journal

KEY = "k" * 44
# Says with which words curl was called, and what it read.
SHELL = 'curl() { printf "%s\\0" "$@"; case "$*" in *@-) od -An -tx1 | tr -d " \\n";; esac; }\n'


def call(
    body: bytes,
    *,
    url: str = "http://127.0.0.1:8080/chat/messages/echo",
    max_kept: int = 1000,
    **headers: bytes,
) -> UpstreamCall:
    journal = Journal(ManualClock(), max_kept=max_kept)
    sent = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return UpstreamCall(
        connection_id="conn-1",
        hub="chat",
        category="messages",
        event="echo",
        request=journal.request("POST", url, [(b"X-ASRS-Signature", b"sha256=s3cret"), *sent], body),
        start=0.0,
    )


def words(line: str | None) -> list[str]:
    """What curl is called with when a person pastes the line."""
    assert line is not None
    ran = subprocess.run(
        ["bash", "-c", SHELL + line],
        capture_output=True,
        check=True,
        timeout=20,
        env={"PATH": os.environ["PATH"], "ACCESS_KEY": KEY},
    )
    assert ran.stderr == b""
    return [word.decode("utf-8", "surrogateescape") for word in ran.stdout.split(b"\0")]


def test_the_line_makes_the_call_signed_with_the_key_of_the_shell() -> None:
    body = json.dumps({"type": 1, "target": "echo", "arguments": ["it's", "$HOME", "ü"]}).encode()

    line = curl_line(call(body, Content_Type=b"application/json", Host=b"localhost", Content_Length=b"70"))
    command, *rest = words(line)

    assert command == "-i"
    assert rest[:3] == ["-X", "POST", "http://127.0.0.1:8080/chat/messages/echo"]
    headers = [rest[index + 1] for index, word in enumerate(rest) if word == "-H"]
    signature = headers[0].removeprefix("X-ASRS-Signature: ")
    assert verify_signature(signature, "conn-1", [KEY]) == 0
    assert headers[1:] == ["Content-Type: application/json"]
    assert rest[rest.index("--data-binary") + 1].encode() == body
    assert "s3cret" not in (line or "")


def test_a_binary_body_is_piped_in() -> None:
    body = bytes.fromhex("960180a130a46563686f91ff90")

    *_, read = words(curl_line(call(body)))

    assert read == body.hex()


def test_secrets_are_left_for_the_person_to_put_in() -> None:
    line = curl_line(
        call(
            b"{}", url="http://localhost/a?code=s3cret", X_ASRS_Client_Query=b"?hub=chat&access_token=s3cret"
        )
    )

    assert line is not None
    assert line.startswith("# Where it says [hidden], put in your own.\n")
    assert "code=[hidden]" in line
    assert "s3cret" not in line


def test_there_is_no_line_where_nothing_could_be_called() -> None:
    cut = why_no_curl_line(call(b"x" * 11, max_kept=10))
    inside = why_no_curl_line(call(b"{}", url="http://app.localhost/chat/messages/echo"))

    assert cut is not None
    assert "only its start" in cut
    assert inside is not None
    assert "no address" in inside
    assert why_no_curl_line(call(b"{}")) is None


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two words",
        "it's",
        "$(touch x)`id`",
        'a"b\\c',
        "\x1b]0;x\x07",
        "é\x00é"[:1],
        "a'\\\x1b[A",
        "\u202e",
        "",
    ],
)
def test_no_text_acts_in_the_shell(text: str) -> None:
    written = quoted(text)

    assert written.isprintable()
    ran = subprocess.run(["bash", "-c", f"printf %s {written}"], capture_output=True, check=True, timeout=20)
    assert ran.stdout.decode() == text
