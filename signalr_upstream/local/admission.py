"""Who may come in: hosts, browser origins and bearer tokens.

The emulator's key is public and everything listens on loopback, so any web page could mint tokens and call the
service from a visitor's browser. Hence requests for foreign hosts (DNS rebinding) and of foreign origins are refused
on every route, before anything else is looked at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from starlette.datastructures import Headers

from ..auth import decode_token
from ..connection_string import is_loopback
from ..errors import SignalRError, TokenError
from ..protocol.rest import check_name
from .clock import Clock
from .faults import FAULT_HEADER, Faults
from .issuer import REST_RESOURCE, TokenIssuer
from .rest.signing_keys import SigningKeys

MAX_TOKEN = 4096
"""Characters: what Microsoft's SDK allows for a token that travels in a URL."""

CLOCK_SKEW = 300.0
"""Seconds by which the clock that made a REST token may be wrong: .NET's default, and so Azure's. Clients get none:
transports end when their token does."""

WILDCARDS = frozenset(("0.0.0.0", "::", ""))  # noqa: S104 - recognised, not bound
_EXPIRED_BY_FAULT = "The token expired: a fault is switched on that makes it so."
_NAME_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
_USER_CLAIMS = ("asrs.s.uid", _NAME_CLAIM + "nameidentifier")
# What .NET renames when it reads a token; the app sees the long names.
_RENAMED = {
    "sub": _NAME_CLAIM + "nameidentifier",
    "nameid": _NAME_CLAIM + "nameidentifier",
    "unique_name": _NAME_CLAIM + "name",
    "email": _NAME_CLAIM + "emailaddress",
    "given_name": _NAME_CLAIM + "givenname",
    "family_name": _NAME_CLAIM + "surname",
    "birthdate": _NAME_CLAIM + "dateofbirth",
    "gender": _NAME_CLAIM + "gender",
    "website": _NAME_CLAIM + "webpage",
    "role": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    "roles": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
}


class Refused(SignalRError):  # noqa: N818 - an answer, not a failure
    """The request is answered with an HTTP error.

    Attributes:
        status: of the answer.
        headers: of the answer, besides those of every error.
    """

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status_code = status
        self.headers = headers


class Query:
    """A query string; names are compared ignoring case, as ASP.NET does."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw.decode("latin-1")
        self._items = [
            (name.lower(), value)
            for name, value in parse_qsl(self.raw, keep_blank_values=True, errors="replace")
        ]

    def all(self, name: str) -> list[str]:
        """Every value of ``name``, ``name[0]`` and so on included."""
        return [value for key, value in self._items if key.split("[", 1)[0] == name]

    def last(self, name: str) -> str | None:
        """The last value of ``name``; None if there is none."""
        return next((value for key, value in reversed(self._items) if key == name), None)

    def has_all_of(self, other: "Query") -> bool:
        """Whether each parameter of ``other`` is here too, values compared ignoring case."""
        mine = {(name, value.lower()) for name, value in self._items}
        return all((name, value.lower()) in mine for name, value in other._items)


class Admission:
    """The checks of one service.

    Args:
        keys: those that may have signed a token.
        issuer: of the Entra ID tokens that open the REST API, too.
        host: what the service is bound to; a name by which it may be called besides those of loopback.
        cors_origins: browser origins besides those of loopback.
        lenient: take what Microsoft's emulator takes: any audience, expired tokens, any hub name.
        clock: what tells whether a token has expired.
        faults: whom to refuse on purpose.
    """

    def __init__(
        self,
        *,
        keys: SigningKeys,
        issuer: TokenIssuer,
        host: str,
        cors_origins: Sequence[str],
        lenient: bool,
        clock: Clock,
        faults: Faults,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._host = host.lower()
        self._origins = frozenset(origin.rstrip("/").lower() for origin in cors_origins)
        self._lenient = lenient
        self._clock = clock
        self._faults = faults

    def __repr__(self) -> str:
        return f"Admission({self._keys!r})"

    def check_host(self, host: str | None) -> None:
        """Refuse requests that were meant for somebody else."""
        name = (urlsplit(f"//{host}").hostname or "") if _is_authority(host) else ""
        if not (name and (self._host in WILDCARDS or name == self._host or is_loopback(name))):
            raise Refused(403, "The Host header does not name this machine: use http://localhost.")

    def check_origin(self, origin: str | None) -> None:
        """Refuse what a web page of somewhere else sends. Programs send no ``Origin``."""
        if origin is None or origin.rstrip("/").lower() in self._origins:
            return
        if not is_loopback(_hostname(origin)):
            raise Refused(
                403,
                "Pages of this origin may not connect: the local service takes loopback origins, and those "
                "given as cors_origins (--cors-origin).",
            )

    def check_client(self, headers: Headers, query: Query, *, from_query: bool) -> dict[str, Any]:
        """The claims of a client's token.

        Args:
            from_query: whether ``access_token`` counts where there is no Authorization header: browsers cannot set
                one on a WebSocket or an event stream.
        """
        _fail("client_status", self._faults.client_status, self._faults.client_retry_after)
        token = _bearer(headers)
        if token is None and from_query:
            token = query.last("access_token")
        claims = self._check_token(token, expired=self._faults.client_token_expired)
        if not self._lenient:
            hub = _hub(query).lower()
            self._check_audience(
                claims,
                f"{self.audience(headers)}/client/?hub={hub}",
                lambda path, asked: path == ["", "client"] and (asked.last("hub") or "").lower() == hub,
                "with or without a port",
            )
        return claims

    def check_rest(self, headers: Headers, raw_path: bytes, query: Query) -> None:
        """Refuse a REST call without a good token."""
        _fail("rest_status", self._faults.rest_status, self._faults.rest_retry_after)
        token = _bearer(headers)
        if token is not None and self._issuer.made(token):
            self._check_entra_token(token)
            return
        claims = self._check_token(token, expired=self._faults.rest_token_expired, leeway=CLOCK_SKEW)
        if not self._lenient:
            path = raw_path.decode("latin-1").rstrip("/")
            wanted = _segments(path)
            self._check_audience(
                claims,
                f"{self.audience(headers)}{path}",
                lambda path, asked: path == wanted and query.has_all_of(asked),
                "with or without a port and this request's query",
            )

    def audience(self, headers: Headers) -> str:
        """What audiences of tokens for this service begin with: scheme and host, as Microsoft's without a port."""
        name = _hostname(f"//{headers.get('host', '')}")
        return f"http://[{name}]" if ":" in name else f"http://{name}"

    def hub_name(self, query: Query) -> str:
        """The hub a client wants to connect to."""
        hub = _hub(query)
        if not hub:
            raise Refused(400, "The query has no hub: connect to /client/?hub=<name>.")
        if not self._lenient:
            check_name("hub", hub)
        return hub

    def _check_token(self, token: str | None, *, expired: bool, leeway: float = 0.0) -> dict[str, Any]:
        if token is None:
            raise unauthorized("There is no bearer token.", challenge="Bearer")
        if len(token) > MAX_TOKEN and not self._lenient:
            raise unauthorized(f"The token is longer than {MAX_TOKEN} characters.")
        now = None if self._lenient else self._clock.time()
        try:
            claims = decode_token(token, self._keys.of(token), now=now, audiences=None, leeway=leeway)
        except TokenError as error:
            raise unauthorized(f"{error}.") from None
        if expired:
            raise unauthorized(_EXPIRED_BY_FAULT)
        return claims

    def _check_entra_token(self, token: str) -> None:
        """It is for the service as a whole, so it opens every path."""
        try:
            self._issuer.check(
                token, REST_RESOURCE, now=None if self._lenient else self._clock.time() - CLOCK_SKEW
            )
        except TokenError as error:
            raise unauthorized(f"{error}.") from None
        if self._faults.rest_token_expired:
            raise unauthorized(_EXPIRED_BY_FAULT)

    def _check_audience(
        self, claims: Mapping[str, Any], expected: str, fits: Callable[[list[str], Query], bool], leeway: str
    ) -> None:
        """An audience is a URL of this service, with or without port; ``fits`` judges its path and query."""
        offered = claims.get("aud")
        if offered == expected:  # nearly always
            return
        for audience in offered if isinstance(offered, list) else [offered]:
            if not isinstance(audience, str):
                continue
            host = _hostname(audience)
            if not (is_loopback(host) or host == self._host or self._host in WILDCARDS):
                continue
            _, _, rest = audience.partition("://")
            path, _, query = rest[len(rest.split("/", 1)[0]) :].partition("?")
            if fits(_segments(path.rstrip("/")), Query(query.encode())):
                return
        raise unauthorized(f"The audience is invalid: expected {expected}, {leeway}.")


def _segments(path: str) -> list[str]:
    """The parts of an escaped path. Each is unescaped by itself, for a name may hold a slash."""
    return [unquote(part).lower() for part in path.split("/")]


def _fail(fault: str, status: int | None, retry_after: int) -> None:
    if status is not None:
        wait = {"Retry-After": str(retry_after)} if status in (429, 503) else {}
        raise Refused(status, f"The fault {fault} is switched on.", **{FAULT_HEADER: fault}, **wait)


def _hub(query: Query) -> str:
    return ",".join(query.all("hub"))  # as ASP.NET reads a parameter that is given twice


def read_claims(claims: Mapping[str, Any]) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """User id and claims as the app is to see them: .NET's long names, one item a value, in the token's order."""
    items = tuple(
        (_RENAMED.get(name, name), text) for name, value in claims.items() for text in _claim_texts(value)
    )
    for wanted in _USER_CLAIMS:
        for name, value in items:
            if name == wanted:
                return value or None, items
    return None, items


def closing_time(claims: Mapping[str, Any]) -> float | None:
    """When a connection is to be closed, in Unix seconds; None: a token that expires does not matter to it."""
    if str(claims.get("asrs.s.coae")).lower() != "true":
        return None
    try:
        return float(int(claims["asrs.s.aeo"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _claim_texts(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        match item:
            case str():
                yield item
            case None:
                yield ""
            case _:
                yield msgspec.json.encode(item).decode()


def _bearer(headers: Headers) -> str | None:
    values = headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise unauthorized("The Authorization header is not one bearer token.", challenge="Bearer")
    return token.strip()


def unauthorized(detail: str, *, challenge: str | None = None) -> Refused:
    """The answer to a request without a good token."""
    # The detail may quote the request's path: nothing in it ends the quoted text or the header.
    quoted = "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in detail)
    described = challenge or f'Bearer error="invalid_token", error_description="{quoted}"'
    return Refused(401, detail, **{"WWW-Authenticate": described})


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_authority(host: str | None) -> bool:
    return host is not None and _hostname(f"//{host}") != "" and not set("/?#@") & set(host)
