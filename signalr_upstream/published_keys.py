"""The keys that an issuer of tokens publishes (a JWKS), kept fresh beside the calls that need them.

No call waits for them and no token decides where they come from. They are fetched at most once a minute, whether that
works or not, so a flood of tokens that name unknown keys costs the issuer nothing, and us next to nothing.

Spec: https://learn.microsoft.com/entra/identity-platform/signing-key-rollover, RFC 7517
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from .errors import SignalRError
from .telemetry import Observer, tell
from .transports.transport import Transport

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FETCH_AT_MOST_EVERY: Final = 60.0
"""Seconds between two attempts."""

FETCH_EVERY: Final = 3600.0
"""Seconds after which keys are fetched anew though nobody misses one. Microsoft asks for a day at most."""

KEEP: Final = 24 * 3600.0
"""Seconds for which the last keys count while none can be fetched."""

TIMEOUT: Final = 10.0
"""Seconds for one attempt."""

MIN_KEY_BITS: Final = 2048
"""RFC 7518, 3.3: a shorter key must not be used with RS256."""

_log = logging.getLogger("signalr_upstream")


class PublishedKeys:
    """The RSA keys of one issuer by their ids. Safe to ask from several threads.

    Args:
        url: where they are published; from the configuration.
        transport: carries the request.
        clock: seconds of a steady clock.
        fetch_every: seconds.
        telemetry: who is told that keys have been fetched.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        clock: Callable[[], float] = time.monotonic,
        fetch_every: float = FETCH_EVERY,
        telemetry: Sequence[Observer] = (),
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._base, self._target = f"{parts.scheme}://{parts.netloc}", parts.path
        self._transport = transport
        self._clock = clock
        self._fetch_every = fetch_every
        self._telemetry = telemetry
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<PublishedKeys of {self._url}: {len(self._keys)}>"

    @property
    def age(self) -> float | None:
        """Seconds since the keys were fetched; None if they never were."""
        return None if self._fetched is None else self._clock() - self._fetched

    def find(self, key_id: str) -> "RSAPublicKey | None":
        """The key with this id, at once; an unknown one is looked for in the background. Needs a running loop.

        Raises:
            LookupError: there are no keys, or they are too old to count.
        """
        age = self.age
        if age is None or age > KEEP:
            self.start_fetching()
            raise LookupError("the issuer's keys could not be fetched yet")
        key = self._keys.get(key_id)
        if key is None:
            self.start_fetching()
        return key

    def start_fetching(self) -> None:
        """Fetch in the background, unless that is going on or was tried within the last minute."""
        if self._fetching is not None and not self._fetching.done():
            return
        now = self._clock()
        if self._tried is not None and now < self._tried + FETCH_AT_MOST_EVERY:
            return
        self._tried = now
        self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def fetched(self) -> None:
        """Wait until the attempt that is under way has ended, if one is."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    async def aclose(self) -> None:
        """Stop fetching. It begins again with the next call."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fetching is not None:
            self._fetching.cancel()
            await self.fetched()
        self._tried = None
        await self._transport.aclose()

    async def _fetch(self) -> None:
        try:
            answer = await self._transport.request(
                "GET",
                self._base,
                self._target,
                [("Accept", "application/json")],
                b"",
                timeout=TIMEOUT,
            )
            keys = _read(answer.body) if answer.status == 200 else {}
            if not keys:
                raise LookupError(f"the answer, with status {answer.status}, holds no RSA key")
        except Exception as error:  # whatever it is, the last keys count
            said = str(error) if isinstance(error, SignalRError | LookupError) else type(error).__name__
            _log.warning("the keys at %s could not be fetched, the last ones count: %s", self._url, said)
            again = FETCH_AT_MOST_EVERY
        else:
            self._keys, self._fetched = keys, self._clock()
            again = self._fetch_every
            tell(self._telemetry, lambda observer: observer.fetched("jwks", self._url))
        # Not with the next call: after a quiet weekend the keys have to be good for the first one.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(again, self.start_fetching)


def _read(document: bytes) -> "dict[str, RSAPublicKey]":
    """The usable keys of a JWKS. Others are left out: an issuer may publish keys for other uses."""
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 - slow, and needs the extra "identity"
    from jwt.exceptions import InvalidKeyError  # noqa: PLC0415

    found: dict[str, Any] = {}
    for described in msgspec.json.decode(document, type=_Document).keys:
        key_id, is_ours = described.get("kid"), described.get("use", "sig") == "sig"
        if not isinstance(key_id, str) or not is_ours or described.get("alg", "RS256") != "RS256":
            continue
        try:
            key = RSAAlgorithm.from_jwk(
                {"kty": described.get("kty"), "n": described.get("n"), "e": described.get("e")}
            )
        except (InvalidKeyError, ValueError, TypeError, AttributeError):
            continue
        if key.key_size >= MIN_KEY_BITS:
            found[key_id] = key
    return found


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]
