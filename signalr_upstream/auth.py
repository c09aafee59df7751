"""Prove who is calling: HMAC signatures of upstream calls, and the tokens of REST calls.

No network, and the clock is an argument. The app verifies signatures and signs tokens, the local service does
the reverse. The signed key is the UTF-8 text of the access key, never its base64 content.
"""

import functools
import hmac
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from .connection_string import Endpoint, counts_as_none, unusable_keys_reason
from .errors import NoKeysError, SignatureError, TokenError

if TYPE_CHECKING:
    from jwt import PyJWS

#: The service sends one signature a key, and has two keys. More than this many are not looked at.
MAX_SIGNATURES = 16

#: Seconds that a REST token is valid: what Microsoft's SDK asks for.
REST_TOKEN_LIFETIME = 3600
#: A token with fewer seconds left is made anew, so that none expires on its way.
REST_TOKEN_MARGIN = 300
#: Tokens kept: every group, user and connection has paths of its own. About 4 MiB at usual sizes.
MAX_CACHED_TOKENS = 4096
#: Characters of a path whose token is kept: clients may choose the names in it, and how long they are.
MAX_CACHED_PATH = 1024

_ALGORITHM = "HS256"
_LONG_ALGORITHM, _LONG_KEY = "HS512", 64  # the other one that Microsoft's SDK makes; bytes of a key for it


class SignatureVerifier:
    """Checks ``X-ASRS-Signature`` with keys that are prepared once.

    Args:
        keys: access keys; with none at all every call is refused.

    Raises:
        ValueError: a key counts as none (empty, a placeholder, too short).

    Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream#signature
    """

    def __init__(self, keys: Sequence[str]) -> None:
        # A copy of a keyed HMAC is cheaper than a new one: this runs in every upstream call.
        self._keyed = [hmac.new(_usable(key), digestmod="sha256") for key in keys]

    def __repr__(self) -> str:
        return f"SignatureVerifier(<{len(self._keyed)} keys redacted>)"

    def verify(self, header: bytes, connection_id: bytes) -> int:
        """Return the index of the key that made one of the comma-separated signatures in ``header``.

        Raises:
            SignatureError: no signature fits.
        """
        offered = [item.strip() for item in header.lower().split(b",", MAX_SIGNATURES)[:MAX_SIGNATURES]]
        for index, keyed in enumerate(self._keyed):
            signature = keyed.copy()
            signature.update(connection_id)
            expected = b"sha256=" + signature.hexdigest().encode()
            for item in offered:
                # Constant time: the header comes from the network.
                if hmac.compare_digest(expected, item):
                    return index
        shown = connection_id[:64].decode("utf-8", "replace")
        raise SignatureError(
            f"no valid signature for connection {shown!r}",
            reason="signature_wrong" if header else "signature_missing",
        )


def verify_signature(header: str, connection_id: str, keys: Sequence[str]) -> int:
    """Check the ``X-ASRS-Signature`` of one upstream call.

    Args:
        header: comma-separated ``sha256=<hex>`` items, one per service key; any hex case, spaces allowed.
        connection_id: value of ``X-ASRS-Connection-Id``; the signed text.
        keys: our access keys. One match is enough, so keys can be rotated.

    Returns:
        Index of the key that matched.

    Raises:
        ValueError: no keys, or one that anybody can guess (empty, a placeholder, under 32 bytes).
        SignatureError: no item matches any key.

    Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream#signature
    """
    if not keys:
        raise ValueError("verify_signature needs at least one access key")
    # surrogatepass: a text that is not Unicode is refused like any other, not with an encoding error.
    return SignatureVerifier(keys).verify(
        header.encode("utf-8", "surrogatepass"), connection_id.encode("utf-8", "surrogatepass")
    )


def sign_connection(connection_id: str, keys: Sequence[str]) -> str:
    """Make the ``X-ASRS-Signature`` that the service sends: one ``sha256=<lower-case hex>`` a key.

    Raises:
        ValueError: a key counts as none.
    """
    digests = [hmac.digest(_usable(key), connection_id.encode(), "sha256") for key in keys]
    return ",".join(f"sha256={digest.hex()}" for digest in digests)


def encode_token(claims: Mapping[str, Any], key: str, *, key_id: str | None = None) -> str:
    """Sign ``claims``, in their order, as a JWT (HS256, header ``{"alg":"HS256","typ":"JWT"}``).

    Args:
        key_id: becomes ``kid``, by which the service finds a temporary key.

    Raises:
        ValueError: the key counts as none.
    """
    # By hand: PyJWT needs four times as long, and a send to a connection that is new needs a token that is new.
    header = _HEADER if key_id is None else _part({"alg": _ALGORITHM, "kid": key_id, "typ": "JWT"})
    signed = header + b"." + _part(dict(claims))
    return (signed + b"." + base64url(hmac.digest(_usable(key), signed, "sha256"))).decode()


def base64url(data: bytes) -> bytes:
    """As tokens and seals are written: the alphabet of URLs, without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=")


def _part(value: dict[str, Any]) -> bytes:
    return base64url(msgspec.json.encode(value))


_HEADER = _part({"alg": _ALGORITHM, "typ": "JWT"})


def decode_token(
    token: str,
    keys: Sequence[str],
    *,
    now: float | None,
    audiences: tuple[str, ...] | None,
    leeway: float = 0.0,
) -> dict[str, Any]:
    """Check a bearer token and return its claims.

    Args:
        token: the JWT, without ``Bearer``.
        keys: one of them must have signed it with HS256; HS512 is taken from keys of 64 bytes or more.
        now: Unix time in seconds for ``exp`` (required then) and ``nbf``. None: the lifetime is not checked.
        audiences: one of them must be the token's ``aud``. None: the audience is not checked.
        leeway: seconds by which the clock that made the token may be wrong.

    Raises:
        TokenError: with what was expected; never with the token.
        ValueError: a key counts as none.
    """
    claims = _decode_signed(token, [_usable(key) for key in keys])
    if now is not None:
        _check_lifetime(claims, now, leeway)
    if audiences is not None:
        offered = claims.get("aud")
        if not any(
            audience in audiences for audience in (offered if isinstance(offered, list) else [offered])
        ):
            raise TokenError(f"The audience is invalid: expected {' or '.join(audiences)}")
    return claims


def read_key_id(token: str) -> object:
    """The ``kid`` of a token that has not been checked yet; None if it has none, or is no token.

    Of a text only; it says which key to check with and proves nothing.
    """
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - see _jws

    try:
        return _jws().get_unverified_header(token).get("kid")
    except (PyJWTError, ValueError, RecursionError):
        return None


class TokenCache:
    """REST tokens by endpoint and path, so that no HMAC is computed a send. Safe to share between threads."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[tuple[str, str, str], tuple[int, str]] = OrderedDict()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"TokenCache(<{len(self._tokens)} tokens redacted>)"

    def rest_token(self, endpoint: Endpoint, path: str, *, now: float) -> str:
        """Return a token for one REST path of ``endpoint``, signed with its first key.

        Args:
            endpoint: the service.
            path: path as it is sent, escaped, from its first slash; no query.
            now: Unix time in seconds.

        Raises:
            NoKeysError: the endpoint has no key.
        """
        if not endpoint.keys:
            raise NoKeysError(unusable_keys_reason([endpoint]))
        # With the key, so that a rotated key is not answered with the old one's token.
        slot = (endpoint.url, path, endpoint.keys[0])
        with self._lock:
            issued, token = self._tokens.get(slot, (0, ""))
            if token and issued <= now <= issued + REST_TOKEN_LIFETIME - REST_TOKEN_MARGIN:
                self._tokens.move_to_end(slot)
                return token
            issued = int(now)
            # No nbf, kid, iss or nameid: the service needs aud and exp; nbf would only meet a wrong clock.
            claims = {"aud": endpoint.audience + path, "iat": issued, "exp": issued + REST_TOKEN_LIFETIME}
            token = encode_token(claims, endpoint.keys[0])
            if len(path) <= MAX_CACHED_PATH:
                self._tokens[slot] = (issued, token)
                self._tokens.move_to_end(slot)
            if len(self._tokens) > MAX_CACHED_TOKENS:
                self._tokens.popitem(last=False)
            return token


def _usable(key: str) -> bytes:
    if counts_as_none(key):
        raise ValueError("an access key is empty, a placeholder, or shorter than 32 bytes")
    return key.encode()


@functools.cache
def _jws() -> "PyJWS":
    # Imported with the first token: it is a tenth of the time that importing an app takes.
    from jwt import PyJWS  # noqa: PLC0415

    return PyJWS(algorithms=[_ALGORITHM, _LONG_ALGORITHM])


def _decode_signed(token: str, keys: Sequence[bytes]) -> dict[str, Any]:
    from jwt.exceptions import InvalidAlgorithmError, InvalidSignatureError, PyJWTError  # noqa: PLC0415 - see _jws

    jws = _jws()
    for key in keys:
        # A key that is shorter than the hash makes no signature of that algorithm.
        algorithms = [_ALGORITHM, _LONG_ALGORITHM] if len(key) >= _LONG_KEY else [_ALGORITHM]
        try:
            return msgspec.json.decode(jws.decode(token, key, algorithms=algorithms), type=dict[str, Any])
        except (InvalidSignatureError, InvalidAlgorithmError):
            continue
        # RecursionError: deep nesting. `from None`: the causes hold pieces of the token.
        except (PyJWTError, msgspec.MsgspecError, ValueError, RecursionError):
            raise TokenError("The token is not an HS256 JWT") from None
    those = "key" if len(keys) == 1 else f"{len(keys)} keys"
    raise TokenError(
        f"The signature key was not found: the token is not signed with HS256 and the service's {those}"
    )


def _check_lifetime(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    expires, starts = claims.get("exp"), claims.get("nbf", 0)
    if not _is_time(expires) or not _is_time(starts):
        raise TokenError("The token has no usable expiration: exp and nbf are Unix times in seconds")
    allowed = f"; {leeway:g} seconds of clock skew are allowed" if leeway else ""
    if now >= expires + leeway:
        raise TokenError(f"The token expired {now - expires:.0f} seconds ago, at {expires}{allowed}")
    if now < starts - leeway:
        raise TokenError(f"The token is not valid before {starts}, in {starts - now:.0f} seconds{allowed}")


def _is_time(value: object) -> TypeGuard[float]:
    # 64 bits: of integers that are no floating point number, arithmetic is an error.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
