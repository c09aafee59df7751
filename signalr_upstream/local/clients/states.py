"""The life of a client connection: its states, and every step from one to another."""

from enum import Enum, auto


class State(Enum):
    """Where a connection is in its life."""

    HANDSHAKE = auto()  # nothing is known about the client
    IDLE = auto()  # open; the next message is taken at once
    CALLING = auto()  # open; a call to the app runs, messages wait
    DRAINING = auto()  # gone; what it said before is still being handled
    LEAVING = auto()  # gone; the app is being told
    CLOSED = auto()  # over

    @property
    def over(self) -> bool:
        """Whether the client is gone for good; the app may not know yet."""
        return self in (State.DRAINING, State.LEAVING, State.CLOSED)


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
