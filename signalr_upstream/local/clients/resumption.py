"""Stateful reconnect without I/O: a client whose socket breaks comes back, and nothing is lost or repeated.

Each end numbers its messages about invocations, from 1 on, and keeps what it has sent until the other end says that it
has arrived. Over a new socket both first say with which number they go on, and send again from there; what
the other end has seen already it skips.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md
"""

from collections import deque
from enum import Enum, auto

from ...errors import InvalidMessageError
from ...protocol.messages import (
    CancelInvocation,
    Completion,
    HubMessage,
    Invocation,
    Sequence,
    StreamInvocation,
    StreamItem,
)

VERSION = 2
"""The version of the hub protocols that has it."""

BUFFER = 100_000
"""Bytes that are sent and not acknowledged before more is held back; the number of Microsoft's clients and server."""

ACK_INTERVAL = 1.0
"""Seconds from a message to its acknowledgement, so that many share one."""

MAX_KEPT = 4 * 1024 * 1024
"""Bytes kept for a client that is away, or does not say what has arrived: as many as for one that does not read."""

FIRST_WORDS = 0.5
"""Seconds for which messages wait for a client to speak first. Microsoft's JavaScript client counts only what comes
after its handshake is behind it, and in Node takes a message that comes in one piece with the answer for uncounted:
after a reconnect it would get it twice. It pings as soon as it counts."""

RETURN_WINDOW = 30.0
"""Seconds that a client has to come back; Azure's number."""

NUMBERED = (Invocation, StreamItem, Completion, StreamInvocation, CancelInvocation)
"""The messages that count. Others belong to one socket, and die with it."""


class Link(Enum):
    """What is known of the way to the client."""

    GREETING = auto()  # the handshake has been answered; the client may not count yet
    ATTACHED = auto()  # messages come and go
    RESUMING = auto()  # a new socket; the client has not said yet with which number it goes on
    DETACHED = auto()  # no socket; the client may come back
    FINAL = auto()  # the client has said that it leaves, and will not come back


class SequenceError(InvalidMessageError):
    """The client goes on with a message that cannot be its next one."""


class Resumption:
    """The numbers and the buffer of one connection.

    Args:
        now: when the handshake was answered.
    """

    def __init__(self, *, now: float) -> None:
        self.link = Link.GREETING
        self._greeting_ends = now + FIRST_WORDS
        self._kept: deque[bytes] = deque()  # what may have to be sent once more
        self._kept_size = 0
        self._first = 1  # the number of the first of them
        self._written = 0  # how many of them went to the present socket
        self._written_size = 0  # of those among them that have not been acknowledged
        self._acknowledged = 0
        self._repeated = 0  # the last number that was sent once more
        self._next_received = 1
        self._latest_received = 0
        self._ack_due: float | None = None
        self._lost_at = 0.0

    # --- to the client ---------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes that are kept for the client, sent or not."""
        return self._kept_size

    def send(self, frame: bytes) -> list[bytes]:
        """One numbered message for the client. What is to be written now, if there is a socket: it, or nothing."""
        self._kept.append(frame)
        self._kept_size += len(frame)
        return self._release(BUFFER)

    def acknowledged(self, sequence_id: int) -> list[bytes]:
        """The client has everything up to ``sequence_id``. What is to be written now.

        Where that was sent once more, the client may have said so before it came again, and its own count is behind:
        it takes no higher number to go on with. So it is kept until something newer has arrived.
        """
        last = min(sequence_id, self._first + self._written - 1)
        for number in range(self._acknowledged + 1, last + 1):
            self._written_size -= len(self._kept[number - self._first])
            self._acknowledged = number
        while self._repeated < self._acknowledged and self._first <= self._acknowledged:
            self._kept_size -= len(self._kept.popleft())
            self._written -= 1
            self._first += 1
        return self._release(BUFFER)

    def greeted(self) -> list[bytes]:
        """The client has spoken, or had its time to. What is to be written now."""
        if self.link is not Link.GREETING:
            return []
        self.link = Link.ATTACHED
        return self._release(BUFFER)

    def release_all(self) -> list[bytes]:
        """Everything that was held back, since the connection is about to be closed."""
        self.link = Link.FINAL if self.link is Link.GREETING else self.link
        return self._release(self._kept_size + 1)

    def _release(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        while (
            self.link is not Link.GREETING and self._written < len(self._kept) and self._written_size < limit
        ):
            frame = self._kept[self._written]
            if self._first + self._written > self._acknowledged:
                self._written_size += len(frame)
            self._written += 1
            frames.append(frame)
        return frames

    # --- from the client -------------------------------------------------------------------------------------

    def admits(self, message: HubMessage | None, now: float) -> bool:
        """Whether a message is to be handled: not if it came before, nor on a new socket before its ``Sequence``.

        Raises:
            SequenceError: messages are missing; the connection cannot go on.
        """
        if isinstance(message, Sequence):
            self._go_on(message.sequence_id)
            return True
        if self.link is Link.RESUMING:
            return False
        if not isinstance(message, NUMBERED):
            return True
        number = self._next_received
        self._next_received += 1
        if number >= self._latest_received and self._ack_due is None:
            self._ack_due = now + ACK_INTERVAL  # also for the last one repeated: our word of it was lost
        if number <= self._latest_received:
            return False
        self._latest_received = number
        return True

    def _go_on(self, sequence_id: int) -> None:
        if sequence_id > self._latest_received + 1:
            raise SequenceError("Sequence ID greater than amount of messages we've received.")
        if sequence_id < 1:
            raise SequenceError("Sequence IDs begin with 1.")
        self._next_received = sequence_id
        if self.link is Link.RESUMING:
            self.link = Link.ATTACHED

    # --- time and sockets ------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When an acknowledgement is due; at first, when the client has spoken; without a socket, when it is back."""
        match self.link:
            case Link.GREETING:
                return self._greeting_ends
            case Link.DETACHED:
                return self._lost_at + RETURN_WINDOW
            case _:
                return self._ack_due

    def take_ack(self, now: float) -> int | None:
        """The number to acknowledge, if that is due."""
        if self.link is Link.DETACHED or self._ack_due is None or now < self._ack_due:
            return None
        self._ack_due = None
        return self._latest_received

    def finish(self) -> None:
        """The client has said that it leaves."""
        self.link = Link.FINAL

    def lose(self, now: float) -> None:
        """The socket is gone."""
        self.link = Link.DETACHED
        self._lost_at = now
        self._ack_due = None  # the client will repeat itself

    def resume(self) -> tuple[int, list[bytes]]:
        """The client is back. The number to go on with, and what is to be written behind it."""
        self.link = Link.RESUMING
        self._ack_due = None
        self._written = self._written_size = 0
        frames = self._release(BUFFER)
        self._repeated = self._first + self._written - 1
        return self._first, frames
