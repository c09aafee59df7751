"""Answers of the local service that are no success, what pages of other origins need to see any, and what a server
hears of the lifespan."""

from collections.abc import Awaitable, Callable, Mapping
from http.client import responses
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import InvalidNameError, SignalRError
from ..protocol.rest import ERROR_CODE_HEADER
from .admission import Refused


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Spec: https://www.rfc-editor.org/rfc/rfc9457"""
    content: dict[str, Any] = {"title": _phrase(status), "status": status, "detail": detail}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def error_detail(error: SignalRError) -> Response:
    """An error of the REST API: a code, a sentence, and what it is about.

    Spec: https://github.com/Azure/azure-signalr/blob/dev/docs/swagger (ErrorDetail)
    """
    headers = error.headers if isinstance(error, Refused) else {}
    code = headers.get(ERROR_CODE_HEADER) or _phrase(error.status_code).replace(" ", "")
    content = {"code": code, "message": str(error)}
    if isinstance(error, InvalidNameError):
        content["target"] = error.kind
    return JSONResponse(content, error.status_code, headers)


def _phrase(status: int) -> str:
    return responses.get(status, "Error")


async def send_refusal(error: SignalRError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(error.status_code, str(error), _headers(error))(scope, receive, send)


def _headers(error: SignalRError) -> dict[str, str]:
    return error.headers if isinstance(error, Refused) else {}


def plain_refusal(error: SignalRError, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the clients' endpoint answers it."""
    given = {"Content-Type": "text/plain", **(headers or {})}
    return Response(str(error), error.status_code, given | _headers(error))


def is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers and "origin" in headers


def preflight(headers: Headers) -> Response:
    wanted = headers.get("access-control-request-headers", "")
    allow = {"Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE", "Access-Control-Max-Age": "600"}
    return Response(
        status_code=204, headers=allow | ({"Access-Control-Allow-Headers": wanted} if wanted else {})
    )


def with_cors(send: Send, origin: str) -> Send:
    """Let the page at ``origin`` see the answer, errors included; without it, it sees no status even."""

    async def sendwith_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers.add_vary_header("Origin")
        await send(message)

    return sendwith_cors


async def lifespan(receive: Receive, send: Send, shutdown: Callable[[], Awaitable[None]]) -> None:
    """Tell a server that runs the lifespan that all is well; at its end, when the shutdown is over."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "lifespan.startup.complete"})
