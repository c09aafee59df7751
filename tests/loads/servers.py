"""Processes of the drills: ``signalr-upstream run`` and the local service, with a look through their logs."""

import json
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.upstream import REPOSITORY
from tests.end_to_end.processes import Server
from tests.support import KEY

EXPECTED = ("'chat/messages/fail' connection='c1'> failed",)
"""Messages of error lines that are as they should be."""


class Run(Server):
    """A command that serves for as long as a drill takes."""

    lifetime = 3600.0

    def end(self) -> int:
        """SIGTERM, and wait for its orderly end; its exit status."""
        self._process.terminate()
        return self._process.wait(60)

    @property
    def pid(self) -> int:
        return self._process.pid


class Place:
    """The folder of one drill, with the logs and vitals of its processes.

    Args:
        every: seconds from sample to sample.
        traced: whether tracemalloc runs in the apps; it makes them slow.
        service: base URL of the REST API.
    """

    def __init__(
        self, folder: Path, *, every: float, traced: bool = False, service: str = "http://localhost:1"
    ) -> None:
        self.folder = folder
        host, _, port = service.rpartition(":")
        self._environment = {
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONTRACEMALLOC": "1" if traced else "0",
            "LOADS_FOLDER": str(folder),
            "LOADS_EVERY": str(every),
            "AzureSignalRConnectionString": f"Endpoint={host};Port={port};AccessKey={KEY};Version=1.0;",
            "SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY": KEY,
        }

    def app(self, port: int, *options: str) -> Run:
        """``signalr-upstream run`` of the app under load."""
        arguments = [
            "run",
            "tests.loads.app:app",
            "--app-dir",
            str(REPOSITORY),
            "--port",
            str(port),
            *options,
        ]
        return self._run(arguments, port, "app.log")

    def local_service(self, port: int, app_port: int) -> Run:
        """``signalr-upstream local``, which calls the app at ``app_port``."""
        template = f"http://127.0.0.1:{app_port}/{{hub}}/{{category}}/{{event}}"
        return self._run(["local", "--port", str(port), "--upstream", template], port, "service.log")

    def _run(self, arguments: Sequence[str], port: int, log: str) -> Run:
        return Run(
            *arguments,
            url=f"http://127.0.0.1:{port}",
            log=self.folder / log,
            environment=self._environment,
        )

    def complaints(self, *expected: str) -> list[str]:
        """What the apps have logged as an error, or not as JSON, and should not have."""
        found: Counter[str] = Counter()
        with (self.folder / "app.log").open(encoding="utf-8", errors="replace") as log:
            for line in log:
                message = _error_of(line)
                if message and not any(text in message for text in (*EXPECTED, *expected)):
                    found[message] += 1
        return [f"logged {count} times: {message[:300]}" for message, count in found.most_common(5)]


def _error_of(line: str) -> str | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return line.strip()
    return str(fields["message"]) if fields["level"] in ("error", "critical") else None


@contextmanager
def place(*, every: float, traced: bool = False, service: str = "http://localhost:1") -> Iterator[Place]:
    """A place that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="loads-") as folder:
        yield Place(Path(folder), every=every, traced=traced, service=service)


def limit_of_files() -> None:
    """As many open files as this machine allows, here and in the processes that are started."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
