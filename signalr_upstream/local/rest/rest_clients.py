"""REST operations that talk with one client: ``:invoke`` waits for its result, streams answer its ``stream()``."""

import msgspec
from starlette.responses import Response

from ...errors import InvalidMessageError
from ...protocol.handshake import HubProtocol
from ...protocol.messages import NO_RESULT, Completion
from ...protocol.rest import CONNECTION_GONE, JSON_TYPE, STREAM_GONE
from ...protocol.rest_bodies import BINARY_TYPE
from ..admission import Refused
from ..clients.client_connection import ClientConnection, ConnectionGoneError
from .conversion import MessagePackValue
from .rest_call import Call, absent
from .rest_payloads import read_item, read_message

PROTOCOL_HEADER = "X-Protocol"
"""Names the protocol of a completion that is passed on as it came. What Microsoft's SDK calls it is not published."""


async def invoke(call: Call) -> Response:
    """What the client answers: 200 with its result, or 400 with its own words as plain text.

    Whoever accepts ``application/octet-stream`` gets a result as the client sent it: the frame of its Completion.
    """
    message = read_message(call)
    member = _member(call)
    try:
        completion = await member.invoke(message)
    except ConnectionGoneError as error:
        raise absent(CONNECTION_GONE, f"There is no such connection: {error}.") from None
    except TimeoutError:
        raise Refused(504, "The client has not answered in ten minutes.") from None
    if completion.error is not None:
        return Response(completion.error, 400, media_type="text/plain")
    protocol = member.session.protocol
    assert protocol is not None  # noqa: S101 - it has answered
    if BINARY_TYPE in call.headers.get("accept", ""):
        headers = {PROTOCOL_HEADER: protocol.name}
        return Response(protocol.encode(completion), headers=headers, media_type=BINARY_TYPE)
    return Response(_in_json(completion, protocol), media_type=JSON_TYPE)


async def send_item(call: Call) -> None:
    item = read_item(call)
    completed = call.flag("completed")
    if not _member(call).send_item(call.values["stream"], item, completed=completed):
        raise _no_stream()


async def complete_stream(call: Call) -> None:
    """``reason`` is what the API's description calls the error, ``error`` what Microsoft's SDK sends."""
    error = call.query.last("reason") or call.query.last("error")
    if not _member(call).complete_stream(call.values["stream"], error):
        raise _no_stream()


def _member(call: Call) -> ClientConnection:
    member = call.hub.connection(call.values["connection"])
    if member is None:
        raise absent(CONNECTION_GONE, "There is no such connection.")
    return member


def _no_stream() -> Refused:
    return absent(
        STREAM_GONE, "The client waits for no such stream: it never asked, or the stream has ended."
    )


def _in_json(completion: Completion, protocol: HubProtocol) -> bytes:
    result = completion.result
    if result == NO_RESULT:
        return b"{}"
    if protocol.binary:
        try:
            result = MessagePackValue(bytes(result)).json
        except InvalidMessageError as error:
            raise Refused(
                400, f"The client's result cannot be written as JSON ({error}): accept {BINARY_TYPE}."
            ) from None
    return msgspec.json.encode({"result": result})
