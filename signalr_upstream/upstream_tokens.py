"""Prove who is calling by an Entra ID token: the bearer token of an upstream call, and the signature beside it.

A token is checked with the keys of the configured issuer and nothing that the token names itself: of its header only
``kid`` is read, and only as a name among those keys. A token that was found good is recognised until it ends.

Spec: https://learn.microsoft.com/azure/azure-signalr/howto-use-managed-identity,
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from .auth import read_key_id
from .connection_string import Endpoint
from .endpoints import Endpoints
from .entra import EntraUpstream
from .errors import ConfigurationError, KeysNotFetchedError, MissingExtraError, SignatureError, TokenError
from .published_keys import PublishedKeys
from .telemetry import Observer
from .transports.transport import Transport

if TYPE_CHECKING:
    import httpx
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt import PyJWS

HEADERS: Final = (b"authorization", b"authentication")
"""Where the token is: Microsoft's documentation names both."""

MAX_TOKEN_LENGTH: Final = 8192
"""Bytes. One of a managed identity has less than 2,000."""

MAX_CACHED: Final = 1024
"""Tokens that are recognised. A service shows the same one for hours."""

LEEWAY: Final = 60.0
"""Seconds by which our clock and the issuer's may differ."""

_ALGORITHM = "RS256"  # the only one that Entra signs with; a token does not choose

Lines = Sequence[tuple[bytes, bytes]]
"""Headers as they came, names in lower case."""


class _Proven(Struct, frozen=True):
    """A token that was found good: by whom it may be used, with which key, and until when."""

    trusted: EntraUpstream
    key_id: str
    key: Any
    ends: float


class _Claims(Struct):
    iss: str
    exp: float
    aud: str | list[str]
    nbf: float = 0
    oid: Any = None
    appid: Any = None
    azp: Any = None
    scp: Any = None


class UpstreamTokens:
    """Checks the tokens of upstream calls.

    Args:
        trusted: whose tokens count; those of one tenant share its keys.
        transport: fetches the issuers' keys; it is closed with this.
        clock: Unix seconds, for the tokens' times.
        keys_clock: seconds of a steady clock, for the age of the keys.
        telemetry: who is told that keys have been fetched.

    Attributes:
        endpoints: URLs of those that somebody who is trusted belongs to.
        name_every_endpoint: whether each of those who are trusted belongs to one endpoint.

    Raises:
        ConfigurationError: what checking needs is not installed.
    """

    def __init__(
        self,
        trusted: Sequence[EntraUpstream],
        transport: Transport,
        *,
        clock: Callable[[], float] = time.time,
        keys_clock: Callable[[], float] = time.monotonic,
        telemetry: Sequence[Observer] = (),
    ) -> None:
        from jwt.algorithms import has_crypto  # noqa: PLC0415 - slow, and few apps check tokens

        if not has_crypto:
            raise MissingExtraError("entra=", "PyJWT[crypto]", extra="identity")
        self._trusted = tuple(trusted)
        self.endpoints = frozenset(one.endpoint for one in trusted if one.endpoint is not None)
        self.name_every_endpoint = all(one.endpoint is not None for one in trusted)
        self._clock = clock
        self._sources = {
            url: PublishedKeys(url, transport, clock=keys_clock, telemetry=telemetry)
            for url in dict.fromkeys(one.keys_url for one in trusted)
        }
        self._proven: dict[bytes, _Proven] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"UpstreamTokens(<{len(self._proven)} tokens redacted>)"

    @property
    def sources(self) -> Sequence[PublishedKeys]:
        """The keys of each issuer."""
        return tuple(self._sources.values())

    async def start(self) -> None:
        """Fetch the keys, so that the first call finds them; at most ``published_keys.TIMEOUT`` seconds."""
        for source in self.sources:
            source.start_fetching()
        await asyncio.gather(*[source.fetched() for source in self.sources])

    async def aclose(self) -> None:
        """Stop fetching keys."""
        for source in self.sources:
            await source.aclose()

    def check(self, token: bytes) -> EntraUpstream:
        """Check one token.

        Returns:
            Who is trusted with it.

        Raises:
            TokenError: it proves nothing; the text says why and holds nothing of it.
            KeysNotFetchedError: there is no key yet to check it with.
        """
        now = self._clock()
        proven = self._proven.get(token)
        if proven is not None:
            # The keys are asked each time: one that is withdrawn ends the tokens it has signed.
            if now < proven.ends and self._key(proven.trusted, proven.key_id) is proven.key:
                return proven.trusted
            self._proven.pop(token, None)
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenError(f"the Entra ID token is longer than {MAX_TOKEN_LENGTH} bytes")
        proven = self._prove(token, now)
        with self._lock:
            while len(self._proven) >= MAX_CACHED:
                self._proven.pop(next(iter(self._proven)), None)
            self._proven[token] = proven
        return proven.trusted

    def _prove(self, token: bytes, now: float) -> _Proven:
        key_id = read_key_id(token.decode("latin-1"))
        if not isinstance(key_id, str):
            raise TokenError("the Entra ID token is no token, or names no key")
        keys = {one.keys_url: self._key(one, key_id) for one in self._trusted}
        key = next((key for key in keys.values() if key is not None), None)
        if key is None:
            raise TokenError("the Entra ID token is signed with a key that its issuer does not publish")
        claims = _signed_claims(token, key)
        _check_lifetime(claims, now)
        # Those whose key it is, for one tenant's keys say nothing about another.
        trusted = [one for one in self._trusted if keys[one.keys_url] is key]
        return _Proven(_trusted_with(claims, trusted), key_id, key, claims.exp + LEEWAY)

    def _key(self, trusted: EntraUpstream, key_id: str) -> "RSAPublicKey | None":
        try:
            return self._sources[trusted.keys_url].find(key_id)
        except LookupError as error:
            raise KeysNotFetchedError(f"{error}; try again") from None


def tokens_of(
    entra: EntraUpstream | Sequence[EntraUpstream] | None,
    http_client: "httpx.AsyncClient | None",
    telemetry: Sequence[Observer] = (),
) -> UpstreamTokens | None:
    """What checks the tokens that an app asks for; None if it asks for none.

    Args:
        http_client: fetches the issuers' keys; None: directly.

    Raises:
        ConfigurationError: an empty list, or what checking needs is not installed.
    """
    if entra is None:
        return None
    if not (trusted := [entra] if isinstance(entra, EntraUpstream) else list(entra)):
        raise ConfigurationError("entra is empty: leave it out, or say whose tokens calls have to bring")
    from .transports.default_transport import transport_over  # noqa: PLC0415 - importing an app needs none of it

    return UpstreamTokens(trusted, transport_over(http_client), telemetry=telemetry)


class UpstreamProof:
    """Both proofs of an upstream call: its signature where there are keys, and its token.

    Args:
        endpoints: whose keys sign.
        tokens: checks the tokens.
        others: the endpoints of the app's other hubs, which may be those that a token belongs to.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        tokens: UpstreamTokens,
        others: Callable[[], Iterable[Endpoint]] = tuple,
    ) -> None:
        self._endpoints = endpoints
        self._tokens = tokens
        self._others = others

    def require(self) -> None:
        """Check that each call can be asked for all of its proofs.

        Raises:
            NoKeysError: a key was meant to be there and is not: the token alone would be less than was asked.
            ConfigurationError: an ``EntraUpstream`` names an endpoint that the app does not have.
        """
        if not self._endpoints.is_keyless:
            self._endpoints.require_keys()
        self._require_named_endpoints()

    def _require_named_endpoints(self) -> None:
        # One that is misspelled, or is called otherwise by now, would leave its calls with the signature alone.
        missing = self._tokens.endpoints - {endpoint.url for endpoint in self._endpoints.all}
        if missing:
            missing -= {endpoint.url for endpoint in self._others()}
        if missing:
            raise ConfigurationError(
                f"EntraUpstream(endpoint=) is no endpoint of this app: {', '.join(sorted(missing))}. "
                "Give the Endpoint= of the connection string."
            )

    def verify(self, signature: bytes, connection_id: bytes, lines: Lines) -> Endpoint | None:
        """Check one call.

        Returns:
            The endpoint that is proven to call; None where the proof does not belong to one alone.

        Raises:
            SignatureError, TokenError: one of the proofs it needs is missing or wrong.
            NoKeysError: a key is configured that is none.
            ConfigurationError: a token is asked of an endpoint that the app does not have.
            KeysNotFetchedError: the token cannot be checked yet.
        """
        if self._endpoints.is_keyless:
            trusted = self._tokens.check(_bearer_token(lines))
            return self._endpoints.at(trusted.endpoint) if trusted.endpoint else self._endpoints.only
        signer: Endpoint | None = None
        refusal: SignatureError | None = None
        try:
            # First, since it costs a tenth of the other.
            signer = self._endpoints.verify(signature, connection_id)
        except SignatureError as error:
            if not any(not endpoint.keys for endpoint in self._endpoints.all):
                raise
            refusal = error
        if signer and self._tokens.name_every_endpoint and signer.url not in self._tokens.endpoints:
            self._require_named_endpoints()
            return signer
        trusted = self._tokens.check(_bearer_token(lines))
        if trusted.endpoint is None:
            caller = signer
            needs_signature = True
        else:
            caller = self._endpoints.at(trusted.endpoint)
            needs_signature = bool(caller.keys)
        if needs_signature and refusal is not None:
            raise refusal
        if signer is not None and caller is not None and signer.url != caller.url:
            raise SignatureError("the signature is of one endpoint, and the token of another")
        return caller


def _bearer_token(lines: Lines) -> bytes:
    tokens = set()
    for name, value in lines:
        if name in HEADERS:
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                tokens.add(token.strip())
    if len(tokens) > 1:
        raise TokenError("the call brings two different tokens")
    if not tokens:
        raise TokenError("the Entra ID token is missing: does the upstream setting use a managed identity?")
    return tokens.pop()


@functools.cache
def _jws() -> "PyJWS":
    from jwt import PyJWS  # noqa: PLC0415 - see UpstreamTokens

    return PyJWS(algorithms=[_ALGORITHM])


def _signed_claims(token: bytes, key: "RSAPublicKey") -> _Claims:
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - see UpstreamTokens

    try:
        return msgspec.json.decode(_jws().decode(token, key, algorithms=[_ALGORITHM]), type=_Claims)
    # `from None`: the causes hold pieces of the token.
    except (PyJWTError, msgspec.MsgspecError, ValueError, RecursionError):
        raise TokenError(
            "the Entra ID token is not signed with RS256 by its issuer, or is no token"
        ) from None


def _check_lifetime(claims: _Claims, now: float) -> None:
    if not now < claims.exp + LEEWAY:
        raise TokenError("the Entra ID token has expired")
    if not now >= claims.nbf - LEEWAY:
        raise TokenError("the Entra ID token is not valid yet")


def _trusted_with(claims: _Claims, trusted: Sequence[EntraUpstream]) -> EntraUpstream:
    trusted = [one for one in trusted if claims.iss in one.issuers]
    if not trusted:
        raise TokenError("the Entra ID token is of another issuer")
    audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
    trusted = [one for one in trusted if one.audience in audiences]
    if not trusted:
        raise TokenError("the Entra ID token is for another audience")
    # A token with scopes is a person's, whom some program acts for.
    trusted = [
        one for one in trusted if claims.scp is None and one.allows(claims.oid, claims.appid, claims.azp)
    ]
    if not trusted:
        raise TokenError("the Entra ID token is of an identity that may not call")
    return trusted[0]
