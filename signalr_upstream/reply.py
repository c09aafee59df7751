"""Answers to upstream calls as ASGI messages: completions, nothing, and problems that say what to do."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from starlette.types import Send

Reply = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""

NO_CONTENT: Reply = (HTTPStatus.NO_CONTENT, (), b"")

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_JSON = (b"content-type", b"application/json")
_MESSAGEPACK = (b"content-type", b"application/x-msgpack")
_PROBLEM = (b"content-type", b"application/problem+json")


def completion(body: bytes, *, binary: bool) -> Reply:
    """200 with one framed Completion. Content-Length keeps a proxy from re-chunking it."""
    return 200, (_MESSAGEPACK if binary else _JSON, (b"content-length", b"%d" % len(body))), body


def problem(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Reply:
    """An error a person can act on. ``detail`` holds no key, token, claim or stack trace.

    Spec: https://www.rfc-editor.org/rfc/rfc9457
    """
    body = msgspec.json.encode(
        {"type": "about:blank", "title": _PHRASES.get(status, "Refused"), "status": status, "detail": detail}
    )
    return status, (_PROBLEM, (b"content-length", b"%d" % len(body)), *headers), body


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole answer."""
    status, headers, body = reply
    # A list of its own: middleware on the way adds to it.
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
