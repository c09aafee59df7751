"""What a client has sent and nobody has looked at yet: in the pieces in which it came, and cut into messages."""

from collections import deque

from ...protocol.framing import BinarySplitter, TextSplitter


class Inbox:
    """The messages of one connection that wait for their turn. Pieces are cut up when their turn comes.

    Args:
        splitter: finds the end of a message. Its errors come out of ``take``.

    Attributes:
        size: bytes that wait; of a message in pieces, those before the last are no longer counted.
    """

    def __init__(self, splitter: TextSplitter | BinarySplitter) -> None:
        self.size = 0
        self._splitter = splitter
        self._pieces: deque[bytes] = deque()
        self._frames: deque[bytes] = deque()  # what the last piece held

    @property
    def cut_short(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._splitter.pending > 0

    def put(self, piece: bytes) -> None:
        """Bytes came, cut anywhere."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self) -> bytes | None:
        """The next message without its framing; None if there is no whole one.

        Raises:
            ProtocolError: what came cannot be cut into messages.
        """
        while not self._frames and self._pieces:
            self._frames.extend(self._splitter.feed(self._pieces.popleft()))
        frame = self._frames.popleft() if self._frames else None
        if not (self._frames or self._pieces):
            self.size = 0
        return frame

    def clear(self) -> None:
        """Forget the messages that wait."""
        self._pieces.clear()
        self._frames.clear()
        self.size = 0
