"""What the largest bodies cost, and whether a flood of unknown tokens is felt by honest calls.

    python -m tests.benchmarks.hostile

For each kind of body of nearly 1 MiB a fresh ``signalr-upstream run``: its peak of memory and the longest time that
its loop stood still, for one body and for 16 at once. It fails over 512 MiB. Then 1,000 calls a second with tokens
that name random keys, while the issuer is dead: the p99 of honest calls before and during it.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from ..issuer import OBJECT_ID, TENANT, Issuer
from ..support import CONNECTION_STRING, JSON, MESSAGEPACK, call_headers, invocation
from .upstream import HERE, REPOSITORY, free_port, wait_for_port

LIMIT = 1024 * 1024
MOST = 512  # MiB
KEYLESS = "Endpoint=https://chat.service.signalr.net;AuthType=azure;Version=1.0;"
_HEAD = b'{"type":1,"invocationId":"1","target":"echo","arguments":['
_PACKED = b"\x96\x01\x80\xa11\xa4echo"


def _json(piece: bytes) -> tuple[str, bytes]:
    count = (LIMIT - len(_HEAD) - 2) // (len(piece) + 1)
    return JSON, _HEAD + b",".join([piece] * count) + b"]}"


def _packed(piece: bytes) -> tuple[str, bytes]:
    count = (LIMIT - len(_PACKED) - 6) // len(piece)
    return MESSAGEPACK, _PACKED + b"\xdd" + count.to_bytes(4, "big") + piece * count + b"\x90"


KINDS = {
    "one text": (JSON, _HEAD + b'"' + b"a" * (LIMIT - len(_HEAD) - 4) + b'"]}'),
    "escaped text": (JSON, _HEAD + b'"' + b"\\u00e9" * ((LIMIT - len(_HEAD) - 4) // 6) + b'"]}'),
    "one-digit numbers": _json(b"1"),
    "fractions": _json(b"1.5"),
    "empty arrays": _json(b"[]"),
    "empty objects": _json(b"{}"),
    "objects of one": _json(b'{"a":1}'),
    "short texts": _json(b'"a"'),
    "60 arrays deep": _json(b"[" * 60 + b"]" * 60),
    "a number as long as that": (JSON, _HEAD + b"9" * (LIMIT - len(_HEAD) - 2) + b"]}"),
    "keys that are not ours": (JSON, b"{" + b'"Type":1,' * ((LIMIT - 8) // 9) + b'"x":1}'),
    "brackets without end": (JSON, _HEAD + b"[" * (LIMIT - len(_HEAD))),
    "MessagePack numbers": _packed(b"\x01"),
    "MessagePack empty maps": _packed(b"\x80"),
    "MessagePack maps of one": _packed(b"\x81\xa1a\x01"),
    "MessagePack extensions": _packed(b"\xd4\x01\x00"),
    "4 billion announced": (MESSAGEPACK, _PACKED + b"\xdd\xff\xff\xff\xff" + b"\x01" * (LIMIT - 20)),
}


class Server:
    """One ``run`` of the app."""

    def __init__(self, **environment: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [
                *[sys.executable, "-m", "signalr_upstream.cli", "run", "--log-level", "error"],
                *["hostile_app:app", "--port", str(self.port)],
            ],
            cwd=HERE,
            env={
                **os.environ,
                "PYTHONPATH": f"{HERE}:{REPOSITORY}",
                "HOSTILE_CONNECTION_STRING": CONNECTION_STRING,
                **environment,
            },
        )

    def __enter__(self) -> "Server":
        wait_for_port(self.port, self.process)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()

    def post(self, content_type: str, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = call_headers("echo", content_type=content_type)
        connection.request("POST", "/chat/messages/echo", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def stall(self) -> float:
        """The longest stall since this was last asked, in milliseconds."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stall", timeout=60) as answer:
            return float(answer.read()) * 1000

    def peak(self) -> float:
        """MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def measure_bodies() -> bool:
    print(f"{'a body of':26}{'answer':>7}{'MiB':>7}{'stall ms':>10}{'16: MiB':>9}{'stall ms':>10}")
    worst = 0.0
    for name, (content_type, body) in KINDS.items():
        assert len(body) <= LIMIT
        with Server() as server:
            idle = server.peak()
            server.stall()
            status = server.post(content_type, body)
            stall, peak = server.stall(), server.peak()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda _: server.post(content_type, body), range(16)))  # noqa: B023
            stall16, peak16 = server.stall(), server.peak()
        worst = max(worst, peak16)
        print(f"{name:26}{status:>7}{peak:>7.0f}{stall:>10.1f}{peak16:>9.0f}{stall16:>10.1f}", flush=True)
    print(f"idle {idle:.0f} MiB, the worst {worst:.0f} MiB; at most {MOST} are allowed\n")
    return worst < MOST


@contextlib.contextmanager
def issuer_on_a_port(issuer: Issuer) -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(issuer.document()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.server_close()


class Caller:
    """One connection that makes calls one after the other, cheaply."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seconds: list[float] = []

    async def __aenter__(self) -> "Caller":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def call(self, token: str, expected: int) -> None:
        body = invocation("echo")
        headers = {**call_headers("echo"), "Authorization": f"Bearer {token}", "Host": "app"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        begun = time.perf_counter()
        self._writer.write(
            f"POST /chat/messages/echo HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        answer = await self._reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", answer)
        await self._reader.readexactly(int(found[1]) if found else 0)
        self.seconds.append(time.perf_counter() - begun)
        if int(answer[9:12]) != expected:
            raise SystemExit(f"{answer!r} in place of {expected}")


async def _paced(
    caller: Caller, tokens: Iterator[str], expected: int, *, rate: float, seconds: float
) -> None:
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        await caller.call(next(tokens), expected)


def _unknown(issuer: Issuer) -> Iterator[str]:
    _, payload, signature = issuer.token().split(".")
    while True:
        text = json.dumps({"alg": "RS256", "typ": "JWT", "kid": secrets.token_hex(8)}).encode()
        yield f"{urlsafe_b64encode(text).rstrip(b'=').decode()}.{payload}.{signature}"


async def _p99(
    port: int, issuer: Issuer, authority: str, *, flood: int, is_hostile: bool = True, seconds: float
) -> tuple[float, int, int]:
    """The p99 of 100 honest calls a second, in milliseconds, and how many of them and of the flood were answered."""
    good = itertools.repeat(issuer.token(iss=f"{authority}/{TENANT}/"))
    async with contextlib.AsyncExitStack() as stack:
        honest, *others = [await stack.enter_async_context(Caller(port)) for _ in range(9 if flood else 1)]
        await asyncio.gather(
            _paced(honest, good, 200, rate=100, seconds=seconds),
            *[
                _paced(
                    one,
                    _unknown(issuer) if is_hostile else good,
                    401 if is_hostile else 200,
                    rate=flood / 8,
                    seconds=seconds,
                )
                for one in others
            ],
        )
    refused = sum(len(one.seconds) for one in others)
    return statistics.quantiles(honest.seconds, n=100)[98] * 1000, len(honest.seconds), refused


def measure_tokens() -> None:
    issuer = Issuer()
    with issuer_on_a_port(issuer) as published:
        authority = f"http://127.0.0.1:{published.server_port}"
        environment = {
            "HOSTILE_CONNECTION_STRING": KEYLESS,
            "HOSTILE_AUTHORITY": authority,
            "HOSTILE_TENANT": TENANT,
            "HOSTILE_IDENTITY": OBJECT_ID,
        }
        with Server(**environment) as server:
            port = server.port
            calm, _, _ = asyncio.run(_p99(port, issuer, authority, flood=0, seconds=5))
            busy, _, more = asyncio.run(
                _p99(port, issuer, authority, flood=1000, is_hostile=False, seconds=10)
            )
            published.shutdown()
            published.server_close()
            flooded, honest, refused = asyncio.run(_p99(port, issuer, authority, flood=1000, seconds=10))
    print(f"honest calls alone: p99 {calm:.1f} ms; beside {more:,} more of them: p99 {busy:.1f} ms")
    print(f"beside {refused:,} unknown tokens with a dead issuer: p99 {flooded:.1f} ms of {honest:,} calls")


if __name__ == "__main__":
    is_small = measure_bodies()
    measure_tokens()
    sys.exit(not is_small)
