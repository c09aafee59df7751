"""One client at the service: its session carried out, whatever the transport.

Bytes go into the session, and its actions come back: write, call the app, join and leave the hub, hang up. The
calls to the app are tasks, the session's deadlines one timer. Everything runs on one event loop.
"""

import asyncio
import contextvars
import logging
from typing import Protocol, assert_never

from ..protocol.messages import Completion, Invocation, UpstreamMessage
from .clock import Clock, Timer
from .connections import Hub
from .journal import Journal
from .outgoing import Outgoing
from .session import Action, Call, HangUp, Join, Leave, Send, Session
from .upstream import Caller, Upstream

_log = logging.getLogger("signalr_upstream.local")


class Transport(Protocol):
    """How bytes reach the client. Neither method waits; a transport that is gone ignores both."""

    def send(self, data: bytes, *, binary: bool) -> None:
        """Write whole frames as one transport message."""

    def hang_up(self) -> None:
        """Close in good order, after what was written."""


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
        data = None if protocol is None else message.encoded(protocol)
        if data is not None and self.session.deliver(self._clock.time()):
            self._write(data, binary=self.session.binary)

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
