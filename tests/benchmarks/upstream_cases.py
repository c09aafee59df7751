"""What one upstream invocation costs by what is in it: bytes, arguments, protocols, a dependency and a filter, the log.

A part of ``python -m tests.benchmarks.upstream``. Each case is held against the bare ASGI function that does the same;
the one with a dependency and a filter against the function that has neither.
"""

import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from tests.benchmarks.upstream import (
    BASELINES,
    HERE,
    RUN,
    UVICORN,
    Launch,
    Server,
    all_of,
    environment_of,
    free_port,
    signed_request,
    wait_for_port,
)

SMALL = "x" * 100
LARGE = "x" * 64 * 1024
OBJECTS = [{"id": number, "name": f"user {number}", "text": "hello there"} for number in range(100)]
TWENTY = [SMALL, *range(9), *"abcde", 1.5, 2.5, 3.5, True, False]

PLAIN: Launch = ([*RUN, "our_cases:app"], "--port", HERE, 0.82)
OTHERS: Launch = (*PLAIN[:3], 0.0)  # looked at, and held to nothing
GUARDED: Launch = ([*RUN, "our_cases:with_dependency_and_filter"], "--port", HERE, 0.70)
LOGGED: Launch = (
    [*RUN[:-1], "debug", "our_cases:app"],
    "--port",
    HERE,
    0.0,
)
BARE: Launch = ([*UVICORN, "bare_cases:app"], "--port", HERE, 1.0)

CASES: list[tuple[str, Launch, str, list[Any], bool]] = [
    ("2 arguments, 100 B, JSON", PLAIN, "echo", [SMALL, 1], False),
    ("2 arguments, 64 KB, JSON", OTHERS, "echo", [LARGE, 1], False),
    ("20 arguments, JSON", OTHERS, "twenty", TWENTY, False),
    ("100 objects, JSON", OTHERS, "items", [SMALL, OBJECTS], False),
    ("2 arguments, 100 B, MessagePack", OTHERS, "echo", [SMALL, 1], True),
    ("2 arguments, 64 KB, MessagePack", OTHERS, "echo", [LARGE, 1], True),
    ("20 arguments, MessagePack", OTHERS, "twenty", TWENTY, True),
    ("100 objects, MessagePack", OTHERS, "items", [SMALL, OBJECTS], True),
    ("one dependency and one filter, JSON", GUARDED, "echo", [SMALL, 1], False),
    ("with the call log on, JSON", LOGGED, "echo", [SMALL, 1], False),
]


def body_of(event: str, arguments: list[Any], *, binary: bool) -> bytes:
    if binary:
        return msgspec.msgpack.encode([1, {}, "0", event, arguments, []])
    return msgspec.json.encode({"type": 1, "invocationId": "0", "target": event, "arguments": arguments})


def answer_of(server: Server) -> Any:
    """The result in the server's answer to its request."""
    request = signed_request(server.port, server.event)
    request.data = server.body
    request.add_header("Content-Type", server.content_type)
    with urllib.request.urlopen(request, timeout=5) as response:
        answer: bytes = response.read()
    if server.content_type == "application/json":
        return msgspec.json.decode(answer[:-1])["result"]
    size = next(index for index, byte in enumerate(answer, start=1) if byte < 128)
    return msgspec.msgpack.decode(answer[size:])[4]


def measure_cases(rounds: int, seconds: int) -> None:
    """Print what each case costs; the servers of all are up at a time, and the rounds are interleaved."""
    pairs: list[tuple[str, Server, Server]] = []
    for name, launch, event, arguments, binary in CASES:
        body = body_of(event, arguments, binary=binary)
        kind = "application/x-msgpack" if binary else "application/json"
        ours, bare = (
            Server(name, free_port(), which, event=event, body=body, content_type=kind)
            for which in (launch, BARE)
        )
        pairs.append((name, ours, bare))
    servers = [server for _, *both in pairs for server in both]
    with all_of(servers):
        for server, (_, _, _, arguments, _) in zip(servers[::2], CASES, strict=True):
            for one in (server, servers[servers.index(server) + 1]):
                if answer_of(one) != arguments[0]:
                    raise SystemExit(f"{one.name} answers wrongly")
                one.run(1, count=False)
        for _ in range(rounds):
            for server in servers:
                server.run(seconds)
    print("\n| case | CPU µs a request | bare function | bare over ours, CPU | bar | p99 ms, ours |")
    print("|---|---|---|---|---|---|")
    for name, ours, bare in pairs:
        ratio = statistics.median(b / o for b, o in zip(bare.cpu, ours.cpu, strict=True))
        bar = f"≥ {ours.bar} {'met' if ratio >= ours.bar else 'MISSED'}" if ours.bar else ""
        mine, theirs = statistics.median(ours.cpu) * 1e6, statistics.median(bare.cpu) * 1e6
        print(
            f"| {name} | {mine:.1f} | {theirs:.1f} | {ratio:.2f} | {bar} | {statistics.median(ours.p99):.1f} |"
        )


def measure_workers(rounds: int, seconds: int) -> None:
    """Print what a second worker brings."""
    one = Server("1 worker", free_port(), ([*RUN, "our_app:app"], "--port", HERE, 1.0))
    two = Server("2 workers", free_port(), ([*RUN, "--workers", "2", "our_app:app"], "--port", HERE, 1.5))
    with all_of([one, two]):
        for server in (one, two):
            server.verify()
        for _ in range(rounds):
            for server in (one, two):
                server.run(seconds)
    ratio = statistics.median(t / o for t, o in zip(two.rates, one.rates, strict=True))
    print("\n| workers | requests/s | CPU µs a request | p99 ms |\n|---|---|---|---|")
    for server in (one, two):
        print(
            f"| {server.name} | {statistics.median(server.rates):,.0f} | {statistics.median(server.cpu) * 1e6:.1f} "
            f"| {statistics.median(server.p99):.1f} |"
        )
    print(f"\ntwo workers over one: {ratio:.2f} (bar ≥ 1.5 {'met' if ratio >= 1.5 else 'MISSED'})")


def cold_start(arguments: list[str], folder: Path, port: int) -> float:
    """Seconds from the start of the process to its first answer."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments, "--port", str(port)], cwd=folder, env=environment_of(folder)
    )
    try:
        wait_for_port(port, process, pause=0.002)
        with urllib.request.urlopen(signed_request(port), timeout=5) as response:
            response.read()
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()


def measure_cold_start(rounds: int) -> None:
    """Print how long it takes from nothing to the first answer."""
    found: dict[str, list[float]] = {"ours": [], "Starlette by hand": []}
    for _ in range(rounds):
        found["ours"].append(cold_start([*RUN, "our_app:app"], HERE, free_port()))
        found["Starlette by hand"].append(cold_start([*UVICORN, "starlette_app:app"], BASELINES, free_port()))
    print("\n| from nothing to the first answer | ms |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {statistics.median(seconds) * 1000:.0f} |")
