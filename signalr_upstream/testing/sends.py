"""What an app has sent, read from the calls that the REST API has got."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from ..errors import ProtocolError
from ..local.records.call_values import body_value, header
from ..local.records.entries import RestCall
from ..protocol import rest
from ..protocol.rest_bodies import BINARY_TYPE
from ..protocol.rest_decoding import decode_invocations, decode_message, decode_messagepack_message
from ..protocol.upstream import CONTENT_TYPE, MESSAGEPACK_TYPE

Kind = Literal["all", "group", "user", "connection", "invoke", "execute"]

_KINDS: Final[Mapping[rest.Operation, Kind]] = {
    rest.SEND_TO_ALL: "all",
    rest.SEND_TO_GROUP: "group",
    rest.SEND_TO_USER: "user",
    rest.SEND_TO_CONNECTION: "connection",
    rest.INVOKE_CONNECTION: "invoke",
    rest.EXECUTE: "execute",
}


class Send(Struct, kw_only=True):
    """One send of the app.

    Attributes:
        kind: whom it was to reach. ``"invoke"`` is a connection that was asked; ``"execute"`` a list of commands.
        name: of the group, the user or the connection; ``""`` for all.
        excluding: ids of connections that were left out.
        target: the client method; None where the body cannot be read: of more than 64 KiB only the start is kept, and
            of a call that was refused at once nothing.
        arguments: as Python's builtins; of ``"execute"`` the commands.
        status: of the service's answer.
        number: grows from send to send.
    """

    kind: Kind
    name: str
    target: str | None
    arguments: list[Any]
    status: int | None
    number: int
    excluding: frozenset[str] = frozenset()

    @property
    def is_accepted(self) -> bool:
        """Whether the service has taken it."""
        return self.status is not None and self.status < 300


def sends_in(calls: list[RestCall], hub: str) -> Iterator[Send]:
    """The sends of one hub among REST calls, in the order in which they began.

    Args:
        hub: in lower case, with the application's prefix.
    """
    for call in sorted(calls, key=lambda call: call.number):
        path, _, query = call.request.url.partition("?")
        match = rest.match(call.method, path.encode())
        if not isinstance(match, rest.Match) or match.operation not in _KINDS:
            continue
        parameters = parse_qsl(query)
        application = dict(parameters).get("application")
        if hub == (f"{application}_" if application else "").lower() + match.values["hub"]:
            yield _send(call, match, parameters)


def _send(call: RestCall, match: rest.Match, parameters: list[tuple[str, str]]) -> Send:
    kind = _KINDS[match.operation]
    try:
        target, arguments = (
            ("execute", body_value(call.request.headers, call.request.body))
            if kind == "execute"
            else message_in(call.request.body, header(call.request.headers, CONTENT_TYPE) or "")
        )
    except ProtocolError:
        target, arguments = None, []
    return Send(
        kind=kind,
        name=next((name for variable, name in match.values.items() if variable != "hub"), ""),
        target=target,
        arguments=arguments,
        status=call.status,
        number=call.number,
        excluding=frozenset(value for name, value in parameters if name == "excluded"),
    )


def message_in(body: bytes, content_type: str) -> tuple[str, list[Any]]:
    """The target and the arguments of a send's body.

    Raises:
        ProtocolError: it cannot be read.
    """
    if content_type == BINARY_TYPE:  # a frame for each protocol
        frames = decode_invocations(body)
        name = min(frames)  # JSON, if it is there
        decode = msgspec.json.decode if name == "json" else msgspec.msgpack.decode
        return frames[name].target, decode(frames[name].arguments)
    if content_type == MESSAGEPACK_TYPE:
        message = decode_messagepack_message(body)
        return message.target, msgspec.msgpack.decode(message.arguments)
    message = decode_message(body)
    return message.target, msgspec.json.decode(message.arguments)
