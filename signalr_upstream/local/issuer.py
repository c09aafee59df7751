"""Tokens of Microsoft Entra ID, from an issuer of our own: those that upstream calls bring where a template asks for a
managed identity, and those that an app without an access key shows to the REST API.

They are made as Microsoft Entra ID makes a managed identity's, so that an app's check of them can be tested: only the
issuer's address is another. No secret is behind them: whoever is on this machine can get an app to accept one only if
that app trusts this issuer.

Spec: https://learn.microsoft.com/azure/azure-signalr/howto-use-managed-identity,
https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

import re
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jwt

from ..auth import read_key_id
from ..errors import MissingExtraError, TokenError
from .clock import Clock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

TENANT_ID: Final = "10ca1000-0000-4000-8000-000000000001"
"""The tenant of every token: claim ``tid``."""

OBJECT_ID: Final = "10ca1000-0000-4000-8000-000000000002"
"""The service's identity: claims ``oid`` and ``sub``."""

APPLICATION_ID: Final = "10ca1000-0000-4000-8000-000000000003"
"""The identity's application: claim ``appid`` of a token of version 1.0, ``azp`` of one of 2.0."""

LIFETIME: Final = 24 * 3600
"""Seconds that a token is valid: as long as a managed identity's."""

MARGIN: Final = 300
"""Seconds before its end at which a token is no longer used, so that none ends on its way."""

REST_RESOURCE: Final = "https://signalr.azure.com"
"""What tokens for the REST API are for: claim ``aud``."""

_ALGORITHM = "RS256"
_KEY_BITS = 2048
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CONFIGURATION = re.compile(rf"(?:/{TENANT_ID})?(/v2\.0)?/\.well-known/openid-configuration")
_KEYS = re.compile(rf"(?:/{TENANT_ID})?/discovery(?:/v2\.0)?/keys")


class AccessToken(NamedTuple):
    """A token and its end in Unix seconds, as azure-identity gives them. The ``repr`` does not show the token."""

    token: str
    expires_on: int

    def __repr__(self) -> str:
        return f"AccessToken(token=<redacted>, expires_on={self.expires_on})"


class TokenIssuer:
    """Signs tokens with a key that is made when the first one is wanted and ends with the service.

    A token for an application's URI (``api://...``) is of version 1.0, one for its id, a GUID, of version 2.0, as
    Entra gives them out to an application with the default settings and to one that asks for the newer tokens.

    Args:
        base: gives the service's URL; its port may not be known before it serves.
        clock: of the tokens' times.
    """

    def __init__(self, base: Callable[[], str], clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._tokens: dict[str, AccessToken] = {}  # by resource

    def __repr__(self) -> str:
        return f"TokenIssuer(<{len(self._tokens)} tokens redacted>)"

    def issuer(self, version: str) -> str:
        """The claim ``iss`` of a version's tokens: ``<service>/<tenant>/``, and for 2.0 with ``v2.0`` behind."""
        return f"{self._base()}/{TENANT_ID}/" + ("v2.0" if version == "2.0" else "")

    def token(self, resource: str) -> AccessToken:
        """A token for ``resource``: the one from before, unless it ends soon.

        Raises:
            ConfigurationError: what signing needs is not installed.
        """
        now = int(self._clock.time())
        token = self._tokens.get(resource)
        if token is None or now >= token.expires_on - MARGIN:
            ends = now + LIFETIME
            text = jwt.encode(
                self._claims(resource, now, ends),
                self._key,
                algorithm=_ALGORITHM,
                headers={"kid": self._key_id},
            )
            token = self._tokens[resource] = AccessToken(text, ends)
        return token

    def made(self, token: str) -> bool:
        """Whether a token, which is not checked yet, names this issuer's key."""
        return bool(self._tokens) and read_key_id(token) == self._key_id

    def check(self, token: str, resource: str, *, now: float | None) -> None:
        """Check a token of this issuer.

        Args:
            now: Unix seconds; None: its lifetime is not checked.

        Raises:
            TokenError: it is forged, over, or for another resource; the text does not show it.
        """
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[_ALGORITHM],
                options={"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise TokenError("The signature of the Entra ID token is wrong") from None
        if claims["aud"] != resource:
            raise TokenError(f"The audience is invalid: expected an Entra ID token for {resource}")
        if now is not None and now >= claims["exp"]:
            raise TokenError(f"The token expired {now - claims['exp']:.0f} seconds ago, at {claims['exp']}")

    def document(self, path: str) -> dict[str, Any] | None:
        """What the issuer publishes at a path: its OpenID configuration, or its keys; None: nothing."""
        if found := _CONFIGURATION.fullmatch(path):
            version = "2.0" if found[1] else "1.0"
            keys = "/discovery/v2.0/keys" if version == "2.0" else "/discovery/keys"
            return {
                "issuer": self.issuer(version),
                "jwks_uri": f"{self._base()}/{TENANT_ID}{keys}",
                "id_token_signing_alg_values_supported": [_ALGORITHM],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["pairwise"],
            }
        return {"keys": [self._public_key]} if _KEYS.fullmatch(path) else None

    def _claims(self, resource: str, now: int, ends: int) -> dict[str, Any]:
        version = "2.0" if _GUID.fullmatch(resource) else "1.0"
        claims = {
            "aud": resource,
            "iss": self.issuer(version),
            "iat": now,
            "nbf": now,
            "exp": ends,
            "idtyp": "app",
            "oid": OBJECT_ID,
            "sub": OBJECT_ID,
            "tid": TENANT_ID,
            "ver": version,
        }
        if version == "2.0":
            return claims | {"azp": APPLICATION_ID, "azpacr": "2"}
        return claims | {"appid": APPLICATION_ID, "appidacr": "2", "idp": self.issuer(version)}

    @cached_property
    def _key(self) -> "RSAPrivateKey":
        try:
            from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - needs the extra "local"
        except ModuleNotFoundError as error:
            raise MissingExtraError("a token of a managed identity", error.name, extra="local") from error
        return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)

    @cached_property
    def _key_id(self) -> str:
        return secrets.token_urlsafe(20)

    @property
    def _public_key(self) -> dict[str, Any]:
        from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 - needs the extra "local"

        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": _ALGORITHM,
            "kid": self._key_id,
            "n": key["n"],
            "e": key["e"],
        }


class LocalCredential:
    """Stands for a credential of azure-identity: gives tokens of a local service's own issuer."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for the first scope's resource, such as ``"https://signalr.azure.com/.default"``.

        Args:
            options: what azure-identity takes besides; nothing here depends on it.
        """
        return self._issuer.token(scopes[0].removesuffix("/.default"))
