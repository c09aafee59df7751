"""What is made to go wrong on purpose, so that an app and its clients can be seen to cope with it.

Everything is off at first. Tests set attributes, the inspector has a switch for each::

    service.faults.upstream_status = 503         # the app is not called; the service takes this for its answer
    service.faults.rest_status = 429             # REST calls are refused ...
    service.faults.rest_retry_after = 2          # ... with this Retry-After
    service.faults.drop(client.connection_id)    # the network breaks
    service.faults.hold(client.connection_id)    # the client does not read any more
    service.faults.clear()

Where they are looked at: those of calls to the app in ``upstream``, latencies in ``app``, refusals in ``admission``;
dropping and holding go to the writer of the client's transport.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

from msgspec import Meta, Struct
from msgspec.structs import fields

from .clock import Clock

FAULT_HEADER = "X-Injected-Fault"
"""In answers that a fault has made, so that nobody looks for a bug."""

Latency = Annotated[float, Meta(ge=0.0, le=600.0)]
Status = Annotated[int, Meta(ge=400, le=599)]
RetryAfter = Annotated[int, Meta(ge=0, le=86_400)]


class FaultSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong for as long as it is set. Times are seconds.

    Attributes:
        upstream_latency: before each call to the app.
        upstream_status: taken for the app's answer; the app is not called.
        upstream_duplicate: call the app twice for each event, as a service does that retries. The second answer counts.
        rest_latency: before a REST call is looked at.
        rest_status: of the refusal of every REST call.
        rest_retry_after: the ``Retry-After`` of a refusal with 429 or 503.
        rest_token_expired: take the tokens of REST calls for expired.
        client_latency: before a client's request is looked at: negotiate, the opening of a transport, a poll, a post.
        client_status: of the refusal of such requests.
        client_retry_after: the ``Retry-After`` of a refusal with 429 or 503.
        client_token_expired: take the tokens of such requests for expired.
    """

    upstream_latency: Latency = 0.0
    upstream_status: Status | None = None
    upstream_duplicate: bool = False
    rest_latency: Latency = 0.0
    rest_status: Status | None = None
    rest_retry_after: RetryAfter = 1
    rest_token_expired: bool = False
    client_latency: Latency = 0.0
    client_status: Status | None = None
    client_retry_after: RetryAfter = 1
    client_token_expired: bool = False


class Breakable(Protocol):
    """The service's end of a transport that stays open."""

    def abort(self) -> None:
        """End it without a word, as a network does that breaks."""
        ...

    def hold_back(self, released: asyncio.Event) -> None:
        """Write nothing until ``released`` is set, as if the client did not read."""
        ...


class Faults(FaultSettings, dict=True):
    """The settings of one service, and what can happen to one client of it."""

    def __post_init__(self) -> None:
        self._transports: dict[str, Breakable] = {}
        self._held: dict[str, asyncio.Event] = {}

    def change(self, settings: FaultSettings) -> None:
        """Set every setting."""
        for field in fields(FaultSettings):
            setattr(self, field.name, getattr(settings, field.name))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self.change(FaultSettings())
        for released in self._held.values():
            released.set()
        self._held.clear()

    # --- one client ------------------------------------------------------------------------------------------

    @property
    def held(self) -> frozenset[str]:
        """The ids of the connections that are held."""
        return frozenset(self._held)

    def drop(self, connection_id: str) -> bool:
        """Break a client's transport. False: it has none that is open."""
        transport = self._transports.get(connection_id)
        if transport is not None:
            transport.abort()
        return transport is not None

    def hold(self, connection_id: str) -> bool:
        """Treat a client as one that does not read, until it is released. False: it has no open transport."""
        transport = self._transports.get(connection_id)
        if transport is not None and connection_id not in self._held:
            self._held[connection_id] = asyncio.Event()
            transport.hold_back(self._held[connection_id])
        return transport is not None

    def release(self, connection_id: str) -> None:
        """Let a client read on."""
        if connection_id in self._held:
            self._held.pop(connection_id).set()

    @contextmanager
    def reaching(self, connection_id: str, transport: Breakable) -> Iterator[None]:
        """While a client's transport is open, it can be dropped and held."""
        self._transports[connection_id] = transport
        try:
            yield
        finally:
            if self._transports.get(connection_id) is transport:
                del self._transports[connection_id]
                self.release(connection_id)


async def pause(clock: Clock, seconds: float) -> None:
    """Wait; no time at all where there is nothing to wait for."""
    if seconds > 0:
        over = asyncio.Event()
        timer = clock.call_at(clock.time() + seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
