"""One client at the service: its session carried out, whatever the transport.

Bytes go into the session, and its actions come back: write, call the app, join and leave the hub, hang up. The
calls to the app are tasks, the session's deadlines one timer. Everything runs on one event loop.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Protocol, assert_never

from ...errors import InvalidMessageError, SignalRError
from ...protocol.messages import CloseConnection, Completion, Invocation, StreamInvocation, UpstreamMessage
from ..clock import Clock, Timer
from ..connections import Hub
from ..records.journal import Journal
from ..rest.outgoing import Outgoing, OutgoingItem
from ..upstream.delivery import Caller, Upstream
from .actions import Action, Call, HangUp, Join, Leave, Result, Send
from .reasons import DEFECT
from .session import Session

INVOKE_TIMEOUT = 600.0
"""Seconds a client has to answer an invocation of the service."""

_log = logging.getLogger("signalr_upstream.local")


class Transport(Protocol):
    """How bytes reach the client. Neither method waits; a transport that is gone ignores both."""

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write whole frames as one transport message."""

    def hang_up(self) -> None:
        """Close in good order, after what was written."""


class ConnectionGoneError(SignalRError):
    """The connection ended before the client had answered, or was not there at all."""

    status_code = 404


class ClientConnection:
    """A client from the opening of its transport to the last word to the app.

    Args:
        caller: who it is; fixed when the transport was opened.
        hub: where it can be found while it is open.
        clock: of the session's timers and the hub's memberships.
        journal: where its frames are noted.

    Attributes:
        transport: the present one, or the last one there was. What another one brings is to be ignored.
        readable: clear while the transport should not read on.
        gone: set when the client cannot be reached any more, and cannot come back.
    """

    def __init__(
        self,
        *,
        caller: Caller,
        session: Session,
        transport: Transport,
        hub: "Hub[ClientConnection]",
        upstream: Upstream,
        clock: Clock,
        journal: Journal | None = None,
    ) -> None:
        self.connection_id = caller.connection_id
        self.user_id = caller.user_id
        self.session = session
        self.transport = transport
        self.readable = asyncio.Event()
        self.readable.set()
        self.gone = asyncio.Event()
        self._caller = caller
        self._hub = hub
        self._upstream = upstream
        self._clock = clock
        self._journal = journal or Journal(clock)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._call: asyncio.Task[None] | None = None
        self._invocations = 0
        self._asked: dict[str, asyncio.Future[Completion]] = {}  # what the client has to answer
        self._set_timer()

    def __repr__(self) -> str:
        return f"<ClientConnection {self.connection_id} {self.session.state.name}>"

    # --- from the transport ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The client has sent ``data``."""
        self._journal.received(self.connection_id, data, binary=self.session.binary)
        self._carry_out(lambda now: self.session.receive(data, now))

    def disconnect(self, error: str | None = None) -> None:
        """The transport is gone; ``error`` tells the app why, if it was not the client's will."""
        self._carry_out(lambda now: self.session.disconnect(now, error))

    def lose(self) -> None:
        """The transport broke without a word. The client may come back, if it can (``session.resumable``)."""
        self._carry_out(self.session.lose)

    def resume(self, transport: Transport) -> bool:
        """The client goes on over another transport; the old one is closed. False: it cannot, and the new one is."""
        if not self.session.resumable:
            transport.hang_up()
            return False
        old, self.transport = self.transport, transport
        old.hang_up()
        self._carry_out(self.session.resume)
        return True

    # --- from the service ------------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        """Pass a message on to the client, if it is still there."""
        # A broadcast comes here once a client: no call more than needed.
        protocol = self.session.protocol
        if protocol is None:
            return
        data = message.encoded(protocol)
        if data is None:
            return
        now = self._clock.time()
        if self.session.direct(now):
            self._journal.sent(self.connection_id, data, binary=protocol.binary, now=now)
            self.transport.send(data, binary=protocol.binary)
        else:
            self._perform(self.session.deliver(data, now))

    async def invoke(self, message: Outgoing) -> Completion:
        """Call the client, and wait for what it answers; a result is in the client's protocol.

        Its messages are handled one at a time, the answer behind what it sent before: an app that waits for this
        while it handles a message of the same client waits in vain, as with the service.

        Raises:
            ConnectionGoneError: the client is not there, or leaves before it has answered.
            InvalidMessageError: ``message`` holds nothing for clients of this protocol.
            TimeoutError: there is no answer after ``INVOKE_TIMEOUT``.
        """
        protocol = self.session.protocol
        if protocol is None or not self.session.open:
            raise ConnectionGoneError("the connection is not open")
        self._invocations += 1
        invocation_id = f"s{self._invocations}"
        data = message.with_id(protocol, invocation_id)
        if data is None:
            raise InvalidMessageError(f"there is nothing in it for a client that speaks {protocol.name}")
        answer: asyncio.Future[Completion] = self._loop.create_future()
        self._asked[invocation_id] = answer
        timer = self._clock.call_at(
            self._clock.time() + INVOKE_TIMEOUT, lambda: _fail(answer, TimeoutError())
        )
        try:
            self._deliver(data)
            return await answer
        finally:
            timer.cancel()
            del self._asked[invocation_id]

    def send_item(self, stream_id: str, item: OutgoingItem, *, completed: bool) -> bool:
        """Pass on an item of a stream that the client waits for; ``completed`` says that it is the last.

        False: it waits for no such stream.
        """
        protocol = self.session.protocol
        if protocol is None or not self.session.has_stream(stream_id):
            return False
        data = item.encoded(protocol, stream_id)
        if data is not None:
            self._deliver(data)
        if completed:
            self.complete_stream(stream_id, None)
        return True

    def complete_stream(self, stream_id: str, error: str | None) -> bool:
        """End a stream that the client waits for, with an ``error`` or without. False: it waits for none such."""
        protocol = self.session.protocol
        if protocol is None or not self.session.end_stream(stream_id):
            return False
        self._deliver(protocol.encode(Completion(stream_id, error=error or None)))
        return True

    def close(self, reason: str | None = None) -> None:
        """Tell the client to go, and close its transport."""
        self._carry_out(lambda now: self.session.close(reason, now))

    async def finished(self) -> None:
        """Wait until the app has been told of the end."""
        while self._call is not None:
            await asyncio.wait([self._call])

    def cancel(self) -> None:
        """Give up on a call to the app that would hold the service's own end up."""
        if self._call is not None:
            self._call.cancel()
        self.readable.set()

    # --- inside ----------------------------------------------------------------------------------------------

    def _deliver(self, data: bytes) -> None:
        now = self._clock.time()
        if self.session.direct(now):
            self._write(data, binary=self.session.binary)
        else:
            self._perform(self.session.deliver(data, now))

    def _carry_out(self, step: Callable[[float], list[Action]]) -> None:
        """Do what ``step`` of the session asks for. A defect of ours closes the connection: nobody waits for ever."""
        try:
            self._perform(step(self._clock.time()))
        except Exception:
            _log.exception("%r is closed because of a defect in the local service", self)
            self._perform(self.session.close(DEFECT, self._clock.time(), error=DEFECT))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._write(action.data, binary=self.session.binary)
                case Join():
                    self._hub.add(self, now=self._clock.time())
                case Result():
                    answer = self._asked.get(action.completion.invocation_id)
                    if answer is not None and not answer.done():
                        answer.set_result(action.completion)
                case Leave():
                    self._hub.remove(self)
                    for answer in self._asked.values():
                        _fail(answer, ConnectionGoneError("the connection ended before the client answered"))
                case Call():
                    if isinstance(action.message, CloseConnection) and action.message.error is not None:
                        _log.warning("%r: %s", self, action.message.error)
                    # What an app in this process sets in one call is not there in the next, as over a socket.
                    self._call = self._loop.create_task(
                        self._tell_app(action.message), context=self._context.copy()
                    )
                case HangUp():
                    self.transport.hang_up()
                case _:
                    assert_never(action)
        if self.session.reading:
            self.readable.set()
        else:
            self.readable.clear()
        if self.session.state.over:
            self.gone.set()
        self._set_timer()

    def _write(self, data: bytes, *, binary: bool) -> None:
        self._journal.sent(self.connection_id, data, binary=binary)
        self.transport.send(data, binary=binary)

    async def _tell_app(self, message: UpstreamMessage) -> None:
        completion: Completion | bytes | None
        try:
            completion = await self._upstream.call(self._caller, message, binary=self.session.binary)
        except asyncio.CancelledError:
            self._call = None
            raise
        except Exception:
            _log.exception("a call to the app failed in the local service itself")
            completion = _failed(message)
        self._call = None
        self._carry_out(lambda now: self.session.answered(completion, now))

    def _set_timer(self) -> None:
        deadline = self.session.deadline
        if self._timer is not None:
            # One that is early does no harm: the session looks at the time, and the timer is set anew.
            if deadline is not None and self._timer_due <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._clock.call_at(deadline, self._tick)
            self._timer_due = deadline

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self.session.tick)


def _fail(answer: asyncio.Future[Completion], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _failed(message: UpstreamMessage) -> Completion | None:
    if isinstance(message, Invocation | StreamInvocation) and message.invocation_id:
        return Completion(message.invocation_id, error=f"Invocation failed. {DEFECT}")
    return None
