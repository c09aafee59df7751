"""What a session asks of those who carry it out, one action after the other."""

from msgspec import Struct

from ...protocol.messages import Completion, UpstreamMessage


class Send(Struct, frozen=True):
    """Write these bytes: whole frames, in one transport message."""

    data: bytes


class Join(Struct, frozen=True):
    """The connection can be reached from now on."""


class Call(Struct, frozen=True):
    """Tell the app; ``Session.answered`` takes what comes back."""

    message: UpstreamMessage


class Result(Struct, frozen=True):
    """The client has answered an invocation of ours, or one that nobody waits for."""

    completion: Completion


class Leave(Struct, frozen=True):
    """The connection cannot be reached any more."""


class HangUp(Struct, frozen=True):
    """Close the transport in good order."""


Action = Send | Join | Call | Result | Leave | HangUp
