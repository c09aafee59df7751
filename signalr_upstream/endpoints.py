"""Which SignalR service: the configured endpoints, whose key an upstream call was signed with, and how keys change.

A connection string may be given as a function. It is asked again from time to time, so that keys can be rotated
while the program runs; what it said last counts until it says something else, and that for each endpoint. Before it has
said anything, nothing is served and nothing is sent.
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
from .errors import ConfigurationError, ConnectionStringError, NoKeysError, SignatureError

MAX_PROVEN: Final = 4096
"""Connections whose signature is recognised: about 2 MiB, and the busy ones stay."""

ASK_EVERY: Final = 60.0
"""Seconds after which a function that gives connection strings is asked again."""

ASK_AT_MOST_EVERY: Final = 1.0
"""Seconds between two times of asking, however often the service refuses our token, or there is no answer yet."""

Setting = str | Sequence[str] | None
Source = Callable[[], str | Sequence[str]]
"""Gives connection strings: reads a mounted file, say. It runs in a thread but for the first time."""

_log = logging.getLogger("signalr_upstream")


class Endpoints:
    """The endpoints of one app or client, as they are now.

    Args:
        endpoints: what ``load_endpoints`` gave.
        name: of the setting they come from, for error texts.
        upstream_keys: further keys that verify upstream calls and sign nothing.
        ask: gives the endpoints anew, or raises ConnectionStringError; None where they never change.
        clock: seconds of a steady clock.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        name: str = DEFAULT_SETTING,
        upstream_keys: Sequence[str] = (),
        ask: Callable[[], Sequence[Endpoint]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._upstream_keys = tuple(upstream_keys)
        self._ask = ask
        self._clock = clock
        self._asked = clock()
        self._asking: Future[None] = Future()
        self._asking.set_result(None)
        self._proofs = _Proofs(endpoints, self._upstream_keys, name=name)

    @classmethod
    def load(
        cls,
        setting: Setting | Source = None,
        *,
        environ: Mapping[str, str],
        name: str = DEFAULT_SETTING,
        upstream_keys: Sequence[str] = (),
        credential: object | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Take the setting, or what it gives when it is called, or else the environment.

        A function that gives nothing usable yet is asked again when the endpoints are needed: until then that raises.

        Args:
            credential: proves who we are to endpoints that have no access key (``get_token(scope)``).

        Raises:
            ConnectionStringError: a connection string that cannot be used.
        """
        if not callable(setting):
            found = load_endpoints(setting, environ=environ, name=name, credential=credential)
            return cls(found, name=name, upstream_keys=upstream_keys, clock=clock)
        ask = _Function(setting, credential)
        endpoints = cls((), name=name, upstream_keys=upstream_keys, ask=ask, clock=clock)
        endpoints._take_answer()
        return endpoints

    def __repr__(self) -> str:
        return f"Endpoints({', '.join(endpoint.url for endpoint in self._proofs.endpoints)})"

    # --- what there is ---------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[Endpoint, ...]:
        """The endpoints, in the order of the configuration.

        Raises:
            ConnectionStringError: the function that gives them has given none yet.
        """
        proofs = self._proofs
        if proofs.problem:
            self._ask_if_due()
            raise proofs.refusal(())
        return proofs.endpoints

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
    def upstream_keys(self) -> tuple[str, ...]:
        """What upstream calls can be signed with: access keys, then ``upstream_keys``; those that count as none left
        out."""
        return self._proofs.upstream_keys

    @property
    def for_sending(self) -> tuple[Endpoint, ...]:
        """The endpoints that REST calls can go to.

        Raises:
            NoKeysError: one can be proven nothing, or there is none at all.
            ConnectionStringError: see ``all``.
        """
        self._ask_if_due()
        proofs = self._proofs
        if proofs.proofless or not proofs.endpoints:
            raise proofs.refusal(proofs.proofless)
        return proofs.endpoints

    def verify(self, signature: bytes, connection_id: bytes) -> Endpoint | None:
        """Check the signature of an upstream call.

        Returns:
            The endpoint whose key matched; None where that key does not belong to one endpoint alone.

        Raises:
            NoKeysError: there is nothing to check it with.
            ConnectionStringError: see ``all``.
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
        """Check that upstream calls can be verified.

        Raises:
            NoKeysError: there is no key; the text says why.
            ConnectionStringError: see ``all``.
        """
        self._ask_if_due()
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
        due = self._asked + self._proofs.ask_every
        if self._ask is not None and self._clock() >= due and self._asking.done():
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
        last = self._proofs
        try:
            found = tuple(self._ask())
        except ConnectionStringError as error:
            if last.endpoints:
                _log.error("the connection string could not be read again (%s): the last one counts", error)
            else:
                self._proofs = _Proofs((), (), name=self._name, problem=str(error))
            return
        if last.endpoints:
            found = self._with_last_keys(found)
        if found and found != last.endpoints:
            self._proofs = _Proofs(found, self._upstream_keys, name=self._name)
            if last.endpoints or last.problem:
                _log.info("the connection string has changed: %r", self)

    def _with_last_keys(self, found: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """What is found, but where an endpoint has no usable key any more, the endpoint as it was; a new one waits."""
        last = {endpoint.url: endpoint for endpoint in self._proofs.endpoints}
        kept: list[Endpoint | None] = []
        for endpoint in found:
            if _is_proofless(endpoint):
                _log.error("the connection string has no usable key of %s: the last one counts", endpoint.url)
                kept.append(last.get(endpoint.url))
            else:
                kept.append(endpoint)
        return tuple(endpoint for endpoint in kept if endpoint is not None)


class _Function:
    """A function that gives connection strings, and what they say."""

    def __init__(self, source: Source, credential: object | None) -> None:
        self._source = source
        self._credential = credential
        self._blank: int | None = None  # how many texts of the last answer

    def __call__(self) -> tuple[Endpoint, ...]:
        """Ask it.

        Raises:
            ConnectionStringError: it fails, it gives nothing, or what it gives cannot be used.
        """
        whose = "the function that gives the connection string"
        try:
            answer = self._source()
            texts = [answer] if isinstance(answer, str) else list(answer or ())
            blank = sum(not text.strip() for text in texts)
        except Exception as error:
            # Its own text might hold what it read.
            raise ConnectionStringError(f"{whose} failed: {type(error).__name__}") from None
        if blank == len(texts):
            raise ConnectionStringError(f"{whose} gives none")
        # A file that is being written is empty for a moment.
        if self._blank is not None and blank > self._blank:
            raise ConnectionStringError(f"{whose} gives an empty one")
        found = load_endpoints(texts, environ={}, credential=self._credential)
        self._blank = blank
        return found


class _Proofs:
    """One state of the configuration: endpoints, and what each can be recognised by.

    Args:
        name: of the setting.
        problem: why there are no endpoints, where that is not because none are configured.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], upstream_keys: Sequence[str], *, name: str, problem: str = ""
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.problem = problem
        self.ask_every = ASK_AT_MOST_EVERY if problem else ASK_EVERY
        self._name = name
        self.proofless = [e for e in self.endpoints if _is_proofless(e)]
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
        self.upstream_keys = tuple(owners)
        self._owners = tuple(owners.values())
        self.is_keyless = not (owners or self.proofless or upstream_keys or problem)
        # A connection's signature never changes: it is worked out once and then recognised. What is refused is
        # not remembered, and a look-up by hash tells nobody how much of a guess was right.
        self.key_index = lru_cache(MAX_PROVEN)(SignatureVerifier(self.upstream_keys).verify)

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
            raise self.refusal(self.endpoints)

    def refusal(self, keyless: Sequence[Endpoint]) -> ConfigurationError:
        """Why nothing can be verified or sent, for the want of these endpoints' keys."""
        if self.problem:
            return ConnectionStringError(self.problem)
        return NoKeysError(unusable_keys_reason(keyless, name=self._name))


def _is_proofless(endpoint: Endpoint) -> bool:
    return not endpoint.keys and endpoint.credential is None
