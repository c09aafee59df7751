"""A real server on loopback that does what its script says, over plain sockets or TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

Act = Callable[["Connection"], Awaitable[None]]
"""What happens when a request is there; raising ``Hang`` ends the connection."""

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class HangUp(Exception):  # noqa: N818 - an instruction, not a failure
    """Close the connection."""


class Connection:
    """One connection of a client, as its script sees it."""

    def __init__(
        self, server: "Misbehaving", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.body = b""

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """RST, not FIN."""
        self.writer.transport.abort()


class Misbehaving:
    """Reads requests and acts on each: the first act for the first request, the last one for all that follow.

    Attributes:
        requests: head and body of each request that was read in full.
        connections: how many there have been.
        open: how many there are.
        closed: set when there is none, once there has been one.
    """

    def __init__(self, acts: Sequence[Act], *, greeting: Act | None = None) -> None:
        self._acts = acts
        self._greeting = greeting
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.released = asyncio.Event()
        self.closed = asyncio.Event()
        self._arrivals = asyncio.Condition()
        self.url = ""
        self.port = 0

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopped:  # a TLS handshake has ended that was under way
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        connection = Connection(self, reader, writer)
        try:
            if self._greeting is not None:
                await self._greeting(connection)
            while True:
                request = await read_request(reader)
                connection.body = request.partition(b"\r\n\r\n")[2]
                self.requests.append(request)
                async with self._arrivals:
                    self._arrivals.notify_all()
                await self._acts[min(len(self.requests), len(self._acts)) - 1](connection)
        except asyncio.CancelledError:
            writer.transport.abort()
        except (asyncio.IncompleteReadError, OSError, HangUp):
            pass
        finally:
            writer.close()
            self.open -= 1
            if not self.open:
                self.closed.set()
            self._tasks.discard(task)

    async def reached(self, number: int) -> None:
        """Wait until so many requests have been read."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.requests) >= number)

    async def stop(self) -> None:
        """Reset every connection, those to come included."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def misbehaving(
    *acts: Act,
    greeting: Act | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Misbehaving]:
    behaviour = Misbehaving(acts, greeting=greeting)
    server = await asyncio.start_server(behaviour.serve, host, port, ssl=tls)
    behaviour.port = server.sockets[0].getsockname()[1]
    behaviour.url = (
        f"http://{host}:{behaviour.port}" if tls is None else f"https://localhost:{behaviour.port}"
    )
    try:
        yield behaviour
    finally:
        behaviour.released.set()
        server.close()
        await behaviour.stop()


def port_free_on(*hosts: str) -> int:
    """A port that is free on all of them just now: others may have taken it on one."""
    while True:
        with contextlib.ExitStack() as probes:
            port = 0
            try:
                for host in hosts:
                    probe = probes.enter_context(socket.create_server((host, port)))
                    port = probe.getsockname()[1]
            except OSError:
                continue
            return int(port)


# ---- acts ----


def answer(data: bytes = ACCEPTED, *, then: Act | None = None) -> Act:
    """Write bytes; then what."""

    async def act(connection: Connection) -> None:
        await connection.write(data)
        if then is not None:
            await then(connection)

    return act


def status(code: int, body: bytes = b"", *headers: str) -> Act:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return answer("\r\n".join(lines).encode() + body)


async def hang_up(connection: Connection) -> None:
    raise HangUp


async def reset(connection: Connection) -> None:
    connection.reset()
    raise HangUp


async def stall(connection: Connection) -> None:
    """Say nothing until the test is over."""
    await connection.server.released.wait()


async def reset_at_once(connection: Connection) -> None:
    """Reset before the request is read: only the first byte is waited for."""
    await connection.reader.readexactly(1)
    await reset(connection)
