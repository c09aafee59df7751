"""The bytes that clients, triggers and servers of each kind exchange."""

import time

from signalr_upstream.auth import encode_token
from tests.benchmarks.raw_clients import Wire, client_frame

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="
TEXT = "x" * 40


def upgrade(path: str, *headers: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def bearer(audience: str, **claims: str) -> str:
    token = encode_token({"aud": audience, "exp": int(time.time()) + 86_400, **claims}, KEY)
    return f"Authorization: Bearer {token}"


def _opening(number: int) -> bytes:
    return upgrade(
        "/client/?hub=chat", bearer("http://localhost/client/?hub=chat", **{"asrs.s.uid": str(number)})
    )


def our_event(number: int) -> bytes:
    return b'{"type":1,"target":"news","arguments":[%d,"%s"]}\x1e' % (number, TEXT.encode())


def local_service_wire(count: int) -> Wire:
    """Of ``count`` clients, each with a token of its own; the user id is its number."""
    openings = [_opening(number) for number in range(count)]
    path = "/api/hubs/chat/:send?api-version=2024-12-01"
    call = bearer("http://localhost" + path.partition("?")[0])
    return Wire(
        opening=lambda number: openings[number % count],
        hello=client_frame(b'{"protocol":"json","version":1}\x1e'),
        ready=b"{}\x1e",
        event=our_event,
        trigger_opening=b"",
        trigger=lambda number: post(
            path,
            b'{"target":"news","arguments":[%d,"%s"]}' % (number, TEXT.encode()),
            call,
            "Content-Type: application/json",
        ),
        answers={b'{"type":6}\x1e': b""},
    )


def socketio_wire() -> Wire:
    return Wire(
        opening=lambda _: upgrade("/socket.io/?EIO=4&transport=websocket"),
        hello=client_frame(b"40"),
        ready=b"40{",
        event=lambda number: b'42["message","' + our_event(number)[:-1].replace(b'"', b'\\"') + b'"]',
        trigger_opening=b"",
        trigger=lambda number: post("/trigger", our_event(number)[:-1]),
        answers={b"2": client_frame(b"3")},
    )


def websockets_wire() -> Wire:
    return Wire(
        opening=lambda _: upgrade("/"),
        hello=b"",
        ready=b"",
        event=our_event,
        trigger_opening=upgrade("/trigger"),
        trigger=lambda number: client_frame(our_event(number)),
        answers={},
    )
