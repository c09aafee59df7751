"""One client connection without I/O: bytes, answers and time come in, actions come out.

The transports of the local service (``websocket`` and those that follow) only carry bytes; what they mean is
decided here. Time is passed in as ``now`` (float seconds of any steady clock), and ``deadline`` says when
``tick`` is due.

The order is Microsoft's: the handshake is answered, then the app learns of the connection, then its messages
are handled strictly one at a time, and the app learns of the end when the last call has been answered.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md
"""

from collections import deque
from enum import Enum, auto
from typing import assert_never

from ..errors import InvalidMessageError, ProtocolError
from ..protocol.framing import RECORD_SEPARATOR, BinarySplitter, TextSplitter
from ..protocol.handshake import (
    HubProtocol,
    choose_protocol,
    encode_handshake_response,
    parse_handshake_request,
)
from ..protocol.messages import (
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

CLOSED_WITH_ERROR = "Connection closed with an error."
TIMED_OUT = "Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
CUT_SHORT = "Connection terminated while reading a message."
NO_STREAMS = (
    "Invocation failed, the local service does not pass stream() on to the app: call invoke() or send(), and let "
    "the app send messages, or start the service with experimental streams."
)


class State(Enum):
    """Where a connection is in its life."""

    HANDSHAKE = auto()  # nothing is known about the client
    IDLE = auto()  # open; the next message is taken at once
    CALLING = auto()  # open; a call to the app runs, messages wait
    DRAINING = auto()  # gone; what it said before is still being handled
    LEAVING = auto()  # gone; the app is being told
    CLOSED = auto()  # over


class Event(Enum):
    """What moves a connection from one state to another."""

    ACCEPTED = auto()  # a good handshake
    CALL = auto()  # a message for the app was taken
    ANSWERED = auto()  # the app has answered, or failed to
    ENDED = auto()  # the transport is gone or told to go


TRANSITIONS = {
    (State.HANDSHAKE, Event.ACCEPTED): State.CALLING,
    (State.HANDSHAKE, Event.ENDED): State.CLOSED,
    (State.IDLE, Event.CALL): State.CALLING,
    (State.IDLE, Event.ENDED): State.LEAVING,
    (State.CALLING, Event.ANSWERED): State.IDLE,
    (State.CALLING, Event.ENDED): State.DRAINING,
    (State.DRAINING, Event.CALL): State.DRAINING,
    (State.DRAINING, Event.ANSWERED): State.LEAVING,
    (State.LEAVING, Event.ANSWERED): State.CLOSED,
}
"""Every legal step. What is missing cannot happen, and a KeyError says so."""


class Session:
    """The state of one client connection.

    Args:
        now: the time at which the transport was opened.
        keep_alive: seconds; infinite where the transport shows by itself that the service is there.
        client_timeout: seconds; it begins to run with the client's first ping, since some clients never ping.
        max_message: largest message taken from the client, in bytes.
        text_only: the transport cannot carry binary messages.
        streams: whether the app is told of streams that the client asks for.
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
        self._heard = now
        self._spoken = now
        self._pings = False  # the client has pinged once, so its silence means something
        self._request = bytearray()  # the handshake, until it is complete
        self._splitter: TextSplitter | BinarySplitter = TextSplitter()
        self._chunks: deque[bytes] = deque()  # what came while a call ran, as it came
        self._frames: deque[bytes] = deque()  # what the last chunk held
        self._waiting = 0  # bytes in both
        self._streams: set[str] = set()  # open ones, by the client's ids
        self._starting: str | None = None  # the stream that the running call is about
        self._farewell: CloseConnection | None = None  # what the app is told, where the service ended it

    # --- what a transport asks ------------------------------------------------------------------------------

    @property
    def binary(self) -> bool:
        """Whether what is sent is binary: all of a MessagePack connection, the handshake too."""
        return self.protocol is not None and self.protocol.binary

    @property
    def reading(self) -> bool:
        """Whether the transport should read on: False while much waits for a running call."""
        return self._waiting <= MAX_WAITING

    @property
    def deadline(self) -> float | None:
        """When ``tick`` must be called at the latest; None when nothing is timed any more."""
        match self.state:
            case State.HANDSHAKE:
                return self._handshake_deadline
            case State.CALLING:  # the client waits for the app: its silence is not held against it
                return self._spoken + self._keep_alive
            case State.IDLE:
                ping = self._spoken + self._keep_alive
                return min(ping, self._heard + self._client_timeout) if self._pings else ping
            case _:
                return None

    # --- what happens ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Bytes came from the client, cut anywhere."""
        if self.state is State.HANDSHAKE:
            return self._handshake(data, now)
        if not self.open:
            return []  # it talks on after the end
        self._heard = now
        self._chunks.append(data)
        self._waiting += len(data)
        return self._proceed(now) if self.state is State.IDLE else []

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
            self._spoken = now
            actions.append(Send(completion))
        elif completion is not None and (stream is None or self.end_stream(stream)):
            actions.append(self._say(completion, now))
        return actions + self._proceed(now)

    def has_stream(self, stream_id: str) -> bool:
        """Whether the client waits for items of this stream."""
        return self.open and stream_id in self._streams

    def end_stream(self, stream_id: str) -> bool:
        """The stream is over. False: it was not open."""
        found = self.has_stream(stream_id)
        self._streams.discard(stream_id)
        return found

    def deliver(self, now: float) -> bool:
        """Framed bytes are about to be written to the client. False: it is gone, do not."""
        if self.open:
            self._spoken = now
        return self.open

    def close(self, reason: str | None, now: float) -> list[Action]:
        """The service closes the connection; the client may reconnect. For the app that is a normal end."""
        if self.state is State.HANDSHAKE:
            self._step(Event.ENDED)
            return [HangUp()]
        return self._close(Close(reason or None, allow_reconnect=True), None, now) if self.open else []

    def disconnect(self, now: float) -> list[Action]:
        """The transport is gone. What it brought before is still handled, then the app is told."""
        if self.state is State.HANDSHAKE:
            self._step(Event.ENDED)
            return []
        if not self.open:
            return []
        return self._end()

    def tick(self, now: float) -> list[Action]:
        """Time has passed: ping, or give up on a silent client. Called too early, it does nothing."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self.state is State.HANDSHAKE:
            return self._refuse("Handshake was canceled.")
        if self.state is State.IDLE and self._pings and now >= self._heard + self._client_timeout:
            return self._close(Close(TIMED_OUT, allow_reconnect=True), TIMED_OUT, now)
        return [self._say(Ping(), now)]

    # --- the handshake --------------------------------------------------------------------------------------

    def _handshake(self, data: bytes, now: float) -> list[Action]:
        self._request += data
        head, separator, rest = bytes(self._request).partition(RECORD_SEPARATOR)
        if len(head) > MAX_HANDSHAKE:
            return self._refuse(f"The handshake is larger than {MAX_HANDSHAKE} bytes.")
        if not separator:
            return []
        try:
            self.protocol = choose_protocol(parse_handshake_request(head), text_only=self._text_only)
        except ProtocolError as error:
            return self._refuse(str(error))
        self._splitter = self.protocol.splitter(self._max_message)
        self._request.clear()
        if rest:  # the first messages may come with the handshake
            self._chunks.append(rest)
            self._waiting = len(rest)
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
            self._farewell = CloseConnection(str(error))
        if invocation is not None:
            self._step(Event.CALL)
            return [Call(invocation)]
        self._step(Event.ANSWERED)
        return [self._say_goodbye()]

    def _next_call(self, actions: list[Action], now: float) -> Invocation | StreamInvocation | None:
        while (frame := self._next_frame()) is not None:
            assert self.protocol is not None  # noqa: S101 - chosen by the handshake, which comes first
            message = self.protocol.decode(frame)
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
                    actions.append(self._say(Completion(message.invocation_id, error=NO_STREAMS), now))
                case CancelInvocation():
                    self.end_stream(message.invocation_id)
                case Completion():
                    actions.append(Result(message))
                case Ping():
                    self._pings = True
                case StreamItem() | Close() | Ack() | Sequence() | None:
                    pass  # of no use to an app in serverless mode; the protocol is extensible
                case _:
                    assert_never(message)
        return None

    def _next_frame(self) -> bytes | None:
        while not self._frames and self._chunks:
            self._frames.extend(self._splitter.feed(self._chunks.popleft()))
        frame = self._frames.popleft() if self._frames else None
        if not (self._frames or self._chunks):
            self._waiting = 0
        return frame

    def _say(self, message: HubMessage, now: float) -> Send:
        assert self.protocol is not None  # noqa: S101 - chosen by the handshake, which comes first
        self._spoken = now
        return Send(self.protocol.encode(message))

    # --- the end --------------------------------------------------------------------------------------------

    def _close(self, message: Close, error: str | None, now: float) -> list[Action]:
        """End it from here: ``message`` for the client, ``error`` for the app."""
        farewell = self._say(message, now)
        self._farewell = CloseConnection(error)
        self._frames.clear()
        self._chunks.clear()
        self._waiting = 0
        return [farewell, HangUp(), *self._end()]

    def _end(self) -> list[Action]:
        self._step(Event.ENDED)
        return [Leave(), self._say_goodbye()] if self.state is State.LEAVING else [Leave()]

    def _say_goodbye(self) -> Call:
        cut_short = CloseConnection(CUT_SHORT) if self._splitter.pending else CloseConnection()
        return Call(self._farewell or cut_short)

    def _step(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
        self.open = self.state is State.IDLE or self.state is State.CALLING
