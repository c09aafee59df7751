"""The connections to one origin: taken, given back, waited for, aged and retired.

A busy pool has one timer for all that is under way, so that a request sets none of its own.
"""

import asyncio
import random
import socket
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

import aiohappyeyeballs
from msgspec import Struct

from ..errors import ConnectError, DeliveryUnknown
from ..telemetry import PoolUse
from .http_connection import HttpConnection
from .rounds import Round
from .transport import MAX_ANSWER, Answer

MAX_CONNECTIONS: Final = 100
"""Connections to one origin for each event loop; more calls than that wait for one to come free."""

IDLE_EXPIRY: Final = 15.0
"""Seconds an unused connection is kept, if nothing else is said: shorter than any proxy's patience, so that it is not
found dead."""

MAX_AGE: Final = 300.0
"""Seconds a connection is used, give or take a fifth, so that they do not all end together. Regions fail over by DNS,
and the name is resolved anew for each connection."""

CONNECT_SHARE: Final = 0.5
"""Part of a call's time-out that making a connection may use up; less than all of it, so that a service that cannot
be reached is told from one that does not answer."""

FAILURES: Final = 2
"""In a row at one address, after which no connection to it is used again."""

TICK: Final = 0.1
"""Seconds between looks at the clock: how late a time-out may be."""

SECOND_ADDRESS_AFTER: Final = 0.25
"""Seconds until the next address of a name is tried beside the first.
Spec: https://www.rfc-editor.org/rfc/rfc8305"""


class Origin(Struct, frozen=True):
    """Where to connect to.

    Attributes:
        tls: makes the context of ``https``; None for ``http``.
    """

    name: str
    host: str
    port: int
    tls: Callable[[], Awaitable[ssl.SSLContext]] | None


class ConnectionPool:
    """Connections to ``origin`` in the running loop.

    Args:
        idle_expiry: seconds. After a request that took longer than that, too, its connection is not used again.
        max_answer, takes_encoded: see ``HttpConnection``.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_age: float = MAX_AGE,
        idle_expiry: float = IDLE_EXPIRY,
        max_answer: int = MAX_ANSWER,
        takes_encoded: bool = False,
    ) -> None:
        self._origin = origin
        self._max_age = max_age
        self._idle_expiry = idle_expiry
        self._max_answer = max_answer
        self._takes_encoded = takes_encoded
        self._max_connections = max_connections
        self._free = max_connections  # how many more may be opened
        self._loop = asyncio.get_running_loop()
        self._idle: list[HttpConnection] = []  # the last used last, and it is used again first
        self._busy: set[HttpConnection] = set()
        self._round = Round()
        self._queue: deque[tuple[asyncio.Future[HttpConnection | None], float]] = deque()
        self._failures: Counter[str] = Counter()  # by address
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether there is a connection, or somebody who waits for one."""
        return self._free < self._max_connections or bool(self._queue)

    async def request(self, data: bytes, *, is_head: bool, timeout: float) -> Answer:
        """Send one request and read its answer.

        Raises:
            ConnectError: nothing was sent.
            DeliveryUnknown: something was sent, and no answer came.
        """
        now = self._loop.time()
        deadline = now + timeout
        connection = self._take(now)
        if connection is None:
            connection = await self._wait_or_open(deadline, timeout)
            now = self._loop.time()
        is_fresh = False
        while True:
            connection.deadline = deadline
            # The peer counts from its answer, which a busy loop may read much later.
            connection.use_until = min(now + self._idle_expiry, connection.expires)
            waiting = self._begin(connection, data, is_head)
            try:
                answer = await waiting
            except BaseException as error:
                self._break(connection, waiting, error)
                raise
            self._busy.discard(connection)
            if answer is not None:
                if self._failures:
                    self._failures.pop(connection.address, None)
                self._give_back(connection)
                return answer
            if is_fresh or self._closed:
                self._pass_right_on()
                raise self._no_connection("it is closed at once")
            # It was closed just now, and not a byte was written: once more, on a fresh one.
            connection, is_fresh = await self._open(deadline, timeout), True
            now = self._loop.time()

    def _begin(
        self, connection: HttpConnection, data: bytes, is_head: bool
    ) -> "asyncio.Future[Answer | None]":
        waiting = connection.request(data, is_head=is_head)
        if self._busy:
            self._round.add(connection)
        else:
            connection.flush()  # alone it has nothing to gain by waiting
        self._busy.add(connection)
        if self._timer is None:
            self._watch()
        return waiting

    def _break(
        self, connection: HttpConnection, waiting: "asyncio.Future[Answer | None]", error: BaseException
    ) -> None:
        """A request has failed, or nobody waits for its answer any more."""
        connection.close()  # the rest of an answer that nobody waits for would be taken for the next one's
        if isinstance(error, DeliveryUnknown):
            self._failed(connection.address)
        elif waiting.done() and not waiting.cancelled():
            waiting.exception()
        self._busy.discard(connection)
        self._give_back(connection)

    def use(self) -> PoolUse:
        """How many connections there are, and requests that wait for one."""
        return PoolUse(len(self._busy), len(self._idle), sum(not waiter.done() for waiter, _ in self._queue))

    async def aclose(self) -> None:
        """Close every connection; requests that are under way, or wait for a connection, fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter, _ in self._queue:
            if not waiter.done():
                waiter.set_exception(self._no_connection("it was closed here"))
        connections = [*self._idle, *self._busy]
        self._free += len(self._idle)
        self._idle.clear()
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.lost for connection in connections])

    # --- taking and giving back ------------------------------------------------------------------------------

    def _take(self, now: float) -> HttpConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                return connection
            connection.close()
            self._free += 1
        return None

    async def _wait_or_open(self, deadline: float, timeout: float) -> HttpConnection:
        if self._free <= 0:
            connection = await self._wait(deadline)
            if connection is not None:
                return connection
        else:
            self._free -= 1
        return await self._open(deadline, timeout)

    async def _wait(self, deadline: float) -> HttpConnection | None:
        """Wait for a connection, or (None) for the right to open one."""
        waiter: asyncio.Future[HttpConnection | None] = self._loop.create_future()
        self._queue.append((waiter, deadline))
        if self._timer is None:
            self._watch()
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                given = waiter.result()
                if given is None:
                    self._pass_right_on()
                else:
                    self._give_back(given)
            raise

    def _give_back(self, connection: HttpConnection) -> None:
        now = self._loop.time()
        if self._closed or not connection.is_usable(now):
            connection.close()
            self._pass_right_on()
            return
        connection.idle_since = now
        while self._queue:
            waiter, _ = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _pass_right_on(self) -> None:
        """One connection fewer: who waits may open another."""
        while self._queue:
            waiter, _ = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    # --- opening ---------------------------------------------------------------------------------------------

    async def _open(self, deadline: float, timeout: float) -> HttpConnection:
        """Open a connection; the right to do so was taken before, and is given back where it fails."""
        try:
            async with asyncio.timeout_at(min(deadline, self._loop.time() + timeout * CONNECT_SHARE)):
                return await self._connect()
        except (
            OSError,
            UnicodeError,
        ) as error:  # time-outs and TLS are OSErrors, and a strange host a UnicodeError
            self._pass_right_on()
            raise self._no_connection(_reason(error)) from error
        except BaseException:
            self._pass_right_on()
            raise

    async def _connect(self) -> HttpConnection:
        origin = self._origin
        tls = None if origin.tls is None else await origin.tls()
        found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=SECOND_ADDRESS_AFTER, interleave=1
        )
        expires = self._loop.time() + self._max_age * random.uniform(0.8, 1.2)  # noqa: S311 - spread, not secret
        _, connection = await self._loop.create_connection(
            lambda: HttpConnection(
                origin.name,
                expires=expires,
                max_answer=self._max_answer,
                takes_encoded=self._takes_encoded,
            ),
            sock=sock,
            ssl=tls,
            server_hostname=None if tls is None else origin.host,
        )
        return connection

    # --- time and failures -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        for connection in [c for c in self._busy if now >= c.deadline]:
            connection.fail("it did not come in time")
        for waiter, deadline in self._queue:
            if now >= deadline and not waiter.done():
                waiter.set_exception(self._no_connection("all are in use, and none came free in time"))
        while self._idle and now >= self._idle[0].idle_since + self._idle_expiry:
            self._idle.pop(0).close()
            self._free += 1
        self._timer = None
        if self._busy or self._queue or self._idle:
            self._watch()

    def _no_connection(self, reason: str) -> ConnectError:
        return ConnectError(f"no connection to {self._origin.name}: {reason}")

    def _failed(self, address: str) -> None:
        self._failures[address] += 1
        if self._failures[address] < FAILURES:
            return
        del self._failures[address]
        for connection in [*self._busy, *self._idle]:
            if connection.address == address:
                connection.retired = True
        kept = [connection for connection in self._idle if not connection.retired]
        for connection in self._idle:
            if connection.retired:
                connection.close()
                self._free += 1
        self._idle = kept


def _reason(error: Exception) -> str:
    text = str(error)
    return type(error).__name__ if not text else f"{type(error).__name__}: {ascii(text[:200])[1:-1]}"
