"""``signalr-upstream local``, as a process."""

import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from signalr_upstream.auth import encode_token
from signalr_upstream.cli import main
from signalr_upstream.connection_string import EMULATOR_KEY, parse_connection_string

from ..misbehaving import port_free_on
from .conftest import KEY, PATIENCE, Command, Start, is_open


def test_it_looks_like_the_emulator_of_microsoft(start: Start, port: int) -> None:
    command = start("local", "--port", str(port))
    assert f"http://localhost:{port}" in command.read_until("Local SignalR service on")
    assert "http://localhost:8080/{hub}/{category}/{event}" in command.read_until("upstream calls go to")
    assert (
        f"Endpoint=http://localhost;Port={port};AccessKey={EMULATOR_KEY};Version=1.0;"
        in command.read_until("connection string")
    )
    assert f"http://localhost:{port}/inspector#token=" in command.read_until("inspector")

    assert httpx.get(f"http://localhost:{port}/api/health").status_code == 200

    command.send(signal.SIGTERM)
    assert command.wait() == 0


def test_the_defaults_are_those_of_the_emulator() -> None:
    result = CliRunner().invoke(main, ["local", "--help"], terminal_width=200)

    assert "default: 8888" in result.output
    assert EMULATOR_KEY not in result.output


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(main, ["local", "--port", str(taken.getsockname()[1])])

    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1" in result.output
    assert "in use" in result.output


def test_the_session_is_recorded_to_a_file(start: Start, port: int, tmp_path: Path) -> None:
    record = tmp_path / "session.jsonl"
    command = start("local", "--port", str(port), "--record", str(record))
    command.read_until("connection string")
    httpx.get(f"http://localhost:{port}/api/health")

    command.send(signal.SIGTERM)
    assert command.wait() == 0

    assert record.read_text() == (
        '{"signalr_upstream":"session","version":1}\n{"rest":"GET /api/health","status":200}\n'
    )


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["local", "--port", "0", "--record", str(tmp_path / "no" / "file")])

    assert result.exit_code == 1
    assert "no/file: No such file or directory" in result.output


SETTINGS = '{"UpstreamSettings": {"Templates": [{"UrlTemplate": "%s"}]}}'


def test_the_emulators_settings_are_used_where_they_are_and_read_again(
    start: Start, folder: Path, port: int
) -> None:
    (folder / "settings.json").write_text(SETTINGS % "http://localhost:7071/x?code=s3cret")
    command = start("local", "--port", str(port))

    assert "settings.json" in command.read_until("upstream settings")
    command.read_until("[0]http://localhost:7071/x?code=...(event:'*',hub:'*',category:'*')")
    command.read_until("connection string")
    # What is written before the system watches the folder is not seen.
    assert httpx.get(f"http://localhost:{port}/api/health").status_code == 200
    rewrite_until(command, folder / "settings.json", SETTINGS % "http://localhost:7072/y", "Current Upstream")
    command.read_until("[0]http://localhost:7072/y(event:'*',hub:'*',category:'*')")
    (folder / "settings.json").write_text("{\n  x}")
    assert "settings.json, line 2, column 3" in command.read_until("stay in force")

    command.send(signal.SIGTERM)
    assert command.wait() == 0
    assert "s3cret" not in command.output


def rewrite_until(command: Command, file: Path, text: str, said: str) -> None:
    """Write a file until the command has noticed."""
    for _ in range(30):
        file.write_text(text)
        if command.says(said, within=1.0):
            return
    raise AssertionError(f"{said!r} was not printed, but:\n{command.output}")


@pytest.mark.parametrize("argument", ["other", "other/settings.json"])
def test_settings_can_be_named_by_folder_or_file(
    start: Start, folder: Path, port: int, argument: str
) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "settings.json").write_text('{"properties": {"upstream": {"templates": []}}}')
    (folder / "settings.json").write_text("{")  # not this one
    command = start("local", "--port", str(port), "--config", argument)

    assert "other/settings.json" in command.read_until("upstream settings")
    command.read_until("No upstream is set.")

    command.send(signal.SIGTERM)
    assert command.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--config", "nowhere"], 1, "there is no settings file nowhere and no nowhere/settings.json"),
        (["--config", "broken.json"], 1, "broken.json, line 1, column 2: Expecting property name"),
        (
            [],
            1,
            "settings.json, line 1: there is neither UpstreamSettings.Templates nor properties.upstream.templates. "
            "It is read where neither --upstream nor --config is given.",
        ),
        (
            ["--config", "long.json"],
            1,
            "long.json, line 2, UpstreamSettings.Templates[0].UrlTemplate: this has to be a string",
        ),
        (["--upstream", "localhost:8080"], 1, "the URL template of an upstream is no http or https URL"),
        (["--upstream", "http://x", "--config", "."], 2, "give one of them"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    arguments: list[str], status: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "long.json").write_text((SETTINGS % "").replace('""', "\n" + "7" * 5000))
    (tmp_path / "settings.json").write_text('{"editor": {}}')

    result = CliRunner().invoke(main, ["local", "--port", "0", *arguments])

    assert result.exit_code == status
    assert reason in " ".join(result.output.split())


def test_two_keys_sign_and_failed_calls_are_tried_again_and_told(start: Start, port: int) -> None:
    second = KEY[::-1]
    with socket.create_server(("127.0.0.1", 0)) as app:
        app.settimeout(PATIENCE)
        command = start(
            *("local", "--port", str(port), "--retry-upstream", "--experimental-streams"),
            *("--upstream", f"http://127.0.0.1:{app.getsockname()[1]}/{{event}}"),
            SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY=f"{KEY} {second}",
        )
        assert "AccessKey=<your access key>;" in command.read_until("connection string")

        token = encode_token({"aud": f"http://localhost:{port}/client/?hub=chat", "exp": 4102444800}, second)
        with connect(f"ws://localhost:{port}/client/?hub=chat&access_token={token}", proxy=None) as client:
            client.send('{"protocol":"json","version":1}\x1e')
            requests = [answer(app, status) for status in ("503 Busy", "204 No Content")]
            client.send('{"type":4,"invocationId":"7","target":"count","arguments":[]}\x1e')
            requests.append(answer(app, "403 Forbidden", '{"detail":"not on Sundays"}'))
            command.read_until("answered 403: not on Sundays")

    assert [request.split(b" ", 2)[1] for request in requests] == [b"/connected", b"/connected", b"/count"]
    [signatures] = {re.search(rb"(?i)x-asrs-signature: (\S+)", request)[1] for request in requests}  # type: ignore[index]
    assert signatures.count(b"sha256=") == 2


def answer(app: socket.socket, status: str, body: str = "") -> bytes:
    """Take one request and answer it."""
    connection, _ = app.accept()
    with connection:
        connection.settimeout(PATIENCE)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        connection.sendall(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
    return request


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "say --allow-remote"),
        (["--host", "0.0.0.0", "--allow-remote"], "everybody knows the emulator's key"),
        (["--access-key", "short"], "32 bytes"),
        (["--access-key", "${SIGNALR_KEY_THAT_NOBODY_HAS_EXPANDED}"], "no placeholder"),
    ],
)
def test_what_would_let_strangers_in_is_refused(arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(main, ["local", *arguments])

    assert result.exit_code == 1
    assert reason in result.output


def test_flags_that_loosen_a_check_cannot_come_from_the_environment() -> None:
    environment = {
        "SIGNALR_UPSTREAM_LOCAL_HOST": "0.0.0.0",
        "SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY": KEY,
        "SIGNALR_UPSTREAM_LOCAL_ALLOW_REMOTE": "1",
    }

    result = CliRunner().invoke(main, ["local"], env=environment)

    assert result.exit_code == 1
    assert "0.0.0.0 can be reached by others: say --allow-remote" in result.output


@pytest.mark.parametrize("host", ["::1", "[::1]", "127.0.0.2"])
def test_the_url_is_where_it_listens(start: Start, port: int, host: str) -> None:
    command = start("local", "--host", host, "--port", str(port))

    url = command.read_until("Local SignalR service on").split()[-1]
    endpoint = parse_connection_string(command.read_until("connection string").split()[-1])
    inspector = command.read_until("inspector").split()[-1]

    assert httpx.get(f"{url}/api/health").status_code == 200
    assert httpx.get(f"{endpoint.url}/api/health").status_code == 200
    assert httpx.get(inspector).status_code == 200
    assert not is_open(port)  # at 127.0.0.1, where localhost leads


def test_a_key_of_ones_own_is_not_printed(start: Start, port: int) -> None:
    command = start("local", "--port", str(port), "--access-key", KEY)
    printed = command.read_until("connection string").split("string", 1)[1].strip()

    command.send(signal.SIGINT)

    assert command.wait() == 0
    assert KEY not in command.output
    assert printed == f"Endpoint=http://localhost;Port={port};AccessKey=<your access key>;Version=1.0;"
    assert "unexpanded placeholder" in parse_connection_string(printed).key_problem


def test_others_are_let_in_on_request_with_a_key_of_ones_own(start: Start) -> None:
    port = port_free_on("0.0.0.0")
    command = start("local", "--host", "0.0.0.0", "--port", str(port), "--allow-remote", "--access-key", KEY)

    command.read_until("connection string")

    assert httpx.get(f"http://127.0.0.1:{port}/api/health").status_code in (200, 403, 421)
    command.send(signal.SIGINT)
    assert command.wait() == 0
