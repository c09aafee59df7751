"""Run an app in a child process, beside a local service, and restart it when code changes.

The service stays in this process, so clients stay connected while the app restarts: the service
holds their calls back until the app listens again.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import msgspec
from watchfiles import PythonFilter, awatch

from ..connection_string import DEFAULT_SETTING
from ..local import LocalService, server  # noqa: F401 - a missing extra is to be missed now
from ..local.upstream.rules import Served
from ..local.upstream.templates import UpstreamTemplate
from ..protocol.path import DEFAULT_PATTERN

# Seconds that upstream calls wait for an app that does not listen: longer than a restart takes.
CONNECT_PATIENCE = 15.0

# Seconds an app has to end before it is killed: running calls get one second to finish (app_process).
END_PATIENCE = 4.0


@dataclass(frozen=True, kw_only=True)
class Development:
    """What ``dev`` runs, and where. Both ports are on loopback; no ``path`` is one that the app is asked for."""

    app: str
    app_dir: str
    port: int
    service_port: int
    path: str | None
    reload_dirs: tuple[str, ...]
    cors_origins: tuple[str, ...] = ()
    retry_upstream: bool = False
    experimental_streams: bool = False


async def develop(development: Development) -> None:
    """Run the app and the service until SIGINT or SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="signalr-upstream-") as folder:
        await _develop(development, Report(development, Path(folder, "served.json")))


async def _develop(development: Development, report: "Report") -> None:
    stop = stop_on_signals()
    service = LocalService(
        upstream=report,
        port=development.service_port,
        cors_origins=development.cors_origins,
        retry_upstream=development.retry_upstream,
        experimental_streams=development.experimental_streams,
        connect_patience=CONNECT_PATIENCE,
    )
    async with service:
        _announce(development, service)
        app = await AppProcess.start(development, service.connection_string, report)
        try:
            async for changes in awatch(
                *development.reload_dirs, watch_filter=PythonFilter(), stop_event=stop, debounce=200
            ):
                names = ", ".join(sorted({Path(path).name for _, path in changes}))
                click.echo(f"{names} changed: restarting the app")
                await app.end()
                app = await AppProcess.start(development, service.connection_string, report)
        finally:
            await app.end()


def _announce(development: Development, service: LocalService) -> None:
    click.echo(f"  app                 http://localhost:{development.port}")
    click.echo(f"  local service       {service.url}")
    click.echo(f"  connection string   {service.connection_string}")
    click.echo(f"  inspector           {service.inspector_url}")
    folders = ", ".join(os.path.abspath(folder) for folder in development.reload_dirs)
    click.echo(f"Saving a Python file in {folders} restarts the app. Ctrl-C ends both.")


class Report:
    """What the app's process has said of itself.

    The file is there before the app listens, and so before a call can reach it: it is looked for when one is made.
    """

    def __init__(self, development: Development, file: Path) -> None:
        self.file = file
        path = development.path or DEFAULT_PATTERN
        self._served = Served((UpstreamTemplate(f"http://127.0.0.1:{development.port}{path}"),))

    def __call__(self) -> Served:
        if self.file.exists():
            self._served = msgspec.json.decode(self.file.read_bytes(), type=Served)
            self.file.unlink()
        return self._served


class AppProcess:
    """One run of the app, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._report = asyncio.create_task(_report_end(process))

    @classmethod
    async def start(cls, development: Development, connection_string: str, report: "Report") -> Self:
        """Start the app. That it cannot be imported is told on the terminal, not raised."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "signalr_upstream.cli.app_process"),
            *(development.app, development.app_dir, str(development.port)),
            *(development.path or "", str(report.file)),
            # Read also by a client that the app makes outside of an UpstreamApp.
            env={**os.environ, DEFAULT_SETTING: connection_string},
        )
        return cls(process)

    async def end(self) -> None:
        """End the app and wait until it is gone."""
        self._report.cancel()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), END_PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _report_end(process: asyncio.subprocess.Process) -> None:
    status = await process.wait()
    click.echo(f"The app has ended with status {status}. It starts again when a Python file is saved.")


def pick_port(user: str, port: int, *, fixed: bool) -> int:
    """A port of loopback that is free now: ``port``, or any other where ``port`` is only a default.

    Raises:
        click.ClickException: the port that was asked for is taken.
    """
    try:
        with socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as exc:
        if fixed:
            raise click.ClickException(f"port {port} for {user} cannot be used: {exc.strerror}") from exc
    click.echo(f"Port {port} is taken, so {user} gets another one.")
    return pick_port(user, 0, fixed=True)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set; to be called on the event loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not loop.add_signal_handler, which Windows does not have.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop
