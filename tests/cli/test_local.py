"""``signalr-upstream local``, as a process."""

import signal
import socket
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from signalr_upstream.cli import main
from signalr_upstream.connection_string import EMULATOR_KEY

from .conftest import KEY, Start


def test_it_looks_like_the_emulator_of_microsoft(start: Start, port: int) -> None:
    command = start("local", "--port", str(port))
    assert f"http://localhost:{port}" in command.read_until("Local SignalR service on")
    assert "http://localhost:8080/{hub}/{category}/{event}" in command.read_until("upstream calls go to")
    assert (
        f"Endpoint=http://localhost;Port={port};AccessKey={EMULATOR_KEY};Version=1.0;"
        in command.read_until("connection string")
    )

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


def test_others_are_let_in_on_request_with_a_key_of_ones_own(start: Start, port: int) -> None:
    command = start("local", "--host", "0.0.0.0", "--port", str(port), "--allow-remote", "--access-key", KEY)

    command.read_until("connection string")

    assert httpx.get(f"http://127.0.0.1:{port}/api/health").status_code in (200, 403, 421)
    command.send(signal.SIGINT)
    assert command.wait() == 0
