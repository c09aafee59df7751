"""What a token says, and what is wrong with it. The token itself is not part of any answer."""

import re
import time
from base64 import urlsafe_b64decode
from typing import Any

import msgspec

from ..auth import decode_token, read_key_id
from ..claims import MAX_TOKEN_LENGTH, SEAL_CLAIM, Unsealer
from ..connection_string import Endpoint
from ..endpoints import Endpoints
from ..entra import SCOPE
from ..errors import TokenError
from ..printable import printable

_CLIENT_AUDIENCE = re.compile(r"(?P<origin>https?://[^/]+)/client/\?hub=.+")
_REST_AUDIENCE = re.compile(r"(?P<origin>https?://[^/]+)/api/.+")
_ENTRA_AUDIENCE = SCOPE.removesuffix("/.default")
_ENTRA_ALGORITHM = "RS256"


class Explanation(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What is known of a token.

    Attributes:
        kind: what it is for.
        signed_by: endpoint and number of the key that made its signature; None for no key of ours.
        claims: what it says; seals are left out.
        problems: what is wrong, and what to do; empty for a token that can be used.
    """

    kind: str
    algorithm: str = ""
    signed_by: str | None = None
    audience: Any = None
    issued: int | None = None
    expires: int | None = None
    seconds_left: int | None = None
    claims: dict[str, Any] = {}
    sealed: str = ""
    problems: list[str] = []

    def as_json(self) -> str:
        """One object."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def as_text(self) -> str:
        """For people."""
        rows = [
            ("kind", self.kind),
            ("algorithm", self.algorithm),
            ("signed by", self.signed_by),
            ("audience", self.audience),
            ("issued", _shown_time(self.issued)),
            ("expires", _shown_time(self.expires)),
            ("sealed", self.sealed),
            *((f"claim {name!r}", repr(value)) for name, value in self.claims.items()),
            *(("PROBLEM", problem) for problem in self.problems),
        ]
        # A terminal obeys control characters, and the token may be a stranger's.
        return "\n".join(f"{name:<12} {printable(str(value))}" for name, value in rows if value)


def explain(token: str, endpoints: Endpoints, *, now: float) -> Explanation:
    """Look at a token: whose it is, and why the service would not take it."""
    token = token.removeprefix("Bearer ").strip()
    parts = token.split(".")
    try:
        header, claims = (_decode(part) for part in parts[:2])
    except (ValueError, RecursionError):
        return Explanation(
            "no JWT",
            problems=[
                "This is no JSON Web Token: three parts of base64url with dots between. Was it cut off?"
            ],
        )
    found = Explanation("", algorithm=str(header.get("alg", "")), audience=claims.get("aud"), problems=[])
    _look_at_signature(found, token, endpoints)
    _look_at_times(found, claims, now)
    _look_at_audience(found, endpoints)
    if len(token) > MAX_TOKEN_LENGTH and found.kind.startswith("client"):
        found.problems.append(
            f"It has {len(token)} characters, and the service takes {MAX_TOKEN_LENGTH}: give fewer claims."
        )
    _look_at_seal(found, claims, endpoints)
    names = ("aud", "exp", "iat", "nbf", SEAL_CLAIM)
    found.claims = {name: value for name, value in claims.items() if name not in names}
    return found


def _decode(part: str) -> dict[str, Any]:
    return msgspec.json.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])


def _keys(endpoints: Endpoints) -> list[tuple[Endpoint, int, str]]:
    return [
        (endpoint, number, key)
        for endpoint in endpoints.all
        for number, key in enumerate(endpoint.keys, start=1)
    ]


def _look_at_signature(found: Explanation, token: str, endpoints: Endpoints) -> None:
    if _is_of_entra(found):
        return  # it is signed with no key of ours: see what its audience says
    for endpoint, number, key in _keys(endpoints):
        try:
            decode_token(token, [key], now=None, audiences=None)
        except TokenError:
            continue
        found.signed_by = f"key {number} of {endpoint.url}"
        return
    if found.algorithm not in ("HS256", "HS512"):
        found.problems.append(
            f"The algorithm is {found.algorithm!r}: the service takes HS256 of an access key."
        )
    elif not _keys(endpoints):
        found.problems.append("The signature cannot be checked: the environment has no usable access key.")
    elif read_key_id(token) is not None:
        found.problems.append(
            "It is signed with none of the configured keys but names one (kid): a temporary key of the service's, "
            "which an app with an Entra identity uses, cannot be checked here."
        )
    else:
        found.problems.append(
            "It is signed with none of the configured keys: the service says 'signature key was not found'. Take "
            "the connection string of the same resource, and both keys while they are rotated."
        )


def _look_at_times(found: Explanation, claims: dict[str, Any], now: float) -> None:
    times = {name: claims.get(name) for name in ("iat", "nbf", "exp")}
    numbers = {name: int(value) for name, value in times.items() if isinstance(value, int | float)}
    found.issued, found.expires = numbers.get("iat"), numbers.get("exp")
    if found.expires is None:
        found.problems.append("It has no usable expiration (exp), and the service takes no token without.")
    else:
        found.seconds_left = found.expires - int(now)
        if found.seconds_left <= 0:
            found.problems.append(
                f"It expired {-found.seconds_left} seconds ago: negotiate again. If it is new, a clock is wrong."
            )
    start = max(numbers.get("nbf", 0), numbers.get("iat", 0)) - int(now)
    if start > 0:
        found.problems.append(
            f"It begins in {start} seconds: the clock of the machine that made it, or of this one, is wrong."
        )


def _audience(found: Explanation) -> str:
    """The first, where there are several."""
    audiences = found.audience if isinstance(found.audience, list) else [found.audience]
    return next((audience for audience in audiences if isinstance(audience, str)), "")


def _service_audience(found: Explanation) -> re.Match[str] | None:
    """How its audience is written, if as that of a client or of the REST API."""
    text = _audience(found)
    return _CLIENT_AUDIENCE.fullmatch(text) or _REST_AUDIENCE.fullmatch(text)


def _is_of_entra(found: Explanation) -> bool:
    """Whether it can be an Entra ID token: those are for an application, never for a URL of the service."""
    return found.algorithm == _ENTRA_ALGORITHM and _service_audience(found) is None


def _look_at_audience(found: Explanation, endpoints: Endpoints) -> None:
    text = _audience(found)
    if _is_of_entra(found):
        found.kind = (
            "Entra ID token for the REST API; its signature is checked by the service"
            if text.rstrip("/") == _ENTRA_AUDIENCE
            else "Entra ID token, for an upstream call if the audience is your app's; not checked here"
        )
        return
    match = _service_audience(found)
    if match is None:
        found.kind = "unknown"
        found.problems.append(
            "The audience is neither https://<name>.service.signalr.net/client/?hub=<hub>, of a client, nor "
            "https://<name>.service.signalr.net/api/..., of the REST API: the service says 'The audience is invalid'."
        )
        return
    is_client = match.re is _CLIENT_AUDIENCE
    found.kind = "client token" if is_client else "REST token"
    _look_at_origin(found, match["origin"], endpoints)
    if "?" in text and not is_client:
        found.problems.append("The audience of a REST token is the URL without its query.")


def _look_at_origin(found: Explanation, origin: str, endpoints: Endpoints) -> None:
    origins = [endpoint.audience for endpoint in endpoints.all]
    if re.search(r":[0-9]+\Z", origin):
        found.problems.append("The audience has a port, and the service wants it without.")
    elif origins and origin not in origins:
        found.problems.append(
            f"The audience is at {origin}, and the connection string at {' and '.join(origins)}: clients use url and "
            "accessToken of one and the same negotiate answer."
        )


def _look_at_seal(found: Explanation, claims: dict[str, Any], endpoints: Endpoints) -> None:
    if not found.kind.startswith("client"):
        return
    seal = claims.get(SEAL_CLAIM)
    if not isinstance(seal, str):
        found.sealed = "no: made by other code; the app sees ctx.claims_raw only"
        return
    user = claims.get("asrs.s.uid")
    opened = Unsealer(endpoints.seal_keys).unseal(f"{SEAL_CLAIM}: {seal}", user)
    found.sealed = f"claims {', '.join(opened)}" if opened else "no claims, or a seal of another key or user"


def _shown_time(at: int | None) -> str:
    if at is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, OSError, ValueError):
        return str(at)
