"""What a chat does: one signed upstream call in, one group send out, beside the same as people write it.

    python -m tests.benchmarks.relay [--rounds 7] [--seconds 2]

Needs gcc, wrk, uvicorn[standard] and fastapi. Every server is one worker, wrk keeps 32 connections busy, and the sends
go to a server in C that answers 202. Rounds are interleaved, so that a change in the machine's mood meets all of them.
Judged is the median of each round's ratio of calls a second.
"""

import argparse
import hashlib
import os
import statistics
import sys

from tests.benchmarks.server202 import running_202
from tests.benchmarks.upstream import BASELINES, HERE, RUN, UVICORN, Launch, Server, all_of, free_port

OURS = "signalr-upstream"
WITHOUT_SEND = "signalr-upstream without the send"
FASTAPI = "FastAPI with httpx and PyJWT"
SERVERS: dict[str, tuple[Launch, str]] = {
    OURS: (([*RUN, "our_relay:app"], "--port", HERE, 1.0), "relay"),
    WITHOUT_SEND: (([*RUN, "our_relay:app"], "--port", HERE, 0.55), "echo"),
    FASTAPI: (([*UVICORN, "relay_fastapi:app"], "--port", BASELINES, 18.0), "relay"),
}


def measure(rounds: int, seconds: int) -> None:
    servers = [Server(name, free_port(), launch, event=event) for name, (launch, event) in SERVERS.items()]
    with all_of(servers):
        for server in servers:
            server.verify()
            server.run(2, count=False)
        for _ in range(rounds):
            for server in servers:
                server.run(seconds)
    report(servers, rounds, seconds)


def report(servers: list[Server], rounds: int, seconds: int) -> None:
    ours = next(server for server in servers if server.name == OURS)
    print(f"\n{rounds} interleaved rounds of {seconds} s, medians; one worker each, 32 connections\n")
    print("| server | calls/s | CPU µs a call | ours over theirs, calls/s | theirs over ours, CPU | bar |")
    print("|---|---|---|---|---|---|")
    for server in servers:
        ratio = statistics.median(
            mine / theirs for theirs, mine in zip(server.rates, ours.rates, strict=True)
        )
        cpu_ratio = statistics.median(
            theirs / mine for theirs, mine in zip(server.cpu, ours.cpu, strict=True)
        )
        bar = "" if server is ours else f"≥ {server.bar} {'met' if ratio >= server.bar else 'MISSED'}"
        rate, cpu = statistics.median(server.rates), statistics.median(server.cpu) * 1e6
        print(f"| {server.name} | {rate:,.0f} | {cpu:.1f} | {ratio:.2f} | {cpu_ratio:.2f} | {bar} |")
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; baselines (SHA-256):")
    for name in ("relay_fastapi.py", "server202.c", "upstream.lua"):
        print(f"  {hashlib.sha256((BASELINES / name).read_bytes()).hexdigest()}  {name}")
    with running_202():
        measure(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
