"""Callers as the service is one: connections that stay, a call after the other on each, every answer looked at."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from tests.loads.tallies import Tallies, Tally
from tests.support import call_headers

PATIENCE = 60.0
"""Seconds without an answer after which a call counts as lost."""
APART = 0.005
"""Seconds between the first connections: of those that come together, one worker accepts all."""

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: close", re.IGNORECASE)


class Kind(NamedTuple):
    """One kind of call, and who makes it.

    Attributes:
        name: how it is shown.
        event: the handler.
        said: the rest of the completion, behind the invocation id, that is due; ``%b`` stands for the argument.
            Several: any of them.
        connections: how many make such calls.
        every: seconds from call to call of one connection; 0: the next one as soon as one is answered.
    """

    name: str
    event: str
    said: tuple[bytes, ...]
    connections: int
    every: float = 0.0


class Answer(NamedTuple):
    """What has come back."""

    status: int
    body: bytes
    closes: bool


class Lost(Exception):  # noqa: N818 - a state of a call
    """The connection has ended before the answer."""


class Wire(asyncio.Protocol):
    """One connection, for one request after the other."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False
        self.worker = 0  # its process id, where callers ask for it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self.is_open = True

    async def ask(self, request: bytes) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            Lost: there is none.
        """
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None:
            return
        head = bytes(self._buffer[: end + 2])
        found = _LENGTH.search(head)
        size = end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) < size:
            return
        body = bytes(self._buffer[end + 4 :])  # all of it: more than was announced is a wrong answer
        self._buffer.clear()
        answer = Answer(int(head[9:12]), body, _CLOSES.search(head) is not None)
        if not self._waiting.done():
            self._waiting.set_result(answer)
        self._waiting = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            came = f", {len(self._buffer)} bytes had come" if self._buffer else ""
            self._waiting.set_exception(Lost(f"{exc or 'closed by the server'}{came}"))

    def close(self) -> None:
        self._transport.close()


class Callers:
    """Connections to one port that make calls until they are told to stop.

    Args:
        lifetime: seconds after which a connection is left for a new one, as those of a pool are.
        pace: seconds from call to call of one connection, at least.
        asks_worker: learn from ``/process`` which worker each connection has come to.
        phase: what to count the calls of this moment under, beside their kind.
    """

    def __init__(
        self,
        port: int,
        kinds: Sequence[Kind],
        *,
        lifetime: float = 60.0,
        asks_worker: bool = False,
        pace: float = 0.0,
        phase: Callable[[], str] = lambda: "",
    ) -> None:
        self._port = port
        self._kinds = kinds
        self._lifetime = lifetime
        self._pace = pace
        self._asks_worker = asks_worker
        self._phase = phase
        self._stopping = False
        self._number = 0
        self.tallies = Tallies()
        self.by_worker: Counter[int] = Counter()  # answers
        self.opened = 0  # connections
        self.refused = 0  # attempts to open one

    async def run(self, seconds: float) -> None:
        """Call for so long, and wait for the last answers."""
        callers = [kind for kind in self._kinds for _ in range(kind.connections)]
        random.shuffle(callers)  # so that each worker gets some of each kind
        async with asyncio.TaskGroup() as group:
            for kind in callers:
                group.create_task(self._keep_calling(kind))
                await asyncio.sleep(APART)
            await asyncio.sleep(seconds)
            self._stopping = True

    async def _keep_calling(self, kind: Kind) -> None:
        head, every = _head(kind.event), max(kind.every, self._pace)
        wire, end = await self._open()
        while not self._stopping:
            begun = time.perf_counter()
            if not wire.is_open or begun >= end:
                wire.close()
                wire, end = await self._open()
            closes = await self._call(wire, kind, head)
            if closes:
                wire.close()
                wire, end = await self._open()
            if every:
                await asyncio.sleep(max(0.0, begun + every - time.perf_counter()))
        wire.close()

    async def _call(self, wire: Wire, kind: Kind, head: bytes) -> bool:
        """Make one call; True if the connection is not to be used again."""
        self._number += 1
        number, phase = b"%09d" % self._number, self._phase()
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await wire.ask(head + _body(kind.event, number))
        except (Lost, TimeoutError) as error:
            self._tally(kind, phase).no_answer(f"{type(error).__name__} {error}", worker=wire.worker)
            return True
        took = time.perf_counter() - begun
        due = {_completion(number, said): said for said in kind.said}
        said = due.get(answer.body, b"") if answer.status == 200 else b""
        mistake = "" if said else f"{answer.status} {answer.body[:200]!r}"
        self._tally(kind, phase).answered(took, answer.status, said=said, mistake=mistake)
        self.by_worker[wire.worker] += 1
        return answer.closes

    def _tally(self, kind: Kind, begun: str) -> Tally:
        """That of calls that began in one phase and end now."""
        ended = self._phase()
        phase = begun if ended == begun else f"{begun} → {ended}"
        return self.tallies[f"{kind.name}, {phase}" if phase else kind.name]

    async def _open(self) -> tuple[Wire, float]:
        """A new connection, and when it is to be left. Tries until there is one: no call was made yet."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, wire = await loop.create_connection(Wire, "127.0.0.1", self._port)
                if self._asks_worker:
                    answer = await wire.ask(b"GET /process HTTP/1.1\r\nHost: app\r\n\r\n")
                    wire.worker = json.loads(answer.body)["pid"]
            except (OSError, Lost):
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            self.opened += 1
            return wire, time.perf_counter() + self._lifetime * random.uniform(0.5, 1.0)


def _head(event: str) -> bytes:
    lines = [f"{name}: {value}" for name, value in call_headers(event).items()]
    length = len(_body(event, b"0" * 9))
    head = [f"POST /chat/messages/{event} HTTP/1.1", "Host: app", f"Content-Length: {length}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def _body(event: str, number: bytes) -> bytes:
    return b'{"type":1,"invocationId":"%b","target":"%b","arguments":["%b"]}' % (
        number,
        event.encode(),
        number,
    )


def _completion(number: bytes, said: bytes) -> bytes:
    return b'{"type":3,"invocationId":"%b",%b}\x1e' % (number, said.replace(b"%b", number))
