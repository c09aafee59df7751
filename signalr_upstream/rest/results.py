"""What a client answered to an ``invoke``: the result in the answer of the REST call, as the type that was asked for.

The service answers JSON, ``{"result": ...}``; where it could not write JSON, the client's Completion as it came.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..errors import ClientInvocationError, ProtocolError, ResultError
from ..models import validate
from ..plain_defaults import filled
from ..protocol.handshake import PROTOCOLS
from ..protocol.messages import NO_RESULT, Completion
from ..reasons import safe_reason
from ..transports.transport import Answer

_VOID = Raw(b"null")


class _Result(Struct):
    result: Raw = _VOID


_decode_result = msgspec.json.Decoder(_Result).decode


def result_of(answer: Answer, result_type: Any) -> Any:
    """The result, converted to ``result_type``.

    Raises:
        ClientInvocationError: the client answered with an error.
        ResultError: it cannot be read, or is no ``result_type``.
    """
    binary = False
    try:
        if answer.body.startswith(b"{") and not answer.body.endswith(b"\x1e"):
            raw = _decode_result(answer.body).result
        elif not answer.body:
            raw = _VOID
        else:
            binary = not answer.body.startswith(b"{")
            raw = _completed(answer.body, binary=binary)
        decode = msgspec.msgpack.decode if binary else msgspec.json.decode
        return filled(decode(raw, type=result_type, dec_hook=validate), result_type)
    # ValueError: a timestamp that Python cannot hold.
    except (msgspec.MsgspecError, ValueError, RecursionError, ProtocolError) as error:
        said = (
            f": {_explained(str(error), result_type)}" if isinstance(error, msgspec.ValidationError) else ""
        )
        raise ResultError(f"the client's result does not fit{said}") from None


def _explained(text: str, result_type: Any) -> str:
    what, at, place = text.partition(" - at ")
    return safe_reason(what, result_type, place=place) + at + place


def _completed(body: bytes, *, binary: bool) -> Raw:
    protocol = PROTOCOLS["messagepack" if binary else "json"]
    frames = protocol.splitter().feed(body)
    message = protocol.decode(frames[0]) if len(frames) == 1 else None
    if not isinstance(message, Completion):
        raise ResultError("the service's answer is not one Completion")
    if message.error is not None:
        raise ClientInvocationError(message.error)
    if message.result != NO_RESULT:
        return message.result
    return Raw(b"\xc0") if binary else _VOID
