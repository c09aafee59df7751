"""An issuer of Entra ID tokens for tests: RSA keys, the document that publishes them, and any token at all."""

import time
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from signalr_upstream.entra import EntraUpstream

TENANT = "0c5a4e9c-0000-4000-8000-00000000000a"
OBJECT_ID = "0c5a4e9c-0000-4000-8000-0000000000b1"
APPLICATION_ID = "0c5a4e9c-0000-4000-8000-0000000000b2"
STRANGER = "0c5a4e9c-0000-4000-8000-0000000000c3"
AUDIENCE = "api://my-app"
KEYS_URL = f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"
V1 = f"https://sts.windows.net/{TENANT}/"
V2 = f"https://login.microsoftonline.com/{TENANT}/v2.0"


def entra(**changes: Any) -> EntraUpstream:
    """The usual configuration, changed."""
    options = {"tenant": TENANT, "audience": AUDIENCE, "identities": [OBJECT_ID], **changes}
    return EntraUpstream(**options)


def make_key(bits: int = 2048) -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Issuer:
    """Signs tokens, publishes its keys, and counts who asks for them.

    Attributes:
        keys: by ``kid``. Tokens are signed with the last one.
        reply: what is answered in place of the keys: a response, or an error.
        requests: the URLs asked for.
    """

    def __init__(self) -> None:
        self.keys = {"k1": make_key()}
        self.reply: httpx.Response | Exception | None = None
        self.requests: list[str] = []

    def document(self) -> dict[str, Any]:
        described = [
            {
                "kty": "RSA",
                "use": "sig",
                "kid": key_id,
                **{
                    name: value
                    for name, value in RSAAlgorithm.to_jwk(key.public_key(), as_dict=True).items()
                    if name in ("n", "e")
                },
            }
            for key_id, key in self.keys.items()
        ]
        return {"keys": described}

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(str(request.url))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply or httpx.Response(200, json=self.document())

    def client(self) -> httpx.AsyncClient:
        """An httpx client in whose world there is nothing but this issuer."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def token(self, *, key: Any = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of version 1.0 of the service's identity, changed.

        A claim or header of None is left out, and a claim may be a function of the time.
        """
        now = int(time.time())
        payload = {
            "aud": AUDIENCE,
            "iss": V1,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "oid": OBJECT_ID,
            "appid": APPLICATION_ID,
            "tid": TENANT,
            **{name: value(now) if callable(value) else value for name, value in claims.items()},
        }
        head = {"kid": list(self.keys)[-1], **(headers or {})}
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            key or list(self.keys.values())[-1],
            algorithm=head.pop("alg", "RS256"),
            headers={name: value for name, value in head.items() if value is not None},
        )
