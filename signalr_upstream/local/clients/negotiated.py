"""What negotiate has promised: each of its tokens opens one transport, within a short time."""

import secrets
from typing import NamedTuple

from ..admission import Refused
from ..clock import Clock

NEGOTIATED_LIFETIME = 5.0
"""Seconds in which a client must open a transport after negotiate; Azure's number."""

LENIENT_NEGOTIATED_LIFETIME = 15.0
"""The same for Microsoft's emulator."""

MAX_EARLY = 64 * 1024
"""Bytes taken of a client that posts before it opens a transport, as ASP.NET does; its number."""

UNKNOWN_ID = "No Connection with that ID"


class Negotiated(NamedTuple):
    """One connection that may be opened."""

    connection_id: str
    stateful: bool  # whether its client may come back over another socket
    posted: bytearray  # before a transport is there


class NegotiatedTokens:
    """The tokens of one service that have not been used yet."""

    def __init__(self, clock: Clock, *, lenient: bool) -> None:
        self._clock = clock
        self._lifetime = LENIENT_NEGOTIATED_LIFETIME if lenient else NEGOTIATED_LIFETIME
        self._waiting: dict[str, tuple[float, Negotiated]] = {}  # until when, by token

    def __repr__(self) -> str:
        return f"NegotiatedTokens(<{len(self._waiting)} redacted>)"

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, token: str) -> bool:
        ends, _ = self._waiting.get(token, (0.0, None))
        return self._clock.time() < ends

    def give_out(self, *, version: int, stateful: bool) -> tuple[str, str]:
        """The token and the id of a new connection; they are the same in version 0."""
        connection_id = new_id()
        token = new_id() if version else connection_id
        now = self._clock.time()
        self._waiting = {key: entry for key, entry in self._waiting.items() if now < entry[0]}
        self._waiting[token] = now + self._lifetime, Negotiated(connection_id, stateful, bytearray())
        return token, connection_id

    def post(self, token: str, data: bytes) -> None:
        """Keep what a client has posted until it opens a transport.

        Raises:
            Refused: it is too much.
        """
        posted = self._waiting[token][1].posted
        if len(posted) + len(data) > MAX_EARLY:
            raise Refused(413, f"Before a transport is open, {MAX_EARLY} bytes may be posted.")
        posted += data

    def use_up(self, token: str) -> Negotiated:
        """What a token opens, once.

        Raises:
            Refused: nothing (any more).
        """
        ends, negotiated = self._waiting.pop(token, (0.0, None))
        if negotiated is None or self._clock.time() >= ends:
            raise Refused(404, UNKNOWN_ID)
        return negotiated


def new_id() -> str:
    """An id or token that nobody can guess; 22 characters, fit for URLs, as ASP.NET's."""
    return secrets.token_urlsafe(16)
