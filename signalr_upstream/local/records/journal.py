"""What has happened at the local service lately: frames, calls to the app, REST calls.

Tests assert on it, the inspector shows it. Everything is kept as it went over the wire and decoded only when somebody
looks, since a broadcast to thousands of clients passes through here. Each kind has a ring of its own, so that
frames do not push calls out. Requests and queries hold secrets: who shows them redacts them.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..clock import Clock
from .entries import Answer, Client, Frame, FrameKind, Refusal, Request, RestCall, UpstreamCall, bytes_kept
from .ring import Ring

MAX_FRAMES = 10_000
"""Frames that are kept: some minutes of a busy page, or two broadcasts to 5,000 clients."""

MAX_CALLS = 1_000
"""Calls that are kept, of those to the app and of those to the REST API each."""

MAX_GONE = 1_000
"""Clients that are remembered when they have gone, for the frames that are still there."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of data kept of each kind."""

MAX_KEPT = 64 * 1024
"""Bytes kept of one frame or one body; of longer ones the start is kept."""

MAX_REFUSED = 1_000
"""Refused requests that are kept; of a URL, ``MAX_URL`` characters."""

MAX_URL = 2_000


class Journal:
    """The record of one service.

    Args:
        clock: the service's.
        max_frames, max_calls, max_gone, max_bytes, max_kept: as the constants of this module.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_frames: int = MAX_FRAMES,
        max_calls: int = MAX_CALLS,
        max_gone: int = MAX_GONE,
        max_bytes: int = MAX_BYTES,
        max_kept: int = MAX_KEPT,
    ) -> None:
        self.clock = clock
        self._max_kept = max_kept
        self._max_gone = max_gone
        self._numbers = itertools.count(1)
        self._frames: Ring[Frame] = Ring(max_frames, max_bytes)
        self._upstream: Ring[UpstreamCall] = Ring(max_calls, max_bytes)
        self._rest: Ring[RestCall] = Ring(max_calls, max_bytes)
        self._refused: Ring[Refusal] = Ring(MAX_REFUSED, max_bytes)
        self._clients: dict[str, Client] = {}
        self._gone: dict[str, Client] = {}
        self._watchers: set[asyncio.Event] = set()

    # --- what is in it ---------------------------------------------------------------------------------------

    @property
    def frames(self) -> list[Frame]:
        """Frames, the oldest first."""
        return list(self._frames.entries)

    def newest_frames(self) -> Iterator[Frame]:
        """Frames, the newest first; to be looked at before anything else is noted."""
        return reversed(self._frames.entries)

    @property
    def upstream_calls(self) -> list[UpstreamCall]:
        """Calls to the app, in the order in which they began."""
        return list(self._upstream.entries)

    @property
    def rest_calls(self) -> list[RestCall]:
        """Calls to the REST API, in the order in which they ended."""
        return list(self._rest.entries)

    @property
    def refused_requests(self) -> list[Refusal]:
        """Requests that were answered with an error before anything came of them, the oldest first."""
        return list(self._refused.entries)

    @property
    def clients(self) -> list[Client]:
        """Clients with an open transport, in the order in which they opened it."""
        return list(self._clients.values())

    def client(self, connection_id: str) -> Client | None:
        """A client that is there, or was not long ago."""
        return self._clients.get(connection_id) or self._gone.get(connection_id)

    @property
    def lost(self) -> int:
        """How many frames and calls have made room for newer ones."""
        return self._frames.lost + self._upstream.lost + self._rest.lost

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something is noted; who watches clears it."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    # --- clients ---------------------------------------------------------------------------------------------

    def opened(self, client: Client) -> None:
        """A client has opened a transport."""
        client.since = self.clock.time()
        self._clients[client.connection_id] = client
        self._frame("opened", client.connection_id, client.transport.encode(), binary=False)

    def refused(self, status: int, method: str, url: str, reason: str) -> None:
        """A request, of a client or of a stranger, was answered with an error before anything came of it."""
        refusal = Refusal(next(self._numbers), self.clock.time(), status, method, url[:MAX_URL], reason)
        self._refused.add(refusal, refusal.kept)
        self.wake()

    def received(self, connection_id: str, data: bytes, *, binary: bool) -> None:
        """A client has sent ``data``."""
        self._frame("received", connection_id, data, binary=binary)

    def sent(self, connection_id: str, data: bytes, *, binary: bool, now: float | None = None) -> None:
        """``data`` has been written to a client, ``now`` if the time is known. A broadcast is noted once a client."""
        size = len(data)
        if now is None or size > self._max_kept:
            self._frame("sent", connection_id, data, binary=binary)
            return
        self._frames.add(Frame(next(self._numbers), now, "sent", connection_id, data, binary, size), size)
        if self._watchers:
            self.wake()

    def closed(self, connection_id: str, error: str | None = None) -> None:
        """A client's transport has ended."""
        client = self._clients.pop(connection_id, None)
        if client is not None:
            client.live = False
            self._gone[connection_id] = client
            if len(self._gone) > self._max_gone:
                del self._gone[next(iter(self._gone))]
        self._frame("closed", connection_id, (error or "").encode(), binary=False)

    def _frame(self, kind: FrameKind, connection_id: str, data: bytes, *, binary: bool) -> None:
        size = kept = len(data)
        if size > self._max_kept:
            data, kept = data[: self._max_kept], self._max_kept
        self._frames.add(
            Frame(next(self._numbers), self.clock.time(), kind, connection_id, data, binary, size), kept
        )
        if self._watchers:
            self.wake()

    # --- calls -----------------------------------------------------------------------------------------------

    def request(self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Request:
        """A request as the journal keeps it."""
        return Request(method, url, tuple(headers), body[: self._max_kept], len(body))

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
        """An answer as the journal keeps it."""
        return Answer(status, tuple(headers), body[: self._max_kept], len(body))

    def upstream_called(self, call: UpstreamCall) -> None:
        """The app is being called."""
        call.number = call.changed = next(self._numbers)
        self._upstream.add(call, call.kept)
        self.wake()

    def upstream_answered(self, call: UpstreamCall, answer: Answer | str) -> None:
        """The app has answered, or it has not: then the text says why."""
        call.seconds = self.clock.time() - call.start
        call.changed = next(self._numbers)
        if isinstance(answer, str):
            call.error = answer
        else:
            call.answer = answer
            if call.number >= self._upstream.entries[0].number:  # it may have left the ring meanwhile
                self._upstream.grow(bytes_kept(answer))
        self.wake()

    def next_number(self) -> int:
        """The number of an entry that is noted when it is over."""
        return next(self._numbers)

    def rest_called(self, call: RestCall) -> None:
        """A call to the REST API is over; its number is of when it began."""
        call.changed = next(self._numbers)
        self._rest.add(call, call.kept)
        self.wake()

    def wake(self) -> None:
        """Tell who watches to look again."""
        for event in self._watchers:
            event.set()
