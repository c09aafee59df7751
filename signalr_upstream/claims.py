"""The sealed identity: what negotiate says about a user, and how it comes back unforged.

The service hands the claims of a token upstream as ``type: value`` joined with ``", "``, unescaped: one claim
valued ``Doe, role: admin`` and two real claims are the same bytes. So negotiate adds one more claim, ``su``,
that packs the user id and all claims and is signed; only what verifies is believed.

The app decides who somebody is; this module makes the token and opens the seal. No clock, no network.
"""

import hmac
import math
import re
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from threading import Lock
from typing import Any, Self
from urllib.parse import quote

import msgspec

from .auth import base64url, encode_token
from .connection_string import Endpoint, counts_as_none, unusable_keys_reason
from .errors import IdentityError, NoKeysError
from .protocol.handshake import encode_redirection
from .protocol.rest import check_name, no_text

#: The claim that carries the seal.
SEAL_CLAIM = "su"
#: What the seal's key is derived from the access key with. No connection id can have a NUL, so no upstream
#: signature (an HMAC of the connection id with the same access key) can ever be this derived key.
SEAL_LABEL = b"signalr-upstream\0sealed identity\0v1"

#: Characters in a client token: the service refuses longer ones, and browsers send it in a URL.
MAX_TOKEN_LENGTH = 4096
#: Seconds of a token's life: what 32 bits hold, so that no reader of ``exp`` overflows.
MAX_LIFETIME = 2**31 - 1
#: Unix seconds of the year 9999, the last that .NET knows.
MAX_TIME = 253402300799
#: Opened seals that are remembered: one a connected user is enough.
MAX_CACHED_SEALS = 1024
#: Different seals in one header that are looked at; an honest header has one.
MAX_CANDIDATES = 16

# The service keeps these for itself, so it wants them as asrs.u.<name> (Microsoft's SDK does the same).
_SYSTEM_CLAIMS = frozenset(
    ("aud", "exp", "iat", "nbf", "iss", "actort", "acr", "azp", "c_hash", "jti", "nonce"),
)
# The service takes the user id from these where there is no asrs.s.uid.
_USER_ID_CLAIMS = frozenset(
    ("sub", "nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"),
)
# No header can carry these; half of a surrogate pair has no UTF-8 at all.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CANDIDATE = re.compile(r"(?:^|,)[ \t]*su:[ \t]*([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)[ \t]*(?=,|\Z)")
_RAW_NAME = re.compile(r"(?:^|, )([^\s,]+): ")

#: What a seal packs: the JSON ``[user id or null, {name: [value, ...]}]``.
_Sealed = tuple[str | None, dict[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Who a client is, as your negotiate handler decided it.

    Args:
        user_id: the user; not empty. A client without a user is `Identity.anonymous`.
        claims: one value or several a name. They come back as ``ctx.claims``. Claims give rights: do not use
            one to take rights away, since a client can make its own claims be ignored.
        lifetime: seconds for which the token can be used to connect; an open connection outlives it.
        expires_at: Unix seconds at which the login behind it ends: the token ends with it, if not before.
        close_on_expiration: the service closes the connection at ``expires_at``, or where there is none, when the
            token ends.
        detailed_errors: the service tells the client more about its errors.
        diagnostic: the service traces the messages of this client.

    Raises:
        IdentityError: no token can be made for it. The text names the claim and never shows a value.
    """

    user_id: str | None
    _: KW_ONLY
    claims: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    lifetime: float = 3600.0
    expires_at: float | None = None
    close_on_expiration: bool = False
    detailed_errors: bool = False
    diagnostic: bool = False

    def __post_init__(self) -> None:
        given: object = self.user_id
        if given is None or given == "":
            raise IdentityError("the user id is empty: a client without a user is Identity.anonymous()")
        if not isinstance(given, str):
            raise IdentityError(f"the user id {no_text(given)}")
        if _CONTROL.search(given):
            raise IdentityError("the user id has control characters")
        if not 0 < self.lifetime <= MAX_LIFETIME:  # so NaN is refused too
            raise IdentityError(f"the lifetime is not between 0 and {MAX_LIFETIME} seconds")
        if self.expires_at is not None and not 0 < self.expires_at <= MAX_TIME:
            raise IdentityError("expires_at is no time in Unix seconds")
        object.__setattr__(self, "claims", _check_claims(self.claims))

    @classmethod
    def anonymous(
        cls,
        *,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        lifetime: float = 3600.0,
        expires_at: float | None = None,
        close_on_expiration: bool = False,
        detailed_errors: bool = False,
        diagnostic: bool = False,
    ) -> Self:
        """A client without a user."""
        identity = cls(
            "anonymous",
            claims=claims or {},
            lifetime=lifetime,
            expires_at=expires_at,
            close_on_expiration=close_on_expiration,
            detailed_errors=detailed_errors,
            diagnostic=diagnostic,
        )
        for name in identity.claims:
            if name in _USER_ID_CLAIMS:
                raise IdentityError(f"the service would take the claim {name!r} as the user id")
        object.__setattr__(identity, "user_id", None)
        return identity

    def __repr__(self) -> str:
        user = "None" if self.user_id is None else "<redacted>"
        return f"Identity(user_id={user}, claims=<{', '.join(self.claims)}>, lifetime={self.lifetime})"


class ClientAccess(msgspec.Struct, frozen=True):
    """Where a client connects and the token it shows there."""

    url: str
    access_token: str

    def encode(self) -> bytes:
        """The answer of negotiate, exactly ``{"url":...,"accessToken":...}``."""
        return encode_redirection(self.url, self.access_token)

    def __repr__(self) -> str:
        return f"ClientAccess(url={self.url!r}, access_token=<redacted>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", self.url), ("access_token", "<redacted>")]


class Claims(Mapping[str, tuple[str, ...]]):
    """Claims as they were issued: every name has a tuple of values. ``"admin" in claims.get("role", ())``."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Claims(<{', '.join(self._values)}>)"


def client_access(
    identity: Identity,
    *,
    endpoint: Endpoint,
    hub: str,
    application: str = "",
    seal_key: str | None = None,
    signing_key: str | None = None,
    key_id: str | None = None,
    now: float,
) -> ClientAccess:
    """Make the URL and the token with which a client connects to the service.

    Args:
        identity: who the client is.
        endpoint: the service; its first key signs the token.
        hub: hub name; the service compares it in lower case.
        application: the service's multi-tenant prefix, joined to the hub with ``_``.
        seal_key: signs the seal instead of the endpoint's first key.
        signing_key: signs the token instead of the endpoint's first key; a temporary one has a ``key_id``.
        now: Unix time in seconds.

    Raises:
        NoKeysError: the endpoint has no key.
        InvalidNameError: a hub or application name that the service does not take.
        IdentityError: the token is over 4096 characters (names the longest claim), or the login has ended.
    """
    # A hub name may come from a client's URL, and it becomes part of the audience.
    check_name("hub", hub)
    if application:
        check_name("application", application)
    signing_key = signing_key or next(iter(endpoint.keys), None)
    if signing_key is None:
        raise NoKeysError(unusable_keys_reason([endpoint]))
    full_hub = f"{application}_{hub}".lower() if application else hub.lower()
    issued = int(now)
    expires = issued + math.ceil(identity.lifetime)
    if identity.expires_at is not None:
        expires = min(expires, int(identity.expires_at))
        if expires <= now:
            raise IdentityError("expires_at is over: the login behind this identity has ended")
    claims = _token_claims(identity, ends=identity.expires_at or expires)
    claims[SEAL_CLAIM] = seal(identity.user_id, identity.claims, seal_key or signing_key)
    claims["nbf"] = issued
    claims["exp"] = expires
    claims["iat"] = issued
    # The audience is compared as text: unescaped, from Endpoint= and without port, whatever the URL is.
    claims["aud"] = f"{endpoint.audience}/client/?hub={full_hub}"
    token = encode_token(claims, signing_key, key_id=key_id)
    if len(token) > MAX_TOKEN_LENGTH:
        raise IdentityError(
            f"the client token has {len(token)} characters, over {MAX_TOKEN_LENGTH}; {_longest(identity)}"
        )
    return ClientAccess(f"{endpoint.client_url}/client/?hub={quote(full_hub, safe='')}", token)


def seal(user_id: str | None, claims: Mapping[str, str | Sequence[str]], key: str) -> str:
    """Pack and sign a user id and claims: base64url(JSON) ``.`` base64url(HMAC-SHA256), without padding.

    Raises:
        ValueError: the key counts as none.
        IdentityError: a claim cannot be issued.
    """
    packed = base64url(msgspec.json.encode((user_id, _check_claims(claims))))
    return f"{packed.decode()}.{_seal_signature(packed, _derive(key)).decode()}"


class Unsealer:
    """Opens seals that were made with one of ``keys``; remembers those it has opened. Safe between threads.

    Args:
        keys: access keys or seal keys, or a function that gives them, since they may change; with none at all
            there are never any claims.
        trust_raw_claims: where a header has nothing like a seal, believe what it says; see ``Hub``.

    Raises:
        ValueError: a key counts as none.
    """

    def __init__(
        self, keys: Sequence[str] | Callable[[], Sequence[str]], *, trust_raw_claims: bool = False
    ) -> None:
        self._trusts_raw = trust_raw_claims
        self._ask = keys if callable(keys) else None
        self._given = () if callable(keys) else tuple(keys)
        self._keys = [_derive(key) for key in self._given]
        self._opened: OrderedDict[str, tuple[str | None, Claims]] = OrderedDict()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Unsealer(<{len(self._keys)} keys redacted>)"

    def unseal(self, claims_header: str, user_id: str | None) -> Claims:
        """Find the claims that were issued to ``user_id`` in an ``X-ASRS-User-Claims`` header.

        Args:
            claims_header: the header as it came.
            user_id: ``X-ASRS-User-Id``; None when there is no such header.

        Returns:
            The claims as issued. None at all when there is no valid seal of this user, and also when there
            are two different ones: an older seal, smuggled in through a display name, must not win.
        """
        self._follow_keys()
        candidates = set(_CANDIDATE.findall(claims_header))
        if not candidates and self._trusts_raw:
            return _raw_claims(claims_header)
        if len(candidates) > MAX_CANDIDATES:
            return Claims()
        opened = [found for text in candidates if (found := self._open(text)) and found[0] == user_id]
        return opened[0][1] if len(opened) == 1 else Claims()

    def _follow_keys(self) -> None:
        if self._ask is None or (keys := tuple(self._ask())) == self._given:
            return
        with self._lock:
            self._given = keys
            self._keys = [_derive(key) for key in keys]
            self._opened.clear()  # what a key has sealed that is none any more is worth nothing

    def _open(self, text: str) -> tuple[str | None, Claims] | None:
        with self._lock:
            if text in self._opened:
                self._opened.move_to_end(text)
                return self._opened[text]
        packed, _, signature = text.encode().partition(b".")
        # Constant time: the header comes from the network.
        if not any(hmac.compare_digest(_seal_signature(packed, key), signature) for key in self._keys):
            return None
        try:
            user_id, claims = msgspec.json.decode(
                urlsafe_b64decode(packed + b"=" * (-len(packed) % 4)), type=_Sealed
            )
        except (msgspec.MsgspecError, ValueError, RecursionError):  # signed, but by another version of us
            return None
        opened = (user_id, Claims(claims))
        with self._lock:
            self._opened[text] = opened
            if len(self._opened) > MAX_CACHED_SEALS:
                self._opened.popitem(last=False)
        return opened


def _raw_claims(claims_header: str) -> Claims:
    """Read the service's list: a value goes on to the next ``, name: `` or to the end, so it may hold commas."""
    found: dict[str, list[str]] = {}
    _, *parts = _RAW_NAME.split(claims_header)
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        found.setdefault(name, []).append(value)
    return Claims({name: tuple(values) for name, values in found.items()})


def _derive(key: str) -> bytes:
    if counts_as_none(key):
        raise ValueError("a seal key is empty, a placeholder, or shorter than 32 bytes")
    return hmac.digest(key.encode(), SEAL_LABEL, "sha256")


def _seal_signature(packed: bytes, derived_key: bytes) -> bytes:
    return base64url(hmac.digest(derived_key, packed, "sha256"))


def _check_claims(claims: Mapping[Any, Any]) -> dict[str, tuple[str, ...]]:
    """Return every claim with its values, or refuse: names the claim, never shows a value."""
    checked = {}
    for name, given in claims.items():
        if not isinstance(name, str) or not name.strip() or _CONTROL.search(name):
            raise IdentityError(f"{name!r} is no name for a claim")
        if name.lower().startswith("asrs.") or name.lower() == SEAL_CLAIM:
            raise IdentityError(f"the claim {name!r} is reserved")
        values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        for value in values:
            if not isinstance(value, str):
                kind = type(value).__name__
                raise IdentityError(f"the claim {name!r} is neither text nor a sequence of texts: got {kind}")
            if _CONTROL.search(value):
                raise IdentityError(f"the claim {name!r} has control characters")
        checked[name] = values
    return checked


def _token_claims(identity: Identity, *, ends: float) -> dict[str, Any]:
    """Name the claims as the service wants them, in the order of Microsoft's SDK and with its spellings."""
    named: dict[str, list[str]] = {}
    if identity.user_id is not None:
        named["asrs.s.uid"] = [identity.user_id]
    if identity.diagnostic:
        named["asrs.s.dc"] = ["true"]
    if identity.detailed_errors:
        named["asrs.s.derror"] = ["True"]
    if identity.close_on_expiration:
        named["asrs.s.coae"] = ["true"]
        named["asrs.s.aeo"] = [str(int(ends))]
    for name, values in _check_claims(identity.claims).items():
        for value in values:
            # Only one sub is legal in a token; the service knows the others under this name.
            reserved = name in _SYSTEM_CLAIMS or (name == "sub" and name in named)
            named.setdefault(f"asrs.u.{name}" if reserved else name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in named.items()}


def _longest(identity: Identity) -> str:
    sizes = {name: sum(map(len, values)) for name, values in _check_claims(identity.claims).items()}
    if not sizes:
        return "the user id is too long"
    name = max(sizes, key=sizes.__getitem__)
    return f"the longest claim is {name!r} with {sizes[name]} characters"
