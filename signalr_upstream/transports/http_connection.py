"""One HTTP/1.1 connection to the service: an asyncio protocol over httptools, one request at a time.

It knows nothing of pools or retries. What it cannot read in full is an error, and the connection is of no more use.

Spec: https://www.rfc-editor.org/rfc/rfc9112
"""

import asyncio
import select
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..errors import DeliveryUnknown
from .transport import MAX_ANSWER, Answer

MAX_HEAD: Final = 64 * 1024
"""Bytes of status line and headers: several times what the service or any proxy sends."""

MAX_INTERIM: Final = 8
"""Answers 1xx before the real one."""

_NO_CONTENT: Final = (204, 304)


class HttpConnection(asyncio.Protocol):
    """One connection.

    Args:
        name: of the peer, for errors.
        expires: loop time after which it is too old to be used again.
        max_answer: bytes read of an answer's body; what is over them is left out.
        takes_encoded: whether the body of an answer that is compressed counts, as it came. Otherwise it is left out.

    Attributes:
        address: of the peer, as it was resolved; "" before it is known.
        use_until: loop time after which it may have been given up by the peer, and is not used again.
        idle_since: loop time at which it came free.
        deadline: loop time by which the running request has to be answered.
        retired: it is not to be used again.
        lost: a future that is done when it is closed.
    """

    def __init__(
        self, name: str, *, expires: float, max_answer: int = MAX_ANSWER, takes_encoded: bool = False
    ) -> None:
        self._name = name
        self._max_answer = max_answer
        # With the sizes of its chunks and what stands behind them.
        self._max_received = MAX_HEAD + 2 * max_answer
        self._takes_encoded = takes_encoded
        self._loop = asyncio.get_running_loop()
        self.expires = self.use_until = expires
        self._waiting: asyncio.Future[Answer | None] | None = None
        self._unsent: bytes | None = None
        self._is_head = self._is_used = False
        self.idle_since = self._loop.time()
        self._transport: asyncio.Transport
        self._poll: select.poll | None = None
        self.address = ""
        self.deadline = 0.0
        self.retired = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._begin()

    def _begin(self) -> None:
        self._parser = HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._received = 0
        self._in_head = True
        self._until_end = False

    # --- use -------------------------------------------------------------------------------------------------

    def is_usable(self, now: float) -> bool:
        """Whether it can be used once more, as far as is known; ``flush`` looks at the socket."""
        return not self.retired and now < self.use_until

    def request(self, data: bytes, *, is_head: bool) -> "asyncio.Future[Answer | None]":
        """Promise the answer to a request, which ``flush`` writes. None: not a byte of it was written.

        The promise fails with ``DeliveryUnknown``.
        """
        self._is_head = is_head
        self._interim = 0
        self._unsent = data
        self._waiting = waiting = self._loop.create_future()
        return waiting

    def flush(self) -> None:
        """Write the request that was made last, unless the connection has ended meanwhile."""
        transport, data = self._transport, self._unsent
        if data is None:
            return
        if not (transport.is_closing() or self._is_stale()):
            self._is_used = True
            transport.write(data)
            if not transport.is_closing():  # or else the first attempt to write has failed
                self._unsent = None
                return
        self.close()
        self._end(None)

    def _is_stale(self) -> bool:
        """Whether the peer has ended it, or sent what nobody asked for, before the loop has noticed."""
        # What comes before the first request is TLS's own: session tickets.
        return self._is_used and self._poll is not None and bool(self._poll.poll(0))

    def close(self) -> None:
        """Close it; a request that is under way fails."""
        self.retired = True
        self._transport.abort()

    def fail(self, reason: str) -> None:
        """Give up on the running request, and on the connection."""
        self._end(None, reason)
        self.close()

    def _end(self, answer: Answer | None, reason: str = "") -> None:
        waiting, self._waiting = self._waiting, None
        unsent, self._unsent = self._unsent, None
        if waiting is None or waiting.done():
            return
        if answer is not None or unsent is not None:
            waiting.set_result(answer)
        else:
            waiting.set_exception(DeliveryUnknown(f"no answer from {self._name}: {reason}"))

    # --- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._waiting is None or self._unsent is not None:  # nobody asked
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.fail("it switches to another protocol")
        except HttpParserError:
            self.fail("what it sends is not HTTP")
        if self._received > (MAX_HEAD if self._in_head else self._max_received):
            self.fail("the head of its answer, or what stands around its body, is too large")

    def eof_received(self) -> None:
        """Called by the loop: the peer sends no more."""
        if self._until_end:
            self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.retired = True
        kind = "closed" if exc is None else "reset"
        self._end(None, f"the connection was {kind} before the answer was complete")
        self.lost.set_result(None)

    # --- httptools -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._waiting is None:  # a second answer to one request
            self.retired = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = False
        self._status = status = self._parser.get_status_code()
        if status < 200:
            return
        names = dict(self._headers)
        if self._is_head:
            # The parser waits for a body that never comes.
            self._answer(keep=self._parser.should_keep_alive())
            self._begin()
        elif not self._takes_encoded and names.get(b"content-encoding", b"identity") != b"identity":
            self._answer()  # it was not asked for, and may inflate a thousandfold: the status is enough
        elif b"content-length" not in names and b"transfer-encoding" not in names:
            self._until_end = status not in _NO_CONTENT

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)
        self._size += len(body)
        if self._waiting is None or self._size >= self._max_answer:
            self._answer()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._waiting is None:
            return
        if self._status >= 200:
            self._answer(keep=self._parser.should_keep_alive())
            return
        self._interim += 1
        self._reset()
        if self._interim > MAX_INTERIM:
            self.fail("it does not come to its answer")

    def _answer(self, *, keep: bool = False) -> None:
        """The answer is complete, or as much of it as is wanted."""
        body = b"".join(self._body)[: self._max_answer]
        answer = Answer(self._status, self._headers, body)
        # An answer before the whole request was read means that the rest is not wanted.
        if not keep or self._transport.get_write_buffer_size():
            self.retired = True
        self._end(answer)
        self._reset()
