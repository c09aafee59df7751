"""The floor of upstream_cases: the bare ASGI function of the baselines, also for 20 arguments, objects, MessagePack."""

import hmac
from typing import Any

import msgspec

KEY = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="
TWENTY = (str, *[int] * 9, *[str] * 5, *[float] * 3, bool, bool)


class Echo(msgspec.Struct):
    type: int
    target: str
    arguments: tuple[str, int]
    invocationId: str | None = None  # noqa: N815 - as on the wire


class Twenty(msgspec.Struct):
    type: int
    target: str
    arguments: tuple.__class_getitem__(TWENTY)  # type: ignore[valid-type]
    invocationId: str | None = None  # noqa: N815


class Item(msgspec.Struct):
    id: int
    name: str
    text: str


class Items(msgspec.Struct):
    type: int
    target: str
    arguments: tuple[str, list[Item]]
    invocationId: str | None = None  # noqa: N815


async def echo(text: str, count: int) -> str:
    return text


async def twenty(text: str, *rest: Any) -> str:
    return text


async def items(text: str, items: list[Item]) -> str:
    return text


def packed(arguments: Any) -> Any:
    return msgspec.msgpack.Decoder(tuple[int, dict[str, str], str, str, arguments, list[str]]).decode


JSON: dict[bytes, tuple[Any, Any]] = {
    b"echo": (echo, msgspec.json.Decoder(Echo).decode),
    b"twenty": (twenty, msgspec.json.Decoder(Twenty).decode),
    b"items": (items, msgspec.json.Decoder(Items).decode),
}
MSGPACK: dict[bytes, tuple[Any, Any]] = {
    b"echo": (echo, packed(tuple[str, int])),
    b"twenty": (twenty, packed(tuple.__class_getitem__(TWENTY))),
    b"items": (items, packed(tuple[str, list[Item]])),
}
encode_json = msgspec.json.Encoder().encode
encode_msgpack = msgspec.msgpack.Encoder().encode


def frame(body: bytes) -> bytes:
    prefix = bytearray()
    size = len(body)
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + body


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    headers = dict(scope["headers"])
    expected = b"sha256=" + hmac.digest(KEY, headers[b"x-asrs-connection-id"], "sha256").hex().encode()
    if not any(hmac.compare_digest(expected, s) for s in headers[b"x-asrs-signature"].split(b",")):
        raise PermissionError
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if headers[b"content-type"] == b"application/json":
        function, decode = JSON[headers[b"x-asrs-event"]]
        call = decode(body)
        result = await function(*call.arguments)
        answer = encode_json({"type": 3, "invocationId": call.invocationId, "result": result}) + b"\x1e"
    else:
        function, decode = MSGPACK[headers[b"x-asrs-event"]]
        _, _, invocation_id, _, arguments, _ = decode(body)
        result = await function(*arguments)
        answer = frame(encode_msgpack((3, {}, invocation_id, 3, result)))
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", headers[b"content-type"]),
                (b"content-length", str(len(answer)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer})
