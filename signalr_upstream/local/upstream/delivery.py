"""Calls to the upstream app: which URL an event goes to, what is posted, and what the answer means for the client.

A client that waits always gets an answer: what went wrong is said in the error of its completion, and logged.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import assert_never

import httpx
import msgspec
import starlette.types as asgi

from ...auth import sign_connection
from ...errors import ConfigurationError
from ...protocol import upstream as wire
from ...protocol.messages import (
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
    UpstreamMessage,
)
from ..clock import SystemClock
from ..faults import Faults
from ..issuer import TokenIssuer
from ..records.entries import UpstreamCall
from ..records.journal import Journal
from .app_transport import AppTransport
from .attempts import Answer, Attempts, Post, UnreachableError
from .http_transport import HttpTransport
from .rules import Rules
from .templates import UpstreamTemplate, hide_secrets, origin

TIMEOUT = 100.0
"""Seconds an app has to answer: .NET's default, which the service and its emulator share."""

NO_STREAM = (
    "Stream failed, the app did not take it: it answers 204, and sends the items through the REST API."
)

MAX_SHOWN = 100
"""Characters of an event's name that are shown: clients choose it."""

MAX_EXCERPT = 300
"""Characters of an app's failing answer that are logged."""

_log = logging.getLogger("signalr_upstream.local")


class Caller(msgspec.Struct, frozen=True):
    """The client on whose behalf the app is called.

    Attributes:
        hub: as the client wrote it.
        claims: of its token, in order, as ``(type, value)``.
        query: raw query string of the request that opened the transport, with its ``?``. Holds secrets.
    """

    connection_id: str
    hub: str
    user_id: str | None
    claims: tuple[tuple[str, str], ...]
    query: str

    def __repr__(self) -> str:
        return f"Caller({self.connection_id!r}, hub={self.hub!r})"


class Upstream:
    """The app behind the service.

    Args:
        app: an ASGI app in this process, which takes the calls that the rules have a URL for.
        rules: where calls go; default: nowhere.
        keys: each makes one signature.
        lenient: pass answers on as the app wrote them, as Microsoft's emulator does, wherever the client's
            invocation comes to an end with it, and follow redirects within the app's host.
        timeout: seconds for one call, with all its attempts.
        connect_patience: seconds for which a refused connection is tried again, since the app may be restarting.
        retry: try again what failed, on the service's schedule.
        tokens: makes the tokens that templates ask for; default: an issuer that nobody knows.
        transport: how HTTP requests travel; for tests.
        journal: where the calls are noted, and the clock of every timer.
        faults: what is to go wrong.

    Attributes:
        keys: others make the signatures from when they are set.
    """

    def __init__(
        self,
        *,
        app: asgi.ASGIApp | None = None,
        rules: Rules | None = None,
        keys: Sequence[str],
        lenient: bool = False,
        timeout: float = TIMEOUT,
        connect_patience: float = 0.0,
        retry: bool = False,
        tokens: TokenIssuer | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        journal: Journal | None = None,
        faults: Faults | None = None,
    ) -> None:
        journal = journal or Journal(SystemClock())
        self.rules = rules or Rules()
        if app is not None:
            transport = AppTransport(app)
        self._transport = transport or HttpTransport()
        self.keys = tuple(keys)
        self._lenient = lenient
        self._tokens = tokens or TokenIssuer(lambda: "http://localhost", journal.clock)
        self._attempts = Attempts(
            self._transport,
            journal=journal,
            faults=faults or Faults(),
            timeout=timeout,
            patience=connect_patience,
            retry=retry,
            follow_redirects=lenient,
        )

    def __repr__(self) -> str:
        return f"<Upstream with {len(self.rules.templates)} templates>"

    async def aclose(self) -> None:
        """Close the connections to the app, and watch no settings file."""
        await self.rules.aclose()
        await self._transport.aclose()

    async def replay(self, call: UpstreamCall) -> UpstreamCall:
        """Make a call of the journal once more, with a new signature and, where the template asks for one now, a new
        token. Its answer goes to nobody but the journal."""
        proofs = {wire.SIGNATURE: sign_connection(call.connection_id, self.keys).encode()}
        template = self.rules.find(hub=call.hub, category=call.category, event=call.event)
        if template is not None and template.resource is not None:
            proofs[b"authorization"] = self._authorization(template.resource)
        headers = [(name, proofs.get(name.lower(), value)) for name, value in call.request.headers]
        asked = call.request
        return await self._attempts.repeat(
            Post(
                call.connection_id,
                call.hub,
                call.category,
                call.event,
                asked.url,
                headers,
                asked.body,
                asked.method,
            )
        )

    async def call(
        self, caller: Caller, message: UpstreamMessage, *, binary: bool
    ) -> Completion | bytes | None:
        """Tell the app. What comes back is for the client; None: it waits for nothing, or its stream goes on."""
        category, event, body = _describe(message, binary=binary)
        invocation_id = _invocation_id(message)
        template = self.rules.find(hub=caller.hub, category=category, event=event)
        if template is None and category == wire.CONNECTIONS:
            return None  # templates for messages alone are no mistake
        shown = event[:MAX_SHOWN]
        try:
            post = self._post(template, caller, category, event, body, binary=binary)
            answer = await self._attempts.send(post)
        except UnreachableError as error:
            _log.warning("%r of hub %r: %s", shown, caller.hub, error)
            return Completion(invocation_id, error=f"Invocation failed, {error}") if invocation_id else None
        failed = answer.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT)
        if failed:
            _log.warning("%r of hub %r: %s", shown, caller.hub, _failure(post, answer))
        if invocation_id is None:
            return None
        result = self._for_client(answer, message, invocation_id, binary=binary)
        if not failed and isinstance(result, Completion) and result.error is not None:
            _log.info("%r of hub %r: %s", shown, caller.hub, result.error)
        return result

    def _post(
        self,
        template: UpstreamTemplate | None,
        caller: Caller,
        category: str,
        event: str,
        body: bytes,
        *,
        binary: bool,
    ) -> Post:
        """The request of one call.

        Raises:
            UnreachableError: there is nowhere to send it, or it cannot be sent.
        """
        if template is None:
            raise UnreachableError(self._nowhere(caller.hub, category, event))
        try:
            headers = wire.encode_headers(
                connection_id=caller.connection_id,
                hub=caller.hub,
                category=category,
                event=event,
                user_id=caller.user_id,
                claims=caller.claims,
                client_query=caller.query,
                signature=sign_connection(caller.connection_id, self.keys),
                content_type=(
                    wire.MESSAGEPACK_TYPE if binary and category == wire.MESSAGES else wire.JSON_TYPE
                ),
            )
            url = template.expand(hub=caller.hub, category=category, event=event)
            if template.resource is not None:
                headers.append((b"Authorization", self._authorization(template.resource)))
        except (ValueError, ConfigurationError) as error:
            raise UnreachableError(f"it cannot be sent to the app: {error}") from None
        # h11 refuses spaces around a value, which mean nothing; claims end in one where the last of them is empty.
        headers = [(name, value.strip(b" \t")) for name, value in headers]
        return Post(caller.connection_id, caller.hub, category, event, url, headers, body)

    def _authorization(self, resource: str) -> bytes:
        return f"Bearer {self._tokens.token(resource).token}".encode()

    def _nowhere(self, hub: str, category: str, event: str) -> str:
        if not self.rules.templates:
            return "no upstream app: start the local service with one"
        return (
            f"no upstream template fits hub {hub!r}, category {category!r}, event {event[:MAX_SHOWN]!r}: "
            f"add one to {self.rules.path or 'those of the local service'}, or widen the patterns of one"
        )

    def _for_client(
        self, answer: Answer, message: UpstreamMessage, invocation_id: str, *, binary: bool
    ) -> Completion | bytes | None:
        status, body = answer.status, answer.body
        is_stream = isinstance(message, StreamInvocation)
        if is_stream and status == HTTPStatus.NO_CONTENT:
            return None  # its items come through the REST API
        verbatim = self._lenient and not is_stream and status == HTTPStatus.OK
        if verbatim and wire.ends_invocation(body, invocation_id=invocation_id, binary=binary):
            return body
        completion = wire.decode_answer(status, body, invocation_id=invocation_id, binary=binary)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Completion(invocation_id, error=f"{completion.error}{_REDIRECT}")
        if is_stream and completion.error is None:
            return Completion(invocation_id, error=NO_STREAM)
        return completion


_REDIRECT = ": a redirect is not followed, since the signature would go along. Use the URL that it leads to."

_PREFIX = (
    ". Mounted under a prefix? Calls have to go there: `dev --path '/prefix/{hub}/{category}/{event}'`, "
    "`local --upstream 'http://host/prefix/{hub}/{category}/{event}'`"
)


def _failure(post: Post, answer: Answer) -> str:
    """What went wrong, for the log. A 404 that is no problem of ours was answered by something around the app."""
    where, advice = origin(post.url), ""
    if answer.status == HTTPStatus.NOT_FOUND and not _media_type(answer).startswith(
        b"application/problem+json"
    ):
        where, advice = hide_secrets(post.url)[:MAX_EXCERPT], _PREFIX
    return f"the app at {where} answered {answer.status}{_excerpt(answer)}{advice}"


def _excerpt(answer: Answer) -> str:
    """What a failing answer says, as the end of a line: the detail of a problem, else how the body begins; of a page
    nothing."""
    try:
        text = msgspec.json.decode(answer.body, type=_Problem).detail
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        is_page = _media_type(answer).startswith(b"text/html")
        text = "" if is_page else answer.body[: 4 * MAX_EXCERPT].decode("utf-8", "replace")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {text[:MAX_EXCERPT]}" if text else ""


def _media_type(answer: Answer) -> bytes:
    return next((value.lower() for name, value in answer.headers if name.lower() == b"content-type"), b"")


class _Problem(msgspec.Struct):
    detail: str


def _invocation_id(message: UpstreamMessage) -> str | None:
    if isinstance(message, Invocation | StreamInvocation):
        return message.invocation_id or None
    return None


def _describe(message: UpstreamMessage, *, binary: bool) -> tuple[str, str, bytes]:
    match message:
        case OpenConnection():
            return wire.CONNECTIONS, wire.CONNECTED, wire.encode_connected()
        case CloseConnection():
            return wire.CONNECTIONS, wire.DISCONNECTED, wire.encode_disconnected(message.error)
        case Invocation() | StreamInvocation():
            return wire.MESSAGES, message.target, wire.encode_invocation(message, binary=binary)
        case _:
            assert_never(message)
