"""Processes of the end-to-end tests: every one has a hard deadline, and a log that a failing test shows."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

HERE = Path(__file__).parent

# Seconds for one thing to happen: far more than is needed, also on a busy machine.
PATIENCE = 20.0


class Process:
    """A child process that is killed, with all it has started, after ``lifetime`` or when the block ends."""

    lifetime = 100.0  # seconds

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
            )
        self._deadline = threading.Timer(self.lifetime, self._kill)
        self._deadline.daemon = True
        self._deadline.start()
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.cancel()
        self._kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # a command that the process did not read any more
                stream.close()
        if error is not None:
            error.add_note(f"$ {' '.join(self._command)}\n{self.read_log()}")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(line)
            self._took_line(line)

    def _took_line(self, line: str) -> None:
        """A line of output has come; called in a thread of its own."""

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def read_log(self) -> str:
        """Everything the process has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")


class Server(Process):
    """A command of ``signalr-upstream``, ready when ``url`` answers."""

    lifetime = 300.0  # seconds: it serves all tests of a module

    def __init__(
        self, *arguments: str | Path, url: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        command = [sys.executable, "-m", "signalr_upstream.cli", *arguments]
        super().__init__(command, log=log, environment=environment)

    def __enter__(self) -> Self:
        try:
            wait_until(self._answers, f"{self.url} answers")
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server has ended"
        try:
            httpx.get(self.url, timeout=PATIENCE)
        except httpx.TransportError:
            return False
        return True

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until it has ended."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(PATIENCE)

    def wait_for_log(self, text: str, *, times: int = 1) -> None:
        """Wait until a text has been logged so often."""
        wait_until(lambda: self.read_log().count(text) >= times, f"{text!r} is logged")


def dev(app: str, *flags: str, folder: Path, log: Path, ports: tuple[int, int] | None = None) -> Server:
    """``signalr-upstream dev``: an app and the local service, on free ports unless they are given."""
    port, service_port = ports or (free_port(), free_port())
    where = ["--port", str(port), "--service-port", str(service_port)]
    return Server("dev", app, "--app-dir", folder, *where, *flags, url=f"http://localhost:{port}", log=log)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again until ``condition`` holds.

    Raises:
        TimeoutError: it did not within ``PATIENCE``.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s until {what}")
        time.sleep(0.02)
