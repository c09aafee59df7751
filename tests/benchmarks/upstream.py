"""What one upstream invocation costs, beside the same job written by hand.

    python -m tests.benchmarks.upstream [--rounds 9] [--seconds 2]

Needs wrk, uvicorn[standard], fastapi, flask and gunicorn. Every server is one worker; wrk keeps 32 connections busy.
Rounds are interleaved, so that a change in the machine's mood meets all of them. Each server's answers are looked at
before it is timed. Judged is the CPU time of the server per request: the baseline's over ours.
"""

import argparse
import hashlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
BASELINES = HERE / "baselines"
REPOSITORY = HERE.parent.parent
TICK = os.sysconf("SC_CLK_TCK")

UVICORN = [
    "-m",
    "uvicorn",
    "--no-access-log",
    "--log-level",
    "warning",
    "--loop",
    "uvloop",
    "--http",
    "httptools",
]
RUN = ["-m", "signalr_upstream.cli", "run", "--log-level", "warning"]
OURS = "signalr-upstream"
FLASK = "Flask on gunicorn"
EXPECTED = {"type": 3, "invocationId": "0", "result": "hello world from a client"}
Launch = tuple[list[str], str, Path, float]
"""Arguments of the interpreter, port option, folder, lowest ratio that is good enough."""

SERVERS: dict[str, Launch] = {
    OURS: ([*RUN, "our_app:app"], "--port", HERE, 1.0),
    "bare ASGI function": ([*UVICORN, "bare_asgi:app"], "--port", BASELINES, 0.82),
    "Starlette by hand": ([*UVICORN, "starlette_app:app"], "--port", BASELINES, 1.4),
    "FastAPI": ([*UVICORN, "fastapi_app:app"], "--port", BASELINES, 3.5),
    FLASK: (
        [
            "-m",
            "gunicorn",
            "-w1",
            "-k",
            "gthread",
            "--threads",
            "8",
            "--log-level",
            "warning",
            "flask_app:app",
        ],
        "-b",
        BASELINES,
        7.0,
    ),
}


class Server:
    """One server process and what it has used."""

    def __init__(
        self,
        name: str,
        port: int,
        launch: Launch,
        *,
        event: str = "echo",
        body: bytes = b"",
        content_type: str = "application/json",
    ) -> None:
        arguments, port_option, folder, self.bar = launch
        self.name = name
        self.event = event
        self.body = body  # none: that of upstream.lua
        self.content_type = content_type
        self.port = port
        value = f"127.0.0.1:{port}" if port_option == "-b" else str(port)
        self.process = subprocess.Popen(
            [sys.executable, *arguments, port_option, value],
            cwd=folder,
            env=environment_of(folder),
            stderr=subprocess.DEVNULL if "debug" in arguments else None,  # the call log
        )
        self.rates: list[float] = []
        self.cpu: list[float] = []  # seconds a request
        self.p99: list[float] = []  # milliseconds

    def wait_until_ready(self) -> None:
        wait_for_port(self.port, self.process)

    def cpu_seconds(self) -> float:
        """User and system time of the process and, for gunicorn, its worker."""
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *_children(self.process.pid)])

    def verify(self) -> None:
        """Look at the answers before they are timed: here, and at every answer of a run of wrk's own."""
        for _ in range(20):
            with urllib.request.urlopen(signed_request(self.port, self.event), timeout=5) as response:
                body: bytes = response.read()
            if not body.endswith(b"\x1e") or json.loads(body[:-1]) != EXPECTED:
                raise SystemExit(f"{self.name} answers wrongly: {body!r}")
        if self.name == FLASK:
            return  # json.dumps puts a space behind the colon, which upstream.lua does not expect
        output = self._wrk(1, {"VERIFY": "1"})
        if "wrong answers: 0\n" not in output or "Non-2xx" in output:
            raise SystemExit(f"{self.name} answers wrongly:\n{output}")

    def run(self, seconds: int, *, count: bool = True) -> None:
        before = self.cpu_seconds()
        output = self._wrk(seconds, {})
        used = self.cpu_seconds() - before
        found = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", output)
        if found is None or "Non-2xx" in output:
            raise SystemExit(f"{self.name}: {output}")
        if count:
            self.rates.append(float(re.search(r"Requests/sec:\s*([\d.]+)", output)[1]))  # type: ignore[index]
            self.cpu.append(used / int(found[1]))
            slowest, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()  # type: ignore[union-attr]
            self.p99.append(float(slowest) * {"us": 0.001, "ms": 1, "s": 1000}[unit])

    def _wrk(self, seconds: int, environment: dict[str, str]) -> str:
        script = BASELINES / "upstream.lua"
        with tempfile.NamedTemporaryFile() as file:
            if self.body:
                file.write(self.body)
                file.flush()
                environment = {
                    **environment,
                    "BASE": str(script),
                    "BODY": file.name,
                    "TYPE": self.content_type,
                }
                script = HERE / "cases.lua"
            return subprocess.run(
                [
                    *["wrk", "-t1", "-c32", "--latency", f"-d{seconds}s", "-s", str(script)],
                    f"http://127.0.0.1:{self.port}/chat/messages/{self.event}",
                ],
                env={**os.environ, "EVENT": self.event, **environment},
                capture_output=True,
                text=True,
                check=True,
            ).stdout


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of a server in ``folder``. Bytecode is kept, as that of what is installed is."""
    return {**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": ""}


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", *, pause: float = 0.05) -> None:
    """Return when somebody listens; look every ``pause`` seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{process.args!r} did not start") from None
            time.sleep(pause)


def signed_request(port: int, event: str = "echo") -> urllib.request.Request:
    """The request of upstream.lua."""
    script = (BASELINES / "upstream.lua").read_text()
    headers = dict(re.findall(r'wrk\.headers\["([^"]+)"\] = "([^"]*)"', script))
    headers["X-ASRS-Event"] = event
    body = json.dumps(
        {"type": 1, "invocationId": "0", "target": event, "arguments": ["hello world from a client", 42]}
    )
    url = f"http://127.0.0.1:{port}/chat/messages/{event}"
    return urllib.request.Request(url, body.encode(), headers, method="POST")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def running() -> Iterator[list[Server]]:
    servers = [Server(name, free_port(), launch) for name, launch in SERVERS.items()]
    with all_of(servers):
        yield servers


@contextmanager
def all_of(servers: list[Server]) -> Iterator[None]:
    """Wait until all listen, and end them."""
    try:
        for server in servers:
            server.wait_until_ready()
        yield
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


def measure(rounds: int, seconds: int) -> None:
    with running() as servers:
        for server in servers:
            server.verify()
            server.run(2, count=False)
        for _ in range(rounds):
            for server in servers:
                server.run(seconds)
    ours = next(server for server in servers if server.name == OURS)
    our_rate, our_cpu = statistics.median(ours.rates), statistics.median(ours.cpu)
    print(f"\n{rounds} interleaved rounds of {seconds} s, medians; one worker each, 32 connections\n")
    print(
        "| server | requests/s | CPU µs a request | p99 ms | theirs over ours, CPU | bar "
        "| ours over theirs, requests/s |"
    )
    print("|---|---|---|---|---|---|---|")
    for server in servers:
        rate, cpu = statistics.median(server.rates), statistics.median(server.cpu)
        # Each round's own ratio: neighbours in time met the same machine.
        ratio = statistics.median(theirs / mine for theirs, mine in zip(server.cpu, ours.cpu, strict=True))
        bar = "" if server is ours else f"≥ {server.bar} {'met' if ratio >= server.bar else 'MISSED'}"
        print(
            f"| {server.name} | {rate:,.0f} | {cpu * 1e6:.1f} | {statistics.median(server.p99):.1f} "
            f"| {ratio:.2f} | {bar} | {our_rate / rate:.2f} |"
        )
    print(f"\nours: {our_rate:,.0f} requests/s, {our_cpu * 1e6:.1f} µs of CPU a request")


def idle_memory(arguments: list[str], folder: Path, port: int) -> float:
    """MiB of private memory of a worker that has started and serves nothing."""
    server = subprocess.Popen(
        [sys.executable, *arguments, "--port", str(port)],
        cwd=folder,
        env=environment_of(folder),
    )
    try:
        wait_for_port(port, server)
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) / 1024  # type: ignore[index]
    finally:
        server.kill()
        server.wait()


def import_time(module: str) -> float:
    """Milliseconds to import a module in a new process, less those of an empty one: the best of nine."""

    def best(code: str) -> float:
        times = []
        for _ in range(9):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code],
                check=True,
                env=environment_of(HERE),
            )
            times.append(time.perf_counter() - start)
        return min(times) * 1000

    return best(f"import {module}") - best("pass")


def measure_start() -> None:
    plain = [*UVICORN, "starlette_idle:app"]
    ours = idle_memory([*RUN, "our_app:app"], HERE, free_port())
    theirs = idle_memory(plain, HERE, free_port())
    our_import, their_import = import_time("our_app, uvicorn"), import_time("starlette_idle, uvicorn")
    print("\n| | ours | bare Starlette app | ratio | bar |\n|---|---|---|---|---|")
    for name, mine, other, unit in [
        ("memory of an idle worker", ours, theirs, "MiB"),
        ("import of app and server", our_import, their_import, "ms"),
    ]:
        verdict = "met" if mine / other <= 1.5 else "MISSED"
        print(f"| {name} | {mine:.1f} {unit} | {other:.1f} {unit} | {mine / other:.2f} | ≤ 1.5 {verdict} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; baselines (SHA-256):")
    for path in sorted(BASELINES.glob("*.*")):
        print(f"  {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    from tests.benchmarks import upstream_cases  # needs this module

    measure(options.rounds, options.seconds)
    upstream_cases.measure_cases(options.rounds, options.seconds)
    upstream_cases.measure_workers(options.rounds, options.seconds)
    upstream_cases.measure_cold_start(options.rounds)
    measure_start()


if __name__ == "__main__":
    main()
