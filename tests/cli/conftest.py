"""Run the command line as users do: in a process, in a folder with an app. Commands that only look run in this one."""

import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from signalr_upstream.auth import sign_connection
from signalr_upstream.cli import main

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="
CONNECTION_STRING = f"Endpoint=https://example.service.signalr.net;AccessKey={KEY};Version=1.0;"

# A process that says nothing for so long will not say it at all.
PATIENCE = 30.0

_NUMBERS = itertools.count()

APP = """
import asyncio

from signalr_upstream import Context, Hub, UpstreamApp

chat = Hub("chat")


@chat.on("slow")
async def slow(seconds: float) -> str:
    print("slow begins", flush=True)
    await asyncio.sleep(seconds)
    return "done"


@chat.on("leaveWork")
async def leave_work(ctx: Context, seconds: float) -> str:
    ctx.after(work, seconds)
    return "done"


async def work(seconds: float) -> None:
    print("work begins", flush=True)
    await asyncio.sleep(seconds)
    print("work is done", flush=True)


app = UpstreamApp(chat)
"""

OUTER = """
from fastapi import FastAPI, WebSocket

import app as inner

app = FastAPI()
app.mount("/signalr", inner.app)


@app.get("/own")
def own() -> str:
    return "own"


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
"""


class Command:
    """A running ``signalr-upstream`` and what it has printed."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "signalr_upstream.cli", *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def read_until(self, text: str) -> str:
        """Wait for a line with ``text`` in it, and give that line."""
        line = self.says(text, within=PATIENCE)
        if line is None:
            raise AssertionError(f"{text!r} was not printed, but:\n{self.output}")
        return line

    def says(self, text: str, *, within: float) -> str | None:
        """The next line with ``text`` in it, if it comes within so many seconds."""
        deadline = time.monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                return None
            self.output += line
            if text in line:
                return line

    def end(self) -> None:
        """Kill it if it still runs, and wait for what it has started: that holds its output open."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status."""
        status = self.process.wait(PATIENCE)
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self.output += line
        return status


Start = Callable[..., Command]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "outer.py").write_text(OUTER)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    commands: list[Command] = []

    def start_command(*arguments: str, **environment: str) -> Command:
        environment = {"AzureSignalRConnectionString": CONNECTION_STRING} | environment
        commands.append(Command(list(arguments), folder, environment))
        return commands[-1]

    yield start_command
    for command in commands:
        command.end()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def call_slow(
    client: httpx.Client, seconds: float, *, target: str = "slow", prefix: str = ""
) -> httpx.Response:
    """An upstream call as the service makes it: ``invoke("slow", seconds)``."""
    return client.post(
        f"{prefix}/chat/messages/{target}",
        content=f'{{"type":1,"invocationId":"1","target":"{target}","arguments":[{seconds}]}}',
        headers={
            "X-ASRS-Connection-Id": "c1",
            "X-ASRS-Hub": "chat",
            "X-ASRS-Category": "messages",
            "X-ASRS-Event": target,
            "X-ASRS-Signature": sign_connection("c1", [KEY]),
            "Content-Type": "application/json",
        },
    )


class Programs:
    """Writes programs into a folder and runs commands on them, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def write(self, code: str) -> str:
        """The name of a module with this code; none has been imported before."""
        name = f"program_{next(_NUMBERS)}"
        (self.folder / f"{name}.py").write_text(code)
        self.names.append(name)
        return name

    def run(self, command: str, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """Run a command; an exception that is none of the command's fails the test."""
        result = CliRunner().invoke(main, [command, *arguments], input=stdin, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def run_on(self, command: str, code: str, *arguments: str, **environment: str) -> Result:
        """Run a command on the app of a program."""
        name = self.write(code)
        return self.run(command, f"{name}:app", "--app-dir", str(self.folder), *arguments, **environment)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    found = Programs(tmp_path)
    yield found
    for name in found.names:
        sys.modules.pop(name, None)
