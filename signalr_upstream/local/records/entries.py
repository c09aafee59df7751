"""What the journal keeps: transport messages, calls to the app, REST calls, refused requests, and who is connected.

Everything is as it went over the wire, what is long is cut. Requests and queries hold secrets: who shows them redacts
them.
"""

from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct

from ...protocol import upstream as wire
from ...protocol.messages import Completion, HubMessage, Invocation, StreamInvocation
from .call_values import body_value, completion_of, header, is_binary, result_of, upstream_message, value_of

FrameKind = Literal["opened", "received", "sent", "closed"]
Headers = tuple[tuple[bytes, bytes], ...]


class Frame(Struct, frozen=True, gc=False):
    """One transport message between a client and the service, or the opening and end of the transport.

    Attributes:
        number: grows with every entry of the journal, whatever its kind.
        time: Unix seconds.
        data: as received or sent, long data cut; of ``opened`` the transport, of ``closed``
            the reason, if there is one.
        size: bytes there were.
    """

    number: int
    time: float
    kind: FrameKind
    connection_id: str
    data: bytes
    binary: bool
    size: int

    @property
    def kept(self) -> int:
        """Bytes that count against the journal's limit."""
        return len(self.data)


class Request(Struct, frozen=True):
    """An HTTP request, ``size`` being the bytes that its body had before it was cut. Holds secrets."""

    method: str
    url: str
    headers: Headers
    body: bytes
    size: int

    def __repr__(self) -> str:
        return f"<{self.method} {self.url.partition('?')[0]} with {self.size} bytes>"


class Answer(Struct, frozen=True):
    """An HTTP answer, ``size`` being the bytes that its body had before it was cut."""

    status: int
    headers: Headers
    body: bytes
    size: int

    def __repr__(self) -> str:
        return f"<{self.status} with {self.size} bytes>"


class UpstreamCall(Struct, kw_only=True):
    """One call to the app; in the journal from its start on.

    Attributes:
        answer: None while none has come.
        error: why none came.
        start: Unix seconds.
        seconds: how long it took; None while it runs.
        number: given by the journal.
        changed: like ``number``, and given anew when the call ends.
    """

    connection_id: str
    hub: str
    category: str
    event: str
    request: Request
    start: float
    answer: Answer | None = None
    error: str | None = None
    seconds: float | None = None
    number: int = 0
    changed: int = 0

    @property
    def user_id(self) -> str | None:
        """The user on whose behalf the app was called."""
        return header(self.request.headers, wire.USER_ID)

    @property
    def arguments(self) -> list[Any]:
        """What the client called with, as Python's builtins; empty for ``connected`` and ``disconnected``.

        Raises:
            ProtocolError: it cannot be decoded; of long bodies only the start is kept.
        """
        message = self._message()
        if isinstance(message, Invocation | StreamInvocation):
            return list(value_of(message.arguments, binary=is_binary(self.request.headers)))
        return []

    @property
    def status(self) -> int | None:
        """Of the answer; None where none came."""
        return None if self.answer is None else int(self.answer.status)

    @property
    def result(self) -> Any:
        """What the client's ``invoke()`` resolves to; None also where it waits for nothing, or for an answer yet."""
        completion = self._completion()
        return None if completion is None else result_of(completion, binary=is_binary(self.request.headers))

    @property
    def failure(self) -> str | None:
        """What the client's ``invoke()`` is rejected with, or why no answer came."""
        completion = self._completion()
        return self.error if completion is None else completion.error

    def _message(self) -> HubMessage | None:
        if self.category != wire.MESSAGES:
            return None
        return upstream_message(self.request.headers, self.request.body)

    def _completion(self) -> Completion | None:
        if self.answer is None or self.category != wire.MESSAGES:
            return None
        return completion_of(self.request.headers, self.request.body, self.answer.status, self.answer.body)

    @property
    def kept(self) -> int:
        """Bytes that count against the journal's limit."""
        return bytes_kept(self.request) + bytes_kept(self.answer)

    @property
    def whole(self) -> bool:
        """Whether all of the request was kept, so that it can be made again."""
        return self.request.size == len(self.request.body)


class RestCall(Struct, kw_only=True):
    """One call to the REST API that is over. Times are in seconds, ``start`` since 1970.

    Attributes:
        answer: None where the caller left before it came.
    """

    request: Request
    answer: Answer | None
    start: float
    seconds: float
    number: int = 0
    changed: int = 0

    @property
    def method(self) -> str:
        """``"POST"``."""
        return self.request.method

    @property
    def path(self) -> str:
        """What was asked for, unescaped and without its query."""
        return unquote(self.request.url.partition("?")[0])

    @property
    def body(self) -> Any:
        """The request's body as Python's builtins; None where there is none.

        Raises:
            ProtocolError: it cannot be decoded; of long bodies only the start is kept.
        """
        return body_value(self.request.headers, self.request.body)

    @property
    def status(self) -> int | None:
        """Of the answer; None where the caller left before it came."""
        return None if self.answer is None else int(self.answer.status)

    @property
    def kept(self) -> int:
        """Bytes that count against the journal's limit."""
        return bytes_kept(self.request) + bytes_kept(self.answer)


class Client(Struct, kw_only=True):
    """Who has opened a transport. It is remembered for a while when it has gone.

    Attributes:
        hub: as the client wrote it.
        transport: as negotiate calls it.
        claims: of its token, as ``(type, value)``. They may hold secrets.
        since: Unix seconds.
        live: whether the transport is open.
    """

    connection_id: str
    hub: str
    user_id: str | None
    transport: str
    claims: tuple[tuple[str, str], ...] = ()
    since: float = 0.0
    live: bool = True

    def __repr__(self) -> str:
        return f"<Client {self.connection_id} of hub {self.hub!r}>"


class Refusal(Struct, frozen=True):
    """A request, of a client or of a stranger, that was answered with an error before anything came of it.

    Attributes:
        time: Unix seconds.
        url: may hold secrets.
    """

    number: int
    time: float
    status: int
    method: str
    url: str
    reason: str

    @property
    def kept(self) -> int:
        """Bytes that count against the journal's limit."""
        return len(self.url) + len(self.reason)


def bytes_kept(part: Request | Answer | None) -> int:
    """Bytes that a part of a call counts against the journal's limit."""
    return 0 if part is None else len(part.body) + sum(len(name) + len(value) for name, value in part.headers)
