"""10,000 clients negotiate and connect in 25 s, all are cut off at once, and come back, storm after storm."""

import asyncio
import json
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import uvloop

from tests.benchmarks.raw_clients import client_frame, split_frames
from tests.benchmarks.wires import upgrade
from tests.end_to_end.processes import free_port
from tests.loads.servers import Run, limit_of_files, place
from tests.loads.tallies import Tally
from tests.loads.vitals import resident

CLIENTS = 10_000
STORM = 25.0
"""Seconds from the first to the last client of a storm."""
CALM = 10.0
"""Seconds after a storm in which the app is told of all, at most; the same when they are gone."""
ADDRESSES = 8
"""Of loopback that clients come from: one has ports for some 28,000 connections, closed ones included."""
SHARE = 1.1
"""Memory after a storm, over that after the first one, that counts as flat."""

_HELLO = client_frame(b'{"protocol":"json","version":1}\x1e')
_READY = b"{}\x1e"


class Storm:
    """The clients of one storm."""

    def __init__(self, app_port: int, count: int, seconds: float) -> None:
        self._app_port = app_port
        self._count = count
        self._seconds = seconds
        self.negotiate = Tally()
        self.connect = Tally()
        self._connected: list[asyncio.StreamWriter] = []

    async def run(self) -> None:
        """Let all come, as many a second as are due; at the end all are connected."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._come(number))

    async def _come(self, number: int) -> None:
        await asyncio.sleep(self._seconds * number / self._count)
        begun = time.perf_counter()
        url, token = await self._negotiate(number)
        negotiated = time.perf_counter()
        self.negotiate.answered(negotiated - begun, 200)
        await self._connect(number, url, token)
        self.connect.answered(time.perf_counter() - negotiated, 101)

    async def _open(self, number: int, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        here = (f"127.0.0.{2 + number % ADDRESSES}", 0)
        return await asyncio.open_connection("127.0.0.1", port, local_addr=here, limit=4096)

    async def _negotiate(self, number: int) -> tuple[str, str]:
        reader, writer = await self._open(number, self._app_port)
        path = f"/chat/negotiate?negotiateVersion=1&user=u{number}"
        lines = [f"POST {path} HTTP/1.1", "Host: app", "Content-Length: 0", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        writer.close()
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"negotiate: {head!r} {body!r}")
        answer = json.loads(body)
        return answer["url"], answer["accessToken"]

    async def _connect(self, number: int, url: str, token: str) -> None:
        """Up to the answer to the handshake."""
        parts = urlsplit(url)
        assert parts.port is not None
        reader, writer = await self._open(number, parts.port)
        writer.write(upgrade(f"{parts.path}?{parts.query}", f"Authorization: Bearer {token}"))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(f"not upgraded: {head!r}")
        writer.write(_HELLO)
        buffer = bytearray()
        while (payload := next(split_frames(buffer), None)) is None:
            data = await reader.read(4096)
            if not data:
                raise SystemExit("the service has closed a connection")
            buffer += data
        if payload != _READY:
            raise SystemExit(f"handshake: {payload!r}")
        self._connected.append(writer)

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._connected:
            writer.transport.abort()
        self._connected.clear()


class Memory(NamedTuple):
    """Bytes of the app and of the local service."""

    app: int
    service: int

    @classmethod
    def now(cls, app: Run, service: Run, what: str = "VmRSS") -> "Memory":
        return cls(resident(app.pid, what), resident(service.pid, what))

    def __str__(self) -> str:
        return f"{self.app / 1024**2:.0f} and {self.service / 1024**2:.0f} MiB"


async def told(client: httpx.AsyncClient, event: str, count: int) -> None:
    """Wait until the app was told of so many clients."""
    deadline = time.monotonic() + CALM
    while (found := (await client.get("/process")).json().get(event, 0)) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{found} of {count} {event}")
        await asyncio.sleep(0.1)


async def storms(app: Run, service: Run, port: int, *, seconds: float, count: int, storm: float) -> list[str]:
    """Storms until the time is over, two at least; what was wrong."""
    begun, number = time.monotonic(), 0
    after: list[Memory] = []
    print(f"app and service before: {Memory.now(app, service)}")
    async with httpx.AsyncClient(base_url=app.url) as client:
        while number < 2 or time.monotonic() < begun + seconds:
            number += 1
            clients = Storm(port, count, storm)
            came = time.perf_counter()
            await clients.run()
            took = time.perf_counter() - came
            await told(client, "connected", number * count)
            during = Memory.now(app, service)
            clients.cut()
            await told(client, "disconnected", number * count)
            after.append(Memory.now(app, service))
            times = [
                f"{name} p50 {tally.quantile(0.5) * 1000:.1f}, p99 {tally.quantile(0.99) * 1000:.1f}, "
                f"longest {tally.longest * 1000:.1f} ms"
                for name, tally in (("negotiate", clients.negotiate), ("connect", clients.connect))
            ]
            print(f"storm {number}: {count:,} in {took:.1f} s; {'; '.join(times)}")
            print(f"    all connected: {during}; all gone: {after[-1]}", flush=True)
    print(f"at the peak: {Memory.now(app, service, 'VmHWM')}")
    return [
        f"the memory of the {name} grows: {Memory(*after[0])} after the first storm, {after[-1]} after the last"
        for name, first, last in zip(("app", "service"), after[0], after[-1], strict=True)
        if last > first * SHARE
    ]


def drill(
    seconds: float, *, traced: bool, pace: float, count: int = CLIENTS, storm: float = STORM
) -> list[str]:
    """Run for so many seconds, two storms at least; what was wrong. Storms have a pace of their own."""
    limit_of_files()
    port, service_port = free_port(), free_port()
    with (
        place(every=5.0, traced=traced, service=f"http://127.0.0.1:{service_port}") as here,
        here.app(port) as app,
        here.local_service(service_port, port) as service,
    ):
        complaints = uvloop.run(storms(app, service, port, seconds=seconds, count=count, storm=storm))
        return [*complaints, *here.complaints()]
