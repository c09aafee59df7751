"""What a refused REST call means: status, error code and whatever body came, as one typed error.

Bodies are Microsoft's JSON, ASP.NET problem details, plain text, or the HTML of a proxy on the way. No I/O.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..errors import (
    AccessDeniedError,
    ClientInvocationError,
    DeliveryUnknown,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    ThrottledError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from ..printable import printable
from .rest import ERROR_CODE_HEADER, INVOKE_CONNECTION, Operation

MAX_TEXT: Final = 300
"""Characters of the service's own words in an error: enough for a sentence, too few for a page of HTML."""

_CAUSES: Final[Mapping[int, tuple[type[ServiceError], str]]] = {
    400: (InvalidRequestError, "Change the call: the service does not take it."),
    401: (
        UnauthorizedError,
        "Check that the access key belongs to this endpoint and that this machine's clock is right.",
    ),
    403: (
        AccessDeniedError,
        "Check the network rules of the SignalR resource, and the role assignment if it uses Entra ID.",
    ),
    404: (
        NotFoundError,
        "Without an error code the endpoint or the hub is wrong, or something on the way answers.",
    ),
    408: (UnavailableError, "Try again later."),
    413: (TooLargeError, "Send at most 1 MB: fetch large data by a link in the message."),
    414: (TooLargeError, "Exclude fewer connections: their ids travel in the URL."),
    429: (ThrottledError, "The resource's quota of messages or connections is used up: wait, or add units."),
    431: (TooLargeError, "Exclude fewer connections: their ids travel in the URL."),
}
_FAILED = (UnavailableError, "The service failed: try again later.")
_OPEN: Final = (408, 500, 502, 504)
"""Answers that do not say whether a send was taken."""
_UNKNOWN = (
    DeliveryUnknown,
    "The service may have sent it or not: send it again where twice does no harm (idempotent=True).",
)
_UNEXPECTED = (
    ServiceError,
    "Check that the endpoint is the SignalR service itself and that no proxy answers for it.",
)

_FAILED_CLIENT = (ClientInvocationError, "The client's method failed, or it has none of that name.")

_DESCRIPTION = re.compile(r'error_description="([^"]*)"')
# All that can belong to a token, in one go: a pattern that looks for its dots begins anew at each `eyJ` of a long text.
_MAYBE_TOKEN = re.compile(r"eyJ[\w.-]*")
_MARKUP = re.compile(r"\s*<")


def refusal(operation: Operation, status: int, headers: Mapping[str, str], body: bytes) -> ServiceError:
    """The error of an answer that is not 2xx.

    Args:
        operation: what was asked.
        headers: names in lower case.
        body: the answer's body, or its beginning.

    Returns:
        An error whose text has the status, the service's code and words (capped, control characters escaped,
        tokens removed) and what to do. Never our URL.
    """
    cause, advice = _FAILED if status >= 500 else _CAUSES.get(status, _UNEXPECTED)
    if not operation.idempotent and status in _OPEN:
        cause, advice = _UNKNOWN
    elif operation is INVOKE_CONNECTION and status == 400:
        cause, advice = _FAILED_CLIENT
    code = headers.get(ERROR_CODE_HEADER)
    said = _words(body) or _challenge(headers.get("www-authenticate", ""))
    text = f"{operation.name}: the service answered {status}"
    if code is not None:
        code = _printable(code)
        text += f" {code}"
    if said:
        text += f": {_printable(said)}"
    elif cause is NotFoundError and code is not None:
        advice = "It is not connected, or no longer."
    return cause(
        f"{text} ({advice})",
        operation=operation.name,
        status=status,
        error_code=code,
        retry_after=_seconds(headers.get("retry-after", "")),
    )


def _seconds(header: str) -> float | None:
    """Of a ``Retry-After``. Its other form is a date by the service's clock, which need not be ours."""
    return float(header) if header.isdecimal() and header.isascii() and len(header) < 7 else None


def _printable(text: str) -> str:
    text = _MAYBE_TOKEN.sub(lambda found: "<token>" if "." in found[0] else found[0], text)
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    return printable(text)


def _words(body: bytes) -> str:
    """The sentence in a body, "" if there is none (HTML says nothing about SignalR)."""
    text = body.decode(errors="replace").strip()
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "" if _MARKUP.match(text) else text
    return _sentence(document)


def _sentence(document: Any) -> str:
    if isinstance(document, str):
        return document
    if not isinstance(document, dict):
        return ""
    if isinstance(document.get("error"), dict):
        return _sentence(document["error"])
    details = _validation_errors(document.get("errors"))
    for key in ("message", "detail", "title", "error"):
        value = document.get(key)
        if isinstance(value, str) and value:
            return " ".join([value, *details])
    return " ".join(details)


def _validation_errors(errors: Any) -> list[str]:
    """The texts of ASP.NET's ``{"field": ["what is wrong", ...]}``."""
    if not isinstance(errors, dict):
        return []
    return [
        text
        for texts in errors.values()
        if isinstance(texts, list)
        for text in texts
        if isinstance(text, str)
    ]


def _challenge(header: str) -> str:
    found = _DESCRIPTION.search(header)
    return found[1] if found else ""
