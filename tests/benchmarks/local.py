"""What the local service carries, beside python-socketio and a bare `websockets` server.

    python tests/benchmarks/local.py [--rounds 5] [--seconds 2]
    python tests/benchmarks/local.py --soak 600 [--over-http]

Every server is one process; all clients are this one. Rounds are interleaved, so that a change in the machine's mood
meets all servers. Without compression. What arrives is compared with what is due, byte for byte, in the timed runs too.

Fan-out: one message of a hundred bytes to all N clients, the next broadcasts already under way. The clients look at
their sockets once a millisecond: a process that is woken up for every message makes the server pay for that.
Latency: one broadcast at a time, from its trigger to each client, which are woken up.
Memory: what the server's process has grown by, for each of 5,000 clients that are connected and were sent one message.
Connects: upgrade, token check (ours only) and handshake, 64 at a time.
At the end comes a minute of the soak run, which soak.py describes; `--soak` is only that, for as long as it is told.
"""

import argparse
import gc
import hashlib
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.raw_clients import Clients, Wire
from tests.benchmarks.soak import MINUTE, soak
from tests.benchmarks.upstream import BASELINES, HERE, REPOSITORY, cpu_seconds, wait_for_port
from tests.benchmarks.wires import KEY, local_service_wire, socketio_wire, websockets_wire

COUNTS = (1, 100, 1_000, 5_000)
MOST = COUNTS[-1]
JUDGED = 1_000  # clients at which the bars apply
UNDER_WAY = 2_000
"""Messages that are on their way while fan-out is measured, so that the server never waits for the next trigger."""
NAP = 0.001
"""Seconds between two looks of the clients while fan-out is measured."""

OURS = "local service"
WEBSOCKETS = "bare websockets"
SOCKETIO = "python-socketio"
LOWEST = {WEBSOCKETS: 0.7, SOCKETIO: 2.0}
"""Lowest fan-out, ours over theirs, that is good enough."""
MOST_MEMORY = 40.0
"""KiB a connection."""
LEAST_CONNECTS = 1_500.0
"""Connections a second."""


class Kind(NamedTuple):
    """How a server is started, and how it is spoken to."""

    arguments: list[str]  # of the interpreter, without the port
    port_option: list[str]
    wire: Wire


def kinds() -> dict[str, Kind]:
    uvicorn = ["-m", "uvicorn", "socketio_app:app", "--log-level", "warning", "--backlog", "8192"]
    return {
        OURS: Kind([str(HERE / "local_service.py"), KEY], [], local_service_wire(MOST)),
        WEBSOCKETS: Kind(["websockets_server.py"], [], websockets_wire()),
        SOCKETIO: Kind(uvicorn, ["--port"], socketio_wire()),
    }


class Server:
    """One server process and what was measured of it."""

    def __init__(self, name: str, port: int, kind: Kind) -> None:
        self.name = name
        self.port = port
        self.wire = kind.wire
        self.process = subprocess.Popen(
            [sys.executable, *kind.arguments, *kind.port_option, str(port)],
            cwd=BASELINES,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
        )
        self.rates: dict[int, list[float]] = {count: [] for count in COUNTS}  # messages a second
        self.cpu: dict[int, list[float]] = {count: [] for count in COUNTS}  # seconds a message
        self.latencies: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}  # p50, p99
        self.client_shares: list[float] = []  # of one core
        self.connects: list[float] = []  # a second
        self.memory = 0.0  # KiB a connection

    def memory_in_use(self) -> float:
        """KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.partition("VmRSS:")[2].split()[0])

    def measure_memory(self) -> None:
        """Before anything else: memory that was used before would be used again."""
        with self.clients(50) as clients:
            clients.broadcasts(seconds=0.0, window=1)
        before = self.memory_in_use()
        with self.clients(MOST) as clients:
            clients.broadcasts(seconds=0.0, window=1)
            clients.idle(1.0)
            self.memory = (self.memory_in_use() - before) / MOST

    def run(self, count: int, seconds: float) -> None:
        """One round with ``count`` clients."""
        with self.clients(count) as clients:
            window = min(max(UNDER_WAY // count, 2), 64)
            clients.broadcasts(seconds=0.2, window=window, nap=NAP)
            before = cpu_seconds(self.process.pid)
            busy = clients.broadcasts(seconds=seconds, window=window, nap=NAP)
            used = cpu_seconds(self.process.pid) - before
            single = clients.broadcasts(seconds=seconds / 2, window=1)
        self.rates[count].append(busy.rate)
        self.cpu[count].append(used / len(busy.latencies))
        self.client_shares.append(busy.client_cpu / busy.seconds)
        hundredths = statistics.quantiles(single.latencies, n=100)
        self.latencies[count].append((hundredths[49], hundredths[98]))

    @contextmanager
    def clients(self, count: int) -> Iterator[Clients]:
        clients = Clients(self.wire, self.port)
        try:
            seconds = clients.open(count)
            if count >= JUDGED:
                self.connects.append(count / seconds)
            yield clients
        finally:
            clients.close()


@contextmanager
def running() -> Iterator[dict[str, Server]]:
    servers = {name: Server(name, 18_940 + index, kind) for index, (name, kind) in enumerate(kinds().items())}
    try:
        for server in servers.values():
            wait_for_port(server.port, server.process)
        yield servers
    finally:
        for server in servers.values():
            server.process.kill()
            server.process.wait()


def measure(rounds: int, seconds: float, counts: tuple[int, ...]) -> dict[str, Server]:
    with running() as servers:
        for server in servers.values():
            server.measure_memory()
        for _ in range(rounds):
            for count in counts:
                for server in servers.values():
                    gc.collect()
                    server.run(count, seconds)
    return servers


def report(servers: dict[str, Server], counts: tuple[int, ...]) -> None:
    ours = servers[OURS]
    print(
        "\n| clients | server | messages/s | CPU µs a message | p50 ms | p99 ms | ours over theirs | CPU | bar |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for count in counts:
        for server in servers.values():
            rate, cpu = statistics.median(server.rates[count]), statistics.median(server.cpu[count])
            p50 = statistics.median(p50 for p50, _ in server.latencies[count])
            p99 = statistics.median(p99 for _, p99 in server.latencies[count])
            ratio, cpu_ratio, bar = "", "", ""
            if server is not ours:
                # Each round's own ratio: neighbours in time met the same machine.
                pairs = zip(ours.rates[count], server.rates[count], strict=True)
                fan_out = statistics.median(mine / theirs for mine, theirs in pairs)
                ratio = f"{fan_out:.2f}"
                cpu_ratio = f"{cpu / statistics.median(ours.cpu[count]):.2f}"
                if count == JUDGED:
                    lowest = LOWEST[server.name]
                    bar = f"≥ {lowest} {'met' if fan_out >= lowest else 'MISSED'}"
            print(
                f"| {count:,} | {server.name} | {rate:,.0f} | {cpu * 1e6:.1f} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} "
                f"| {ratio} | {cpu_ratio} | {bar} |"
            )
    print("\n| server | KiB a connection | bar | connects/s | bar | clients' share of a core, at most |")
    print("|---|---|---|---|---|---|")
    for server in servers.values():
        connects = statistics.median(server.connects)
        memory_bar = connect_bar = ""
        if server is ours:
            memory_bar = f"≤ {MOST_MEMORY:.0f} {'met' if server.memory <= MOST_MEMORY else 'MISSED'}"
            connect_bar = f"≥ {LEAST_CONNECTS:,.0f} {'met' if connects >= LEAST_CONNECTS else 'MISSED'}"
        share = max(server.client_shares)
        print(
            f"| {server.name} | {server.memory:.1f} | {memory_bar} | {connects:,.0f} | {connect_bar} | {share:.0%} |"
        )


def raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2 * MOST:
        raise SystemExit(f"{2 * MOST} open files are needed, and {most} allowed: ulimit -n {2 * MOST}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, nargs="*", default=COUNTS, choices=COUNTS)
    parser.add_argument("--soak", type=int, metavar="SECONDS", help="only the soak run, for so long")
    parser.add_argument(
        "--over-http",
        action="store_true",
        help="the soak run's app is a process of its own, called over HTTP",
    )
    options = parser.parse_args()
    raise_file_limit()
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; baselines (SHA-256):"
    )
    for path in sorted(BASELINES.glob("*.*")):
        print(f"  {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    gc.disable()
    if options.soak is None:
        counts = tuple(options.clients)
        report(measure(options.rounds, options.seconds, counts), counts)
    soak(options.soak or MINUTE, over_http=options.over_http)


if __name__ == "__main__":
    main()
