"""One client at the service: its session carried out, whatever the transport.

Bytes go into the session, and its actions come back: write, call the app, join and leave the hub, hang up. The
calls to the app are tasks, the session's deadlines one timer. Everything runs on one event loop.
"""

import asyncio
import contextvars
import json
import logging
from collections.abc import Sequence
from typing import Any, Protocol, assert_never

import msgspec
from msgspec import Raw

from ..errors import InvalidMessageError
from ..protocol.handshake import HubProtocol
from ..protocol.messages import Completion, Invocation, UpstreamMessage
from ..protocol.nesting import check_json_depth
from .clock import Clock, Timer
from .connections import Hub
from .journal import Journal
from .session import Action, Call, HangUp, Join, Leave, Send, Session
from .upstream import Caller, Upstream

_log = logging.getLogger("signalr_upstream.local")


class Transport(Protocol):
    """How bytes reach the client. Neither method waits; a transport that is gone ignores both."""

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write whole frames as one transport message."""

    def hang_up(self) -> None:
        """Close in good order, after what was written."""


class Outgoing:
    """One message for many clients, encoded once for each hub protocol that is wanted.

    Args:
        arguments: a JSON array, as the REST API takes it.

    Raises:
        InvalidMessageError: ``arguments`` is not valid JSON, or nested too deeply.
    """

    def __init__(self, target: str, arguments: Raw) -> None:
        check_json_depth(bytes(arguments))
        try:
            # All of it, also when no client needs the values: a Raw part was not looked into so far.
            self._values: Sequence[Any] = msgspec.json.decode(arguments)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessageError("the arguments are not valid JSON") from error
        self._target = target
        self._arguments = arguments
        self._encoded: dict[str, bytes] = {}

    def encoded(self, protocol: HubProtocol) -> bytes:
        """The framed message."""
        if protocol.name not in self._encoded:
            arguments = self._in_messagepack(protocol) if protocol.binary else self._arguments
            self._encoded[protocol.name] = protocol.encode(Invocation(self._target, arguments))
        return self._encoded[protocol.name]

    def _in_messagepack(self, protocol: HubProtocol) -> Raw:
        try:
            return protocol.encode_values(self._values)
        except OverflowError:  # MessagePack has no integers over 64 bits: JavaScript's way out, a float
            return protocol.encode_values(json.loads(bytes(self._arguments), parse_int=_integer_or_float))


def _integer_or_float(text: str) -> int | float:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else float(text)


class ClientConnection:
    """A client from the opening of its transport to the last word to the app.

    Args:
        caller: who it is; fixed when the transport was opened.
        hub: where it can be found while it is open.
        clock: of the session's timers and the hub's memberships.
        journal: where its frames are noted.
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
        self.readable = asyncio.Event()  # clear while the transport should not read on
        self.readable.set()
        self._caller = caller
        self._transport = transport
        self._hub = hub
        self._upstream = upstream
        self._clock = clock
        self._journal = journal or Journal(clock)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._call: asyncio.Task[None] | None = None
        self._set_timer()

    def __repr__(self) -> str:
        return f"<ClientConnection {self.connection_id} {self.session.state.name}>"

    # --- from the transport ----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The client has sent ``data``."""
        self._journal.received(self.connection_id, data, binary=self.session.binary)
        self._perform(self.session.receive(data, self._clock.time()))

    def disconnect(self) -> None:
        """The transport is gone."""
        self._perform(self.session.disconnect(self._clock.time()))

    # --- from the service ------------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        """Pass a message on to the client, if it is still there."""
        protocol = self.session.protocol
        if protocol is not None and self.session.deliver(self._clock.time()):
            self._write(message.encoded(protocol), binary=protocol.binary)

    def close(self, reason: str | None = None) -> None:
        """Tell the client to go, and close its transport."""
        self._perform(self.session.close(reason, self._clock.time()))

    async def finished(self) -> None:
        """Wait until the app has been told of the end."""
        while self._call is not None:
            await asyncio.wait([self._call])

    def cancel(self) -> None:
        """Give up on a call to the app that would hold the service's own end up."""
        if self._call is not None:
            self._call.cancel()

    # --- inside ----------------------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._write(action.data, binary=self.session.binary)
                case Join():
                    self._hub.add(self, now=self._clock.time())
                case Leave():
                    self._hub.remove(self)
                case Call():
                    # What an app in this process sets in one call is not there in the next, as over a socket.
                    self._call = self._loop.create_task(
                        self._tell_app(action.message), context=self._context.copy()
                    )
                case HangUp():
                    self._transport.hang_up()
                case _:
                    assert_never(action)
        if self.session.reading:
            self.readable.set()
        else:
            self.readable.clear()
        self._set_timer()

    def _write(self, data: bytes, *, binary: bool) -> None:
        self._journal.sent(self.connection_id, data, binary=binary)
        self._transport.send(data, binary=binary)

    async def _tell_app(self, message: UpstreamMessage) -> None:
        try:
            completion = await self._upstream.call(self._caller, message, binary=self.session.binary)
        except asyncio.CancelledError:
            self._call = None
            raise
        except Exception:
            _log.exception("a call to the app failed in the local service itself")
            completion = _failed(message)
        self._call = None
        self._perform(self.session.answered(completion, self._clock.time()))

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
        self._perform(self.session.tick(self._clock.time()))


def _failed(message: UpstreamMessage) -> Completion | None:
    if isinstance(message, Invocation) and message.invocation_id:
        return Completion(
            message.invocation_id, error="Invocation failed, the local service has a bug; see its log."
        )
    return None
