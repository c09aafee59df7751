"""Which SignalR service: the configured endpoints, and whose key an upstream call was signed with."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Self
from urllib.parse import urlsplit

from .auth import SignatureVerifier
from .connection_string import (
    DEFAULT_SETTING,
    EMULATOR_KEY,
    Endpoint,
    counts_as_none,
    is_loopback,
    load_endpoints,
    unusable_keys_reason,
)
from .errors import NoKeysError

MAX_PROVEN = 4096
"""Connections whose signature is recognised: about 2 MiB, and the busy ones stay."""


class Endpoints:
    """The endpoints of one app or client.

    Args:
        endpoints: what ``load_endpoints`` gave.
        upstream_keys: further keys that verify upstream calls and sign nothing.

    Attributes:
        all: the endpoints, in the order of the configuration.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, upstream_keys: Sequence[str] = ()) -> None:
        self.all = tuple(endpoints)
        self._keyless = [endpoint for endpoint in self.all if not endpoint.keys]
        # A key that two endpoints share proves neither, nor does one that verifies only.
        owners: dict[str, Endpoint | None] = {}
        for endpoint in self.all:
            for key in endpoint.keys:
                owners[key] = None if key in owners else endpoint
        alone = self.all[0] if len(self.all) == 1 else None
        for key in upstream_keys:
            if not counts_as_none(key) and (key != EMULATOR_KEY or self._are_loopback()):
                owners.setdefault(key, alone)
        self._owners = tuple(owners.values())
        # A connection's signature never changes: it is worked out once and then recognised. What is refused is
        # not remembered, and a look-up by hash tells nobody how much of a guess was right.
        self._verify = lru_cache(MAX_PROVEN)(SignatureVerifier(tuple(owners)).verify)

    def _are_loopback(self) -> bool:
        """Whether every endpoint is on this machine: elsewhere the emulator's key is anybody's."""
        return bool(self.all) and all(is_loopback(urlsplit(e.url).hostname or "") for e in self.all)

    @classmethod
    def load(
        cls,
        setting: str | Sequence[str] | None = None,
        *,
        environ: Mapping[str, str],
        name: str = DEFAULT_SETTING,
        upstream_keys: Sequence[str] = (),
    ) -> Self:
        """Take the setting, or else the environment.

        Raises:
            ConnectionStringError: a connection string that cannot be used.
        """
        return cls(load_endpoints(setting, environ=environ, name=name), upstream_keys=upstream_keys)

    def __repr__(self) -> str:
        return f"Endpoints({', '.join(endpoint.url for endpoint in self.all)})"

    @property
    def first(self) -> Endpoint:
        """The endpoint that clients are sent to.

        Raises:
            NoKeysError: none is configured.
        """
        if not self.all:
            raise NoKeysError(unusable_keys_reason(self.all))
        return self.all[0]

    @property
    def for_sending(self) -> tuple[Endpoint, ...]:
        """The endpoints that calls go to.

        Raises:
            NoKeysError: one has no usable key, or there is none at all.
        """
        if self._keyless or not self.all:
            raise NoKeysError(unusable_keys_reason(self._keyless))
        return self.all

    def verify(self, signature: bytes, connection_id: bytes) -> Endpoint | None:
        """Check the signature of an upstream call.

        Returns:
            The endpoint whose key matched; None where that key does not belong to one endpoint alone.

        Raises:
            NoKeysError: there is nothing to check it with.
            SignatureError: it is made with none of our keys.
        """
        self.require_keys()
        return self._owners[self._verify(signature, connection_id)]

    def require_keys(self) -> None:
        """Raise NoKeysError, which says why, if no upstream call can be verified."""
        if not self._owners:
            raise NoKeysError(unusable_keys_reason(self.all))
