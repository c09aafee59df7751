"""The kinds of calls that drills make, and the answers that are due, as the service passes them on."""

from tests.loads.callers import Kind

_RESULT = (b'"result":"%b"',)
_TOO_LONG = (b'"error":"The call took too long on the server and was ended."',)


def echo(connections: int, *, every: float = 0.0) -> Kind:
    return Kind("good", "echo", _RESULT, connections, every)


def waiting(connections: int) -> Kind:
    return Kind("awaits for 200 ms", "wait", _RESULT, connections)


def blocking(connections: int) -> Kind:
    return Kind("blocks for 50 ms", "block", _RESULT, connections)


def refusing(connections: int) -> Kind:
    return Kind("HubError", "refuse", (b'"error":"not %b"',), connections)


def failing(connections: int, *, every: float) -> Kind:
    """Each writes a traceback to the log, so it is better told how often."""
    return Kind("raises", "fail", (b'"error":"The call failed on the server."',), connections, every)


def hanging(connections: int) -> Kind:
    return Kind("hangs, limit 1 s", "hang", _TOO_LONG, connections)


def overstaying(connections: int) -> Kind:
    return Kind("blocks, limit 1 s", "overstay", _TOO_LONG, connections)


def relaying(connections: int, *outcomes: str) -> Kind:
    """Calls that send; ``outcomes``: how the send may end."""
    said = tuple(b'"result":"%b"'.replace(b"%b", outcome.encode()) for outcome in outcomes)
    return Kind("sends", "relay", said, connections)
