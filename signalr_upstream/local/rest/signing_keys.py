"""The keys that tokens are signed with: those the service was given, and temporary ones that it hands out.

An app that authenticates with Entra ID has no access key; it asks for a temporary one to sign clients' tokens with,
and names it in the token's ``kid``. Microsoft's SDK puts a ``kid`` into every token; one that is no temporary
key's means nothing.
"""

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from ...auth import read_key_id
from ..clock import Clock

ROTATION = 3600.0
"""Seconds for which one temporary key is handed out: the service's number."""

LIFETIME = 5400.0
"""Seconds for which a temporary key is good; the SDK asks for the next one after 55 minutes."""


class TemporaryKey(NamedTuple):
    """A key and its id. The ``repr`` shows neither."""

    key_id: str
    key: str
    since: float

    def __repr__(self) -> str:
        return "TemporaryKey(<redacted>)"


class SigningKeys:
    """The keys of one service.

    Args:
        keys: those it was given; the first one signs.
        clock: the service's.

    Attributes:
        given: the same; others from when they are set.
    """

    def __init__(self, keys: Sequence[str], clock: Clock) -> None:
        self.given = tuple(keys)
        self._clock = clock
        self._temporary: list[TemporaryKey] = []  # the newest last

    def __repr__(self) -> str:
        return f"SigningKeys(<{len(self.given)} keys redacted>)"

    @property
    def first(self) -> str:
        """The key that signs."""
        return self.given[0]

    def temporary(self) -> TemporaryKey:
        """The temporary key that is handed out now."""
        self._forget()
        now = self._clock.time()
        if not self._temporary or now >= self._temporary[-1].since + ROTATION:
            fresh = TemporaryKey("t-" + secrets.token_urlsafe(9), secrets.token_urlsafe(33), now)
            self._temporary.append(fresh)
        return self._temporary[-1]

    def of(self, token: str) -> Sequence[str]:
        """The keys that may have signed a token: the one that its ``kid`` names, else those of the service."""
        self._forget()
        key_id = read_key_id(token) if self._temporary else None
        return [each.key for each in self._temporary if each.key_id == key_id] or self.given

    def _forget(self) -> None:
        now = self._clock.time()
        self._temporary = [each for each in self._temporary if now < each.since + LIFETIME]
