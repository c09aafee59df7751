"""What one send costs, beside other HTTP clients with a request that is ready made.

    python -m tests.benchmarks.sends [--rounds 7] [--seconds 2]

Needs gcc, uvloop, aiohttp and azure-messaging-webpubsubservice. Every client is a process of its own on uvloop; ours
checks and escapes names, encodes, signs and keeps time, while raw aiohttp and httpx only post the same bytes. Rounds
are interleaved, so that a change in the machine's mood meets all of them. Judged is the median of each round's ratio.
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from tests.benchmarks.server202 import running_202
from tests.benchmarks.upstream import BASELINES, REPOSITORY

SERVICE: Final = os.environ.get("SERVICE", "")
KEY: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="
CONNECTION_STRING: Final = f"Endpoint={SERVICE};AccessKey={KEY};Version=1.0;"
URL: Final = f"{SERVICE}/api/hubs/chat/groups/lobby/:send?api-version=2024-12-01"
BODY: Final = b'{"target":"newMessage","arguments":["hello world from a client",42]}'
HEADERS: Final = {"Authorization": "Bearer " + "x" * 200, "Content-Type": "application/json"}
WARM_UP: Final = 0.5

OURS: Final = "signalr-upstream"
BARS: Final = {
    # client: the lowest ratio of rates that is good enough, by requests in flight
    "raw aiohttp": {1: 1.5, 32: 3.0, 128: 3.0},
    "httpx": {32: 80.0},
    "Web PubSub SDK": {32: 20.0},
}
Send = Callable[[], Awaitable[object]]


# ---- one client, in its own process ----


async def use_ours(run: Callable[[Send], Awaitable[None]]) -> None:
    from signalr_upstream import ServiceClient

    async with ServiceClient(CONNECTION_STRING) as client:
        hub = client.hub("chat")
        await run(lambda: hub.clients.group("lobby").send("newMessage", "hello world from a client", 42))


async def use_aiohttp(run: Callable[[Send], Awaitable[None]]) -> None:
    import aiohttp
    import yarl

    url = yarl.URL(URL, encoded=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as session:

        async def send() -> None:
            async with session.post(url, data=BODY, headers=HEADERS) as answer:
                await answer.read()
                assert answer.status == 202

        await run(send)


async def use_httpx(run: Callable[[Send], Awaitable[None]]) -> None:
    import httpx

    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(limits=limits) as client:

        async def send() -> None:
            assert (await client.post(URL, content=BODY, headers=HEADERS)).status_code == 202

        await run(send)


async def use_web_pubsub(run: Callable[[Send], Awaitable[None]]) -> None:
    from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient

    async with WebPubSubServiceClient.from_connection_string(CONNECTION_STRING, hub="chat") as client:
        message = {"target": "newMessage", "arguments": ["hello world from a client", 42]}
        await run(lambda: client.send_to_group("lobby", message, content_type="application/json"))


CLIENTS: Final[dict[str, Callable[[Callable[[Send], Awaitable[None]]], Awaitable[None]]]] = {
    OURS: use_ours,
    "raw aiohttp": use_aiohttp,
    "httpx": use_httpx,
    "Web PubSub SDK": use_web_pubsub,
}


async def run_client(name: str, in_flight: int, seconds: float) -> dict[str, float]:
    """Send as fast as it goes, ``in_flight`` at a time."""
    result: dict[str, float] = {}

    async def run(send: Send) -> None:
        async def work(end: float) -> int:
            count = 0
            while time.perf_counter() < end:
                await send()
                count += 1
            return count

        async def all_of(length: float) -> int:
            end = time.perf_counter() + length
            return sum(await asyncio.gather(*[work(end) for _ in range(in_flight)]))

        await all_of(WARM_UP)
        start, cpu = time.perf_counter(), time.process_time()
        count = await all_of(seconds)
        result["rate"] = count / (time.perf_counter() - start)
        result["cpu"] = (time.process_time() - cpu) / count

    await CLIENTS[name](run)
    return result


# ---- all of them ----


def measure_one(name: str, in_flight: int, seconds: float) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.sends",
        "--client",
        name,
        "--in-flight",
        str(in_flight),
    ]
    output = subprocess.run(
        [*command, "--seconds", str(seconds)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result: dict[str, float] = json.loads(output)
    return result


def measure(rounds: int, seconds: float) -> None:
    for in_flight in (1, 32, 128):
        results: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
        for _ in range(rounds):
            for name, found in results.items():
                found.append(measure_one(name, in_flight, seconds))
        report(in_flight, results)
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def report(in_flight: int, results: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{in_flight} in flight, medians\n")
    print("| client | sends/s | client CPU µs a send | ours over theirs, sends/s | CPU | bar (sends/s) |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        pairs = list(zip(results[OURS], found, strict=True))
        ratio = statistics.median(ours["rate"] / theirs["rate"] for ours, theirs in pairs)
        cpu_ratio = statistics.median(theirs["cpu"] / ours["cpu"] for ours, theirs in pairs)
        bar = BARS.get(name, {}).get(in_flight)
        verdict = "" if bar is None else f"≥ {bar} {'met' if ratio >= bar else 'MISSED'}"
        rate = statistics.median(result["rate"] for result in found)
        cpu = statistics.median(result["cpu"] for result in found) * 1e6
        print(f"| {name} | {rate:,.0f} | {cpu:.1f} | {ratio:.2f} | {cpu_ratio:.2f} | {verdict} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--in-flight", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(uvloop.run(run_client(options.client, options.in_flight, options.seconds))))
        return
    server = BASELINES / "server202.c"
    print(
        f"Python {sys.version.split()[0]}; {hashlib.sha256(server.read_bytes()).hexdigest()}  {server.name}"
    )
    with running_202():
        measure(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
