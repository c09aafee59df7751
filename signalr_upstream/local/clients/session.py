"""One client connection without I/O: bytes, answers and time come in, actions come out.

The transports of the local service (``websocket`` and those that follow) only carry bytes; what they mean is
decided here. Time is passed in as ``now`` (float seconds of any steady clock), and ``deadline`` says when
``tick`` is due.

The order is Microsoft's: the handshake is answered, then the app learns of the connection, then its messages
are handled strictly one at a time, and the app learns of the end when the last call has been answered.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md
"""

import math
from typing import assert_never

from ...errors import InvalidMessageError, ProtocolError
from ...protocol.framing import RECORD_SEPARATOR, TextSplitter
from ...protocol.handshake import (
    HubProtocol,
    choose_protocol,
    encode_handshake_response,
    parse_handshake_request,
)
from ...protocol.messages import (
    Ack,
    CancelInvocation,
    Close,
    CloseConnection,
    Completion,
    HubMessage,
    Invocation,
    OpenConnection,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from .actions import Action, Call, HangUp, Join, Leave, Result, Send
from .inbox import Inbox
from .reasons import CLOSED_WITH_ERROR, CUT_SHORT, EXPIRED, NO_STREAMS, NOT_ACKNOWLEDGING, TIMED_OUT
from .resumption import MAX_KEPT, NUMBERED, VERSION, Link, Resumption, SequenceError
from .states import TRANSITIONS, Event, State

HANDSHAKE_TIMEOUT = 15.0
"""Seconds a client has to say which protocol it speaks; ASP.NET's number."""

KEEP_ALIVE_INTERVAL = 15.0
"""Seconds of silence after which a ping is sent: half of what every client waits before it gives up."""

CLIENT_TIMEOUT = 30.0
"""Seconds without a message after which a client that pings is taken for gone; ASP.NET's number."""

MAX_HANDSHAKE = 64 * 1024
"""Largest handshake request in bytes: it holds two short members, and nobody is known yet who sends it."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Largest message of a client in bytes: far more than an app takes, so that the app's own answer is seen."""

MAX_WAITING = 64 * 1024
"""Bytes that may wait while a call runs before the transport stops reading."""


class Session:
    """The state of one client connection.

    Args:
        now: the time at which the transport was opened.
        keep_alive: seconds; infinite where the transport shows by itself that the service is there.
        client_timeout: seconds; it begins to run with the client's first ping, since some clients never ping.
        max_message: largest message taken from the client, in bytes.
        text_only: the transport cannot carry binary messages.
        streams: whether the app is told of streams that the client asks for.
        stateful: whether the client may come back over another transport, if its handshake says so too.
        expires: when it is closed, whatever it does.
    """

    def __init__(
        self,
        *,
        now: float,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        keep_alive: float = KEEP_ALIVE_INTERVAL,
        client_timeout: float = CLIENT_TIMEOUT,
        max_message: int = MAX_MESSAGE,
        text_only: bool = False,
        streams: bool = False,
        stateful: bool = False,
        expires: float | None = None,
    ) -> None:
        self.state = State.HANDSHAKE
        self.open = (
            False  # whether messages can be sent to the client: of the state, but asked far more often
        )
        self.protocol: HubProtocol | None = None
        self._handshake_deadline = now + handshake_timeout
        self._keep_alive = keep_alive
        self._client_timeout = client_timeout
        self._max_message = max_message
        self._text_only = text_only
        self._streaming = streams
        self._stateful = stateful
        self._expires = math.inf if expires is None else expires
        self._heard = now
        self._spoken = now
        self._pings = False  # the client has pinged once, so its silence means something
        self._request = bytearray()  # the handshake, until it is complete
        self._inbox = Inbox(TextSplitter())  # what waits for its turn
        self._resumption: Resumption | None = None
        self._streams: set[str] = set()  # open ones, by the client's ids
        self._starting: str | None = None  # the stream that the running call is about
        self.farewell: CloseConnection | None = None  # told to the app where the client did not just leave

    # --- what a transport asks ------------------------------------------------------------------------------

    @property
    def binary(self) -> bool:
        """Whether what is sent is binary: all of a MessagePack connection, the handshake too."""
        return self.protocol is not None and self.protocol.binary

    @property
    def reading(self) -> bool:
        """Whether the transport should read on: False while much waits for a running call."""
        return self._inbox.size <= MAX_WAITING

    @property
    def resumable(self) -> bool:
        """Whether the client may go on over another transport."""
        return self.open and self._resumption is not None and self._resumption.link is not Link.FINAL

    @property
    def deadline(self) -> float | None:
        """When ``tick`` must be called at the latest; None when nothing is timed any more."""
        if self.state is State.HANDSHAKE:
            return self._handshake_deadline
        if self.state.over:
            return None
        resumption = None if self._resumption is None else self._resumption.deadline
        times = [self._expires, math.inf if resumption is None else resumption]
        if self._attached:
            times += [self._spoken + self._keep_alive, self._silence_ends]
        earliest = min(times)
        return None if earliest == math.inf else earliest

    @property
    def _silence_ends(self) -> float:
        """When a silent client is taken for gone; not while it waits for the app."""
        counts = self._pings and self.state is State.IDLE
        return self._heard + self._client_timeout if counts else math.inf

    @property
    def _attached(self) -> bool:
        return self._resumption is None or self._resumption.link is not Link.DETACHED

    # --- what happens ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Bytes came from the client, cut anywhere."""
        if self.state is State.HANDSHAKE:
            return self._handshake(data, now)
        if not self.open:
            return []  # it talks on after the end
        self._heard = now
        self._inbox.put(data)
        actions = [] if self._resumption is None else self._write(self._resumption.greeted(), now)
        return actions + (self._proceed(now) if self.state is State.IDLE else [])

    def answered(self, completion: Completion | bytes | None, now: float) -> list[Action]:
        """The running call is over; ``completion`` is for the client, if it is still there.

        Bytes are whole frames of the client's protocol, which a lenient service passes on as the app wrote them.
        """
        if self.state is State.DRAINING:
            return self._drain(now)
        self._step(Event.ANSWERED)
        if not self.open:
            return []
        self._heard = now  # from here on its silence counts again
        actions: list[Action] = []
        stream, self._starting = self._starting, None
        if isinstance(completion, bytes):
            actions += self._pass_on(completion, now)
        elif completion is not None and (stream is None or self.end_stream(stream)):
            actions += self._say(completion, now)
        return actions + self._proceed(now)

    def has_stream(self, stream_id: str) -> bool:
        """Whether the client waits for items of this stream."""
        return self.open and stream_id in self._streams

    def end_stream(self, stream_id: str) -> bool:
        """The stream is over. False: it was not open."""
        found = self.has_stream(stream_id)
        self._streams.discard(stream_id)
        return found

    def direct(self, now: float) -> bool:
        """A message for the client is about to be written. False: it is for ``deliver`` to say what is written."""
        if self._resumption is None and self.open:
            self._spoken = now
            return True
        return False

    def deliver(self, frame: bytes, now: float) -> list[Action]:
        """A message about an invocation for the client, framed."""
        if not self.open:
            return []
        if self._resumption is None:
            return self._write([frame], now)
        frames = self._resumption.send(frame)
        if self._resumption.size > MAX_KEPT:
            return self._close(Close(NOT_ACKNOWLEDGING, allow_reconnect=True), NOT_ACKNOWLEDGING, now)
        return self._write(frames, now)

    def close(self, reason: str | None, now: float, error: str | None = None) -> list[Action]:
        """The service closes the connection; the client may reconnect. For the app that is normal, or ``error``."""
        if self.state is State.HANDSHAKE:
            self._step(Event.ENDED)
            return [HangUp()]
        return self._close(Close(reason or None, allow_reconnect=True), error, now) if self.open else []

    def disconnect(self, now: float, error: str | None = None) -> list[Action]:
        """The transport is gone, for ``error`` if not by the client's will; what it brought before is handled."""
        if self.state is State.HANDSHAKE:
            self._step(Event.ENDED)
            return []
        if not self.open:
            return []
        if error is not None:
            self.farewell = CloseConnection(error)
        return self._end()

    def lose(self, now: float) -> list[Action]:
        """The transport broke. A client that may come back is waited for; of another one it is the end."""
        if self._resumption is None or not self.resumable:
            return self.disconnect(now)
        self._resumption.lose(now)
        return []

    def resume(self, now: float) -> list[Action]:
        """The client is back over another transport, as ``resumable`` says it may be."""
        assert self.protocol is not None  # noqa: S101 - a client that may come back has been through its handshake
        assert self._resumption is not None  # noqa: S101
        # What came and was not looked at has not been counted, so the client sends it once more.
        self._inbox = Inbox(self.protocol.splitter(self._max_message))
        self._heard = now
        first, frames = self._resumption.resume()
        return self._write([self.protocol.encode(Sequence(first)), *frames], now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: say what is due, or give up on a client. Called too early, it does nothing."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self.state is State.HANDSHAKE:
            return self._refuse("Handshake was canceled.")
        if now >= self._expires:
            return self._close(Close(EXPIRED, allow_reconnect=True), EXPIRED, now)
        if not self._attached:
            return self._end()  # it did not come back
        if now >= self._silence_ends:
            return self._close(Close(TIMED_OUT, allow_reconnect=True), TIMED_OUT, now)
        if self._resumption is not None:
            if self._resumption.link is Link.GREETING:
                return self._write(self._resumption.greeted(), now)
            if (acknowledged := self._resumption.take_ack(now)) is not None:
                return self._say(Ack(acknowledged), now)
        return self._say(Ping(), now)

    # --- the handshake --------------------------------------------------------------------------------------

    def _handshake(self, data: bytes, now: float) -> list[Action]:
        self._request += data
        head, separator, rest = bytes(self._request).partition(RECORD_SEPARATOR)
        if len(head) > MAX_HANDSHAKE:
            return self._refuse(f"The handshake is larger than {MAX_HANDSHAKE} bytes.")
        if not separator:
            return []
        try:
            request = parse_handshake_request(head)
            self.protocol = choose_protocol(request, text_only=self._text_only)
        except ProtocolError as error:
            return self._refuse(str(error))
        if self._stateful and request.version >= VERSION:
            self._resumption = Resumption(now=now)
        self._inbox = Inbox(self.protocol.splitter(self._max_message))
        self._request.clear()
        if rest:  # the first messages may come with the handshake
            self._inbox.put(rest)
        self._heard = self._spoken = now
        self._step(Event.ACCEPTED)
        return [Send(encode_handshake_response()), Join(), Call(OpenConnection())]

    def _refuse(self, error: str) -> list[Action]:
        self._step(Event.ENDED)
        return [Send(encode_handshake_response(error)), HangUp()]

    # --- messages -------------------------------------------------------------------------------------------

    def _proceed(self, now: float) -> list[Action]:
        """Take messages until one of them is for the app."""
        actions: list[Action] = []
        try:
            invocation = self._next_call(actions, now)
        except SequenceError as error:  # the client's own words: it knows what they mean
            return actions + self._close(Close(str(error), allow_reconnect=True), str(error), now)
        except ProtocolError as error:
            return actions + self._close(Close(CLOSED_WITH_ERROR, allow_reconnect=True), str(error), now)
        if invocation is not None:
            self._step(Event.CALL)
            actions.append(Call(invocation))
        return actions

    def _drain(self, now: float) -> list[Action]:
        """The client is gone and a call has been answered: go on with what it sent before."""
        try:
            invocation = self._next_call([], now)
        except ProtocolError as error:
            invocation = None
            self.farewell = CloseConnection(str(error))
        if invocation is not None:
            self._step(Event.CALL)
            return [Call(invocation)]
        self._step(Event.ANSWERED)
        return [self._say_goodbye()]

    def _next_call(self, actions: list[Action], now: float) -> Invocation | StreamInvocation | None:
        while (frame := self._inbox.take()) is not None:
            assert self.protocol is not None  # noqa: S101 - chosen by the handshake, which comes first
            message = self.protocol.decode(frame)
            if self._resumption is not None and not self._resumption.admits(message, now):
                continue
            match message:
                case Invocation(target="") | StreamInvocation(target=""):
                    raise InvalidMessageError("the target of an invocation is empty")
                case Invocation():
                    return message
                case StreamInvocation() if self._streaming:
                    self._streams.add(message.invocation_id)
                    self._starting = message.invocation_id
                    return message
                case StreamInvocation():
                    actions += self._say(Completion(message.invocation_id, error=NO_STREAMS), now)
                case CancelInvocation():
                    self.end_stream(message.invocation_id)
                case Completion():
                    actions.append(Result(message))
                case Ping():
                    self._pings = True
                case Ack() if self._resumption is not None:
                    actions += self._write(self._resumption.acknowledged(message.sequence_id), now)
                case Close() if self._resumption is not None:
                    self._resumption.finish()
                case StreamItem() | Close() | Ack() | Sequence() | None:
                    pass  # of no use to an app in serverless mode; the protocol is extensible
                case _:
                    assert_never(message)
        return None

    def _say(self, message: HubMessage, now: float) -> list[Action]:
        assert self.protocol is not None  # noqa: S101 - chosen by the handshake, which comes first
        frame = self.protocol.encode(message)
        return self.deliver(frame, now) if isinstance(message, NUMBERED) else self._write([frame], now)

    def _pass_on(self, data: bytes, now: float) -> list[Action]:
        """Whole frames of the client's protocol, as the app wrote them."""
        if self._resumption is None:
            return self._write([data], now)
        assert self.protocol is not None  # noqa: S101 - as above
        messages = [self.protocol.decode(frame) for frame in self.protocol.splitter(MAX_MESSAGE).feed(data)]
        return [action for message in messages if message is not None for action in self._say(message, now)]

    def _write(self, frames: list[bytes], now: float) -> list[Action]:
        if not (frames and self._attached):
            return []
        self._spoken = now
        return [Send(frame) for frame in frames]

    # --- the end --------------------------------------------------------------------------------------------

    def _close(self, message: Close, error: str | None, now: float) -> list[Action]:
        """End it from here: ``message`` for the client, ``error`` for the app."""
        held_back = [] if self._resumption is None else self._resumption.release_all()
        actions = self._write(held_back, now) + self._say(message, now)
        self.farewell = CloseConnection(error)
        self._inbox.clear()
        return [*actions, HangUp(), *self._end()]

    def _end(self) -> list[Action]:
        self._step(Event.ENDED)
        return [Leave(), self._say_goodbye()] if self.state is State.LEAVING else [Leave()]

    def _say_goodbye(self) -> Call:
        cut_short = CloseConnection(CUT_SHORT) if self._inbox.cut_short else CloseConnection()
        return Call(self.farewell or cut_short)

    def _step(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
        self.open = self.state is State.IDLE or self.state is State.CALLING
