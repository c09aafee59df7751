"""A SignalR client in this process, for tests and the inspector's console: what the official ones do, without a socket.

It speaks either hub protocol over one WebSocket. It does not reconnect, and sends no pings: the service takes nobody
for gone who has never sent one. What it waits for is waited for in real seconds, whatever the service's clock.
"""

import asyncio
import inspect
import itertools
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, assert_never

import msgspec
from msgspec import Raw
from starlette.types import ASGIApp

from ...errors import ConfigurationError, HubError, SignalRError
from ...models import enc_hook_with
from ...protocol.framing import BinarySplitter, TextSplitter
from ...protocol.handshake import PROTOCOLS, encode_handshake_request, parse_handshake_response
from ...protocol.messages import (
    NO_RESULT,
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
)
from ...protocol.messages import Sequence as SequenceMessage
from ...protocol.upstream import encode_error, encode_result
from .in_process_socket import NotAdmittedError, Socket

TIMEOUT = 5.0
"""Seconds that a client waits: an app in this process needs a thousandth of it, and a failing test ends soon."""

MAX_WAITING = 10_000
"""Messages kept for ``receive``; the oldest make room for newer ones."""

NO_CLIENT_RESULT = "Client didn't provide a result."
"""What the official clients answer where the app waits for a result and no handler gives one."""

_MODELS = enc_hook_with(None)
"""Pydantic's models are arguments here as they are in the app."""

_log = logging.getLogger("signalr_upstream.local")

T = TypeVar("T")


class Received(NamedTuple):
    """What the app has sent to a client: ``("newMessage", ["hello"])``."""

    target: str
    arguments: list[Any]


class NothingCameError(SignalRError, TimeoutError):
    """What was waited for has not come in time; the text names what has."""


class DisconnectedError(SignalRError):
    """The connection is closed.

    Attributes:
        reason: the service's, if it gave one.
    """

    def __init__(self, reason: str | None) -> None:
        super().__init__("the connection is closed" + (f": {reason}" if reason else ""))
        self.reason = reason


class InProcessClient:
    """One client; ``LocalService.connect`` makes it. ``async with`` closes it in the end.

    Args:
        service: the service's ASGI app.
        connection_id: what negotiate gave.
        query: query string of the transport.
        token: bearer token.
        protocol: ``"json"`` or ``"messagepack"``.

    Raises:
        ConfigurationError: no such protocol.

    Attributes:
        reason: why the service has closed the connection, if it has and gave a reason.
    """

    def __init__(
        self, service: ASGIApp, *, connection_id: str, query: str, token: str, protocol: str = "json"
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ConfigurationError(f"there is no hub protocol {protocol!r}: it is json or messagepack")
        self.connection_id = connection_id
        self.reason: str | None = None
        self._protocol = PROTOCOLS[protocol]
        self._socket = Socket(service, query=query, token=token, on_data=self._take, on_end=self._end)
        self._splitter: TextSplitter | BinarySplitter = TextSplitter()  # the handshake's answer is text
        self._greeted = False
        self._refusal: str | None = None
        self._ended = False
        self._messages: deque[Received] = deque(maxlen=MAX_WAITING)
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._answers: dict[str, deque[StreamItem | Completion]] = {}  # by invocation id, of those awaited
        self._ids = map(str, itertools.count(1))
        self._news = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()  # handlers

    def __repr__(self) -> str:
        return f"<InProcessClient {self.connection_id} {'closed' if self._ended else 'open'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- life ------------------------------------------------------------------------------------------------

    async def open(self, *, timeout: float = TIMEOUT) -> None:
        """Connect and shake hands.

        Raises:
            NotAdmittedError: the service refuses.
        """
        await self._socket.open()
        self._socket.post(encode_handshake_request(self._protocol.name), binary=self._protocol.binary)
        await self._until(lambda: self._greeted or None, "an answer to the handshake", timeout)
        if self._refusal is not None:
            raise NotAdmittedError(self._refusal)

    async def close(self, *, timeout: float = TIMEOUT) -> None:
        """Leave, and wait until the app has been told. Once the connection is closed that does nothing."""
        if not self._ended:
            self._socket.hang_up()
        await self.closed(timeout=timeout)

    async def closed(self, *, timeout: float = TIMEOUT) -> str | None:
        """Wait until the connection is closed and the app has been told; the reason that the service gave."""
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(timeout):
                await self._socket.ended()
        except TimeoutError:
            raise self._nothing("an end of the connection", timeout) from None
        return self.reason

    # --- calling the app -------------------------------------------------------------------------------------

    async def invoke(self, target: str, *arguments: Any, timeout: float = TIMEOUT) -> Any:
        """Call a hub method and wait for its result, as Python's builtins; None where there is none.

        Args:
            timeout: seconds.

        Raises:
            HubError: the app answers with an error, or the service says that it could not be called.
            NothingCameError: no answer.
            DisconnectedError: the connection is closed.
        """
        __tracebackhide__ = True
        with self._asking() as (invocation_id, answers):
            self._say(Invocation(target, self._encoded(arguments), invocation_id))
            answer = await self._next(answers, f"an answer to {target!r}", timeout)
            if isinstance(answer, StreamItem):
                raise HubError(f"{target!r} answers with a stream: call it with stream()")
            return self._result(answer)

    async def send(self, target: str, *arguments: Any, timeout: float = TIMEOUT) -> None:
        """Call a hub method without waiting for an answer.

        The service has read it when this returns; ``LocalService.settled`` waits for the app.
        """
        self._say(Invocation(target, self._encoded(arguments)))
        await self._read(timeout)

    async def stream(
        self,
        target: str,
        *arguments: Any,
        timeout: float = TIMEOUT,
    ) -> AsyncGenerator[Any, None]:
        """Call a hub method that answers with a stream: its items. Raises what ``invoke`` raises.

        Args:
            timeout: seconds for each item.
        """
        with self._asking() as (invocation_id, answers):
            self._say(StreamInvocation(invocation_id, target, self._encoded(arguments)))
            try:
                while isinstance(
                    answer := await self._next(answers, f"an item of {target!r}", timeout), StreamItem
                ):
                    yield self._value(answer.item)
            except GeneratorExit:  # nobody wants more of it
                if not self._ended:
                    self._say(CancelInvocation(invocation_id))
                raise
            self._result(answer)

    async def send_raw(self, data: bytes, *, timeout: float = TIMEOUT) -> None:
        """Send bytes as they are, as one message of the transport."""
        self._check_open()
        self._socket.post(data, binary=True)
        await self._read(timeout)

    # --- being called ----------------------------------------------------------------------------------------

    def on(self, target: str, handler: Callable[..., Any]) -> None:
        """Call ``handler``, plain or async, with the arguments of each message to ``target``.

        Where the app waits for a result, it gets what the handler returns or raises. What has a handler is not
        there for ``receive``.
        """
        self._handlers[target] = handler

    async def receive(self, target: str | None = None, *, timeout: float = TIMEOUT) -> Received:
        """The next message, or the next one to ``target``; others wait for another call of this.

        Args:
            timeout: seconds.

        Raises:
            NothingCameError: it has not come; the text names what has.
            DisconnectedError: the connection is closed, and it had not come before.
        """
        __tracebackhide__ = True
        what = "a message" if target is None else f"a message {target!r}"
        return await self._until(lambda: self._pop(target), what, timeout)

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended yet."""
        return not self._ended

    @property
    def waiting(self) -> list[Received]:
        """The messages that have come and were not taken yet."""
        return list(self._messages)

    def _pop(self, target: str | None) -> Received | None:
        for message in self._messages:
            if target in (None, message.target):
                self._messages.remove(message)
                return message
        return None

    # --- out -------------------------------------------------------------------------------------------------

    def _say(self, message: HubMessage) -> None:
        self._post(self._protocol.encode(message))

    def _post(self, data: bytes) -> None:
        self._check_open()
        self._socket.post(data, binary=self._protocol.binary)

    def _check_open(self) -> None:
        __tracebackhide__ = True
        if self._ended:
            raise DisconnectedError(self.reason)

    async def _read(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._socket.read()
        except TimeoutError:
            raise NothingCameError(
                f"the service reads nothing more from this client since {timeout:g} s: the app is busy with "
                "what it has sent before"
            ) from None

    # --- in --------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            if self._greeted:
                self._handle(self._protocol.decode(frame))
            else:
                self._refusal = parse_handshake_response(frame)
                self._splitter = self._protocol.splitter()
                self._greeted = True
        self._news.set()

    def _handle(self, message: HubMessage | None) -> None:
        match message:
            case Invocation():
                self._called(message)
            case StreamItem() | Completion():
                if message.invocation_id in self._answers:
                    self._answers[message.invocation_id].append(message)
            case Close():
                self.reason = message.error
            case Ping() | Ack() | SequenceMessage() | StreamInvocation() | CancelInvocation() | None:
                pass
            case _:
                assert_never(message)

    def _called(self, message: Invocation) -> None:
        arguments = self._value(message.arguments)
        handler = self._handlers.get(message.target)
        if handler is None:
            self._messages.append(Received(message.target, arguments))
            if message.invocation_id is not None:
                self._say(Completion(message.invocation_id, error=NO_CLIENT_RESULT))
            return
        task = asyncio.create_task(self._run(handler, arguments, message.invocation_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(
        self, handler: Callable[..., Any], arguments: list[Any], invocation_id: str | None
    ) -> None:
        try:
            result = handler(*arguments)
            if inspect.isawaitable(result):
                result = await result
            answer = encode_result(invocation_id or "", result, binary=self._protocol.binary)
        except Exception as error:
            if invocation_id is None:
                _log.exception("a handler of %r has failed", self)
            answer = encode_error(
                invocation_id or "", str(error) or type(error).__name__, binary=self._protocol.binary
            )
        if invocation_id is not None and not self._ended:
            self._post(answer)

    def _end(self) -> None:
        self._ended = True
        for task in self._running:
            task.cancel()
        self._news.set()

    # --- waiting ---------------------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[tuple[str, deque[StreamItem | Completion]]]:
        invocation_id = next(self._ids)
        self._answers[invocation_id] = deque()
        try:
            yield invocation_id, self._answers[invocation_id]
        finally:
            del self._answers[invocation_id]

    async def _next(
        self,
        answers: deque[StreamItem | Completion],
        what: str,
        timeout: float,
    ) -> StreamItem | Completion:
        __tracebackhide__ = True
        return await self._until(lambda: answers.popleft() if answers else None, what, timeout)

    async def _until(self, find: Callable[[], T | None], what: str, timeout: float) -> T:
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(timeout):
                while (found := find()) is None:
                    self._check_open()
                    self._news.clear()
                    await self._news.wait()
                return found
        except TimeoutError:
            raise self._nothing(what, timeout) from None

    def _nothing(self, what: str, seconds: float) -> NothingCameError:
        there = Counter(message.target for message in self._messages)
        came = ", ".join(
            f"{target!r}" + (f" ({count} times)" if count > 1 else "") for target, count in there.items()
        )
        return NothingCameError(
            f"{what} has not come within {seconds:g} s; "
            + (f"there is {came}" if came else "nothing else is there")
        )

    # --- values ----------------------------------------------------------------------------------------------

    def _encoded(self, arguments: Sequence[Any]) -> Raw:
        return self._protocol.encode_values(arguments, enc_hook=_MODELS)

    def _value(self, raw: Raw) -> Any:
        return msgspec.msgpack.decode(raw) if self._protocol.binary else msgspec.json.decode(raw)

    def _result(self, completion: Completion) -> Any:
        if completion.error is not None:
            raise HubError(completion.error)
        return None if completion.result == NO_RESULT else self._value(completion.result)
