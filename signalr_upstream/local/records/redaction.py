"""Secrets hidden from what the inspector shows: tokens, signatures and cookies, wherever they stand.

Two nets: places that hold secrets by their name, and texts that look like a token, wherever they are.
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

from ...claims import SEAL_CLAIM
from ...protocol import upstream as wire

HIDDEN = "[hidden]"

_SECRET_HEADERS = frozenset(
    (
        wire.SIGNATURE.decode(),
        "authorization",
        "authentication",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-functions-key",
    )
)
_SECRET_QUERY = frozenset(("access_token", "id", "code", "token", "key", "sig", "signature"))
# Three parts behind an encoded `{"` are a signed token. Matched in one go: a pattern that looks for the dots begins
# anew at each `eyJ` of a long text.
_MAYBE_TOKEN = re.compile(r"eyJ[\w.-]*")
# In the answer of auth/accessKey, also inside a text of JSON, and in connection strings.
_KEY = re.compile(r"""(AccessKey\\?"?\s*[:=]\s*\\?"?)[^"\\;,\s}]+""", re.IGNORECASE)
_SEAL = re.compile(rf"\b{SEAL_CLAIM}: [^,]*")


def hide_tokens(text: str) -> str:
    """A text without what looks like a signed token, and without what is called an access key."""
    return _KEY.sub(rf"\1{HIDDEN}", _MAYBE_TOKEN.sub(_hide_token, text))


def _hide_token(found: re.Match[str]) -> str:
    return HIDDEN if found[0].count(".") > 1 else found[0]


def hide_query(query: str) -> str:
    """A query string without the values that open doors; everything else as it was written."""
    return "&".join(_hide_parameter(part) for part in hide_tokens(query).split("&"))


def hide_url(url: str) -> str:
    """A URL without a password, and without secrets in its query."""
    url = re.sub(r"//[^/?#@]*@", f"//{HIDDEN}@", url)
    head, mark, query = url.partition("?")
    return hide_tokens(head) + mark + hide_query(query)


def hide_claim(name: str, value: str) -> str:
    """The value of a claim, unless it is the sealed identity or a token."""
    return HIDDEN if name == SEAL_CLAIM else hide_tokens(value)


def hide_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers as text, the values that open doors hidden."""
    return [
        (name.decode("latin-1"), _hide_header(name.decode("latin-1").lower(), wire.decode_header(value)))
        for name, value in headers
    ]


def is_secret_header(name: str) -> bool:
    """Whether the value of a header, also of one in a hub message, opens doors."""
    return name.lower() in _SECRET_HEADERS


def _hide_header(name: str, value: str) -> str:
    if is_secret_header(name):
        return HIDDEN
    if name == wire.CLIENT_QUERY.decode():
        mark = "?" if value.startswith("?") else ""
        return mark + hide_query(value.removeprefix("?"))
    if name == wire.USER_CLAIMS.decode():
        return hide_tokens(_SEAL.sub(f"{SEAL_CLAIM}: {HIDDEN}", value))
    return hide_tokens(value)


def _hide_parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={HIDDEN}" if equals and unquote_plus(name).lower() in _SECRET_QUERY else part
