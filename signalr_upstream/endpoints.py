"""Which SignalR service: the configured endpoints, whose key an upstream call was signed with, and how keys change.

A connection string may be given as a function. It is asked again from time to time, so that keys can be rotated
while the program runs; what it said last counts until it says something else.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Final, Self
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
from .errors import ConfigurationError, NoKeysError, SignatureError

MAX_PROVEN: Final = 4096
"""Connections whose signature is recognised: about 2 MiB, and the busy ones stay."""

ASK_EVERY: Final = 60.0
"""Seconds after which a function that gives connection strings is asked again."""

ASK_AT_MOST_EVERY: Final = 1.0
"""Seconds between two times of asking, however often the service refuses our token."""

Setting = str | Sequence[str] | None
Source = Callable[[], str | Sequence[str]]
"""Gives connection strings: reads a mounted file, say. It runs in a thread but for the first time."""

_log = logging.getLogger("signalr_upstream")


class Endpoints:
    """The endpoints of one app or client, as they are now.

    Args:
        endpoints: what ``load_endpoints`` gave.
        upstream_keys: further keys that verify upstream calls and sign nothing.
        ask: gives the endpoints anew; None where they never change.
        clock: seconds of a steady clock.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        upstream_keys: Sequence[str] = (),
        ask: Callable[[], Sequence[Endpoint]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream_keys = tuple(upstream_keys)
        self._ask = ask
        self._clock = clock
        self._asked = clock()
        self._asking: Future[None] = Future()
        self._asking.set_result(None)
        self._proofs = _Proofs(endpoints, self._upstream_keys)

    @classmethod
    def load(
        cls,
        setting: Setting | Source = None,
        *,
        environ: Mapping[str, str],
        name: str = DEFAULT_SETTING,
        upstream_keys: Sequence[str] = (),
        credential: object | None = None,
    ) -> Self:
        """Take the setting, or what it gives when it is called, or else the environment.

        Args:
            credential: proves who we are to endpoints that have no access key (``get_token(scope)``).

        Raises:
            ConnectionStringError: a connection string that cannot be used.
        """
        if not callable(setting):
            found = load_endpoints(setting, environ=environ, name=name, credential=credential)
            return cls(found, upstream_keys=upstream_keys)

        def ask() -> Sequence[Endpoint]:
            return load_endpoints(setting(), environ=environ, name=name, credential=credential)

        return cls(ask(), upstream_keys=upstream_keys, ask=ask)

    def __repr__(self) -> str:
        return f"Endpoints({', '.join(endpoint.url for endpoint in self.all)})"

    # --- what there is ---------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """The endpoints, in the order of the configuration."""
        return self._proofs.endpoints

    def at(self, url: str) -> Endpoint:
        """The endpoint with this ``url``.

        Raises:
            ConfigurationError: there is none any more.
        """
        for endpoint in self.all:
            if endpoint.url == url:
                return endpoint
        raise ConfigurationError(f"{url} is no endpoint any more")

    @property
    def seal_keys(self) -> tuple[str, ...]:
        """The access keys, which seals are signed with where there is no ``seal_key``."""
        return self._proofs.access_keys

    @property
    def for_sending(self) -> tuple[Endpoint, ...]:
        """The endpoints that REST calls can go to.

        Raises:
            NoKeysError: one can be proven nothing, or there is none at all.
        """
        self._ask_if_due()
        proofs = self._proofs
        if proofs.proofless or not proofs.endpoints:
            raise NoKeysError(unusable_keys_reason(proofs.proofless))
        return proofs.endpoints

    def verify(self, signature: bytes, connection_id: bytes) -> Endpoint | None:
        """Check the signature of an upstream call.

        Returns:
            The endpoint whose key matched; None where that key does not belong to one endpoint alone.

        Raises:
            NoKeysError: there is nothing to check it with.
            SignatureError: it is made with none of our keys.
        """
        self._ask_if_due()
        return self._proofs.verify(signature, connection_id)

    def verify_nothing(self, signature: bytes, connection_id: bytes) -> Endpoint | None:
        """As ``verify`` without looking: for experiments on loopback."""
        return self.all[0] if self.all else None

    @property
    def only(self) -> Endpoint | None:
        """The endpoint, where there is just one."""
        return self.all[0] if len(self.all) == 1 else None

    @property
    def is_keyless(self) -> bool:
        """Whether there are no keys because none are meant to be: every endpoint has a credential."""
        return self._proofs.is_keyless

    def key_index(self, signature: bytes, connection_id: bytes) -> int | None:
        """Which key, counted from 0, made a signature: access keys, then ``upstream_keys``. None if none did."""
        try:
            return self._proofs.key_index(signature, connection_id)
        except SignatureError:
            return None

    def require_keys(self) -> None:
        """Raise NoKeysError, which says why, if no upstream call can be verified."""
        self._proofs.require_keys()

    # --- keys that change ------------------------------------------------------------------------------------

    async def after_refusal(self, used: Endpoint, *, timeout: float | None = None) -> Endpoint | None:
        """The service has refused our token: ask again, and give the endpoint as it is now if its key is another.

        Args:
            timeout: seconds to wait for what is asked; what it says later counts from then on.
        """
        if self._ask is None:
            return None
        if self._asking.done() and self._clock() >= self._asked + ASK_AT_MOST_EVERY:
            self._start_asking()
        await self.answered(timeout=timeout)
        return next((e for e in self.all if e.url == used.url and e.keys[:1] != used.keys[:1]), None)

    async def answered(self, *, timeout: float | None = None) -> None:
        """Wait until the function that gives connection strings, if it is being asked, has answered."""
        await asyncio.wait([asyncio.wrap_future(self._asking)], timeout=timeout)

    def _ask_if_due(self) -> None:
        if self._ask is not None and self._clock() >= self._asked + ASK_EVERY and self._asking.done():
            self._start_asking()

    def _start_asking(self) -> None:
        self._asked = self._clock()
        self._asking = Future()
        # Not a thread of the loop's: programs may have many loops, one after the other.
        threading.Thread(target=self._ask_again, name="connection string", daemon=True).start()

    def _ask_again(self) -> None:
        try:
            self._take_answer()
        finally:
            self._asking.set_result(None)

    def _take_answer(self) -> None:
        assert self._ask is not None  # noqa: S101 - who starts asking has looked
        try:
            found = tuple(self._ask())
        except Exception as error:
            # Its own text might hold what it read.
            _log.error(
                "the connection string could not be read again (%s): the last one counts",
                type(error).__name__,
            )
            return
        if not any(endpoint.keys or endpoint.credential for endpoint in found):
            _log.error("the connection string has no usable key any more: the last one counts")
        elif found != self.all:
            self._proofs = _Proofs(found, self._upstream_keys)
            _log.info("the connection string has changed: %r", self)


class _Proofs:
    """One state of the configuration: endpoints, and what each can be recognised by."""

    def __init__(self, endpoints: Sequence[Endpoint], upstream_keys: Sequence[str]) -> None:
        self.endpoints = tuple(endpoints)
        self.proofless = [e for e in self.endpoints if not e.keys and e.credential is None]
        self.access_keys = tuple(dict.fromkeys(key for e in self.endpoints for key in e.keys))
        # A key that two endpoints share proves neither, nor does one that verifies only.
        owners: dict[str, Endpoint | None] = {}
        for endpoint in self.endpoints:
            for key in endpoint.keys:
                owners[key] = None if key in owners else endpoint
        alone = self.endpoints[0] if len(self.endpoints) == 1 else None
        for key in upstream_keys:
            if not counts_as_none(key) and (key != EMULATOR_KEY or self._are_loopback()):
                owners.setdefault(key, alone)
        self._owners = tuple(owners.values())
        self.is_keyless = not owners and not self.proofless and not upstream_keys
        # A connection's signature never changes: it is worked out once and then recognised. What is refused is
        # not remembered, and a look-up by hash tells nobody how much of a guess was right.
        self.key_index = lru_cache(MAX_PROVEN)(SignatureVerifier(tuple(owners)).verify)

    def _are_loopback(self) -> bool:
        """Whether every endpoint is on this machine: elsewhere the emulator's key is anybody's."""
        return bool(self.endpoints) and all(
            is_loopback(urlsplit(e.url).hostname or "") for e in self.endpoints
        )

    def verify(self, signature: bytes, connection_id: bytes) -> Endpoint | None:
        self.require_keys()
        return self._owners[self.key_index(signature, connection_id)]

    def require_keys(self) -> None:
        if not self._owners:
            raise NoKeysError(unusable_keys_reason(self.endpoints))
