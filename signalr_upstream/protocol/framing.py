"""Where one message ends and the next begins: 0x1E records and length prefixes.

Text protocols (and every handshake) end a message with 0x1E; binary protocols put its length in front. A splitter
takes data in pieces of any size, each byte once. After an error it is of no more use: the connection must be closed.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md
"""

from ..errors import FrameTooLargeError, LengthPrefixError

RECORD_SEPARATOR = b"\x1e"

MAX_FRAME = 16 * 1024 * 1024
"""Largest message taken, in bytes: that of Microsoft's emulator for an answer, the largest thing it carries."""

_MAX_LENGTH = 0x7FFF_FFFF
_MAX_PREFIX = 5  # bytes: 7 bits each, the last one at most 0x07


def frame_text(payload: bytes) -> bytes:
    """End ``payload`` with the record separator. JSON cannot contain it: it is a control character."""
    return payload + RECORD_SEPARATOR


def frame_binary(payload: bytes) -> bytes:
    """Put the length in front of ``payload``: 7 bits a byte, the lowest first, the top bit set but on the last.

    Raises:
        LengthPrefixError: more than 2 GiB - 1.
    """
    rest = len(payload)
    if rest > _MAX_LENGTH:
        raise LengthPrefixError("a message of more than 2 GiB cannot be sent")
    prefix = bytearray()
    while rest > 0x7F:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    prefix.append(rest)
    return bytes(prefix) + payload


class TextSplitter:
    """Cut a stream of text messages at each 0x1E.

    Args:
        limit: largest message taken, in bytes without its separator.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()  # a message whose end has not come

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete; a connection that ends here was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece of the stream and give the messages it completes, without separators.

        Raises:
            FrameTooLargeError: a message is over the limit, complete or not.
        """
        head, *tails = data.split(RECORD_SEPARATOR)
        if not tails:
            self._keep(head)
            return []
        *frames, rest = tails
        if self._buffer:
            head = bytes(self._buffer) + head
            self._buffer.clear()
        frames.insert(0, head)
        if any(len(frame) > self._limit for frame in frames):
            raise FrameTooLargeError(self._limit)
        self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        if len(self._buffer) + len(piece) > self._limit:
            raise FrameTooLargeError(self._limit)
        self._buffer += piece


class BinarySplitter:
    """Cut a stream of binary messages at the lengths that stand in front of them.

    Args:
        limit: largest message taken, in bytes without its length prefix.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete; a connection that ends here was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece of the stream and give the messages it completes, without prefixes.

        Raises:
            FrameTooLargeError: a prefix announces more than the limit; nothing of that message is kept.
            LengthPrefixError: a prefix has more than five bytes or announces more than 2 GiB.
        """
        self._buffer += data
        frames: list[bytes] = []
        position = 0
        while (bounds := self._find(position)) is not None:
            start, position = bounds
            frames.append(bytes(self._buffer[start:position]))
        del self._buffer[:position]
        return frames

    def _find(self, position: int) -> tuple[int, int] | None:
        """Where the message at ``position`` starts and ends; None if it has not all come yet."""
        length = 0
        for size, byte in enumerate(self._buffer[position : position + _MAX_PREFIX], start=1):
            length |= (byte & 0x7F) << 7 * (size - 1)
            if byte < 0x80:
                break
            if size == _MAX_PREFIX:
                raise LengthPrefixError("a length prefix is longer than five bytes")
        else:
            return None
        if length > _MAX_LENGTH:
            raise LengthPrefixError("a length prefix announces more than 2 GiB")
        if length > self._limit:
            raise FrameTooLargeError(self._limit)
        start = position + size
        return (start, start + length) if start + length <= len(self._buffer) else None


SplitterType = type[TextSplitter] | type[BinarySplitter]
