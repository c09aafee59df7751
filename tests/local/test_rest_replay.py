"""Recorded REST calls to Microsoft's emulator, in their order, against a lenient local service.

Four clients are connected as they were when it was recorded: json-u1 (A), msgpack-u2 (B), json2-u1 (C) on hub
``chat``, and json-otherhub-u1 (D) on hub ``other``. Compared are the status and what each client received, in bytes.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService
from signalr_upstream.local.client_connection import ClientConnection
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.connections import Hub

from ..recorded import load, raw
from .socketless import Client, connect

pytestmark = pytest.mark.anyio

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
CLIENTS = {  # name -> letter in targets, hub, user, protocol
    "json-u1": ("A", "chat", "u1", "json"),
    "msgpack-u2": ("B", "chat", "u2", "messagepack"),
    "json2-u1": ("C", "chat", "u1", "json"),
    "json-otherhub-u1": ("D", "other", "u1", "json"),
}

# Steps that are not among the recorded rows: name of the call before which they were made -> what they did to "chat".
MISSING_STEPS: dict[str, Callable[[Hub[ClientConnection]], object]] = {
    "group_send": lambda hub: hub.join("B" * 22, "g1"),
    "group_name_send_inner_space": lambda hub: hub.join("A" * 22, "a b"),
    "group_name_send_slash": lambda hub: hub.join("A" * 22, "a/b"),
    "group_name_send_unicode": lambda hub: hub.join("A" * 22, "grüße"),
    "group_name_send_colon": lambda hub: hub.join("A" * 22, ":send"),
    "group_exists_after_all_removed": lambda hub: hub.leave("C" * 22, "g1"),
    "ug_exists_right_after_ttl1": lambda hub: hub.user_join("u2", "ugt_ttl1", ttl=1, now=1_700_000_100),
}
DIFFERENT = {  # name or its beginning -> why we do otherwise
    "health_no_token_head": "health needs no token on the service itself, nor in newer emulators",
    "auth_missing_cors": "a page of a foreign origin is refused before its token is looked at",
    "cors_preflight": "as auth_missing_cors",
    "ct_octet": "a form of the body that the emulator does not know: 400 for what is none; there 415",
    "ct_utf16_label": "the charset of JSON is UTF-8 whatever the header says; there the body is read as UTF-16",
    "body_target_bool": "a target is text; there anything is made text",
    "body_single_quotes": "not JSON: 400; there Newtonsoft.Json reads it",
    "body_comment": "as body_single_quotes",
    "body_trailing_comma": "as body_single_quotes",
    "body_two_objects": "as body_single_quotes",
    "body_undefined": "as body_single_quotes",
    "body_nan": "as body_single_quotes; there it disconnects every JSON client",
    "body_bigexp": "as body_nan",
    "body_args11": "more than 10 arguments are taken; there it is a 500",
    "body_types": "integers are written at their shortest for MessagePack clients; there nested ones have 9 bytes",
    "body_objects": "as body_types",
    "body_dup_keys_nested": "as body_types; JSON clients get the caller's bytes",
    "body_hugeint": "an integer over 64 bits stays as it is in JSON; there it is an object of .NET's",
    "body_floats": "JSON clients get the caller's bytes; there numbers are written anew",
    "body_escapes": "as body_floats",
    "body_lone_surrogate": "not JSON: 400; there it is replaced",
    "body_date": "strings stay strings; there what looks like a date becomes one",
    "body_obj_type": "`$type` is a member like others; there it is swallowed",
    "body_invalid_utf8": "400; there 500",
    "group_name_add_space": "400; there 500",
    "group_name_send_space": "400; there 500",
    "group_name_exists_space": "400; there 500",
    "group_name_send_tab": "400; there 500",
    "group_name_exists_tab": "400; there 500",
    "group_name_add_dots": "400; there the path is collapsed and another operation runs",
    "group_name_send_dots": "as group_name_add_dots",
    "group_name_exists_dots": "as group_name_add_dots",
    "conn_remove_all_groups": "200 for who is in no group, as the API says; there 500",
    "ug_remove_all": "as conn_remove_all_groups",
    "ug_exists_right_after_ttl0": "ttl=0 means the present connections only, as the service's documentation says",
    "ug_exists_right_after_ttlneg": "as ttl=0",
    "close_user_excluded": "`excluded` counts, as the API says; there it is ignored",
    "close_all_excluded": "as close_user_excluded",
    "close_user_text_body": "a body that the operation does not have is not looked at",
}


class Room:
    """The service and its clients; one that was sent away comes back, as they did not leave in the recording."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_700_000_100.0)
        self.service = LocalService(keys=[KEY], lenient=True, clock=self.clock)
        self.clients: dict[str, Client] = {}
        transport = httpx.ASGITransport(self.service.asgi)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost:8888")

    async def fill(self) -> None:
        for name, (letter, hub, user, protocol) in CLIENTS.items():
            client = self.clients.get(name)
            if client is None or client.gone:
                self.clients[name] = await connect(
                    self.service, hub=hub, user_id=user, protocol=protocol, connection_id=letter * 22
                )

    async def play(self, exchange: dict[str, Any]) -> tuple[int, dict[str, list[bytes]]]:
        await self.fill()
        if exchange["name"] in MISSING_STEPS:
            MISSING_STEPS[exchange["name"]](self.service.hub("chat"))
        if "3s_after" in exchange["name"]:
            self.clock.advance(3)
            for client in self.clients.values():
                client.take()  # pings, which the recording leaves out
        target = exchange["target"]
        for letter, *_ in CLIENTS.values():
            target = target.replace(f"{{{letter}}}", letter * 22)
        token = sign(exchange)
        request = httpx.Request(
            exchange["method"],
            self.http.base_url,
            headers=[(name, value.replace("<token>", token)) for name, value in exchange["headers"]],
            content=raw(exchange["body"]),
        )
        request.url = request.url.copy_with(raw_path=target.replace("<token>", token).encode())
        response = await self.http.send(request)
        received = {name: client.take() for name, client in self.clients.items()}
        return response.status_code, {name: got for name, got in received.items() if got}


def sign(exchange: dict[str, Any]) -> str:
    claims = exchange.get("claims") or {}
    if exchange["name"] == "auth_bad_signature":
        return encode_token(claims, "x" * 44)
    if exchange["alg"] not in (None, "HS256"):
        return jwt.encode(claims, KEY.ljust(64, "="), algorithm=exchange["alg"])
    return encode_token(claims, KEY)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    await room.fill()
    yield room
    await room.http.aclose()
    await room.service.aclose()


def judge(exchange: dict[str, Any], status: int, received: dict[str, list[bytes]]) -> str:
    expected = {name: [raw(frame) for frame in frames] for name, frames in exchange["received"]}
    return "equal" if (status, received) == (exchange["status"], expected) else "different"


async def test_recorded_rest_calls_replay(room: Room) -> None:
    counts = {"equal": 0, "different": 0}
    unused = set(DIFFERENT)
    _, exchanges = load("rest_exchanges.jsonl")
    for exchange in exchanges:
        name = exchange["name"]
        unused -= {start for start in unused if name.startswith(start)}
        status, received = await room.play(exchange)
        verdict = judge(exchange, status, received)
        if verdict == "different":
            assert any(name.startswith(start) for start in DIFFERENT), (
                f"{name}: {status}, {received}; recorded {exchange}"
            )
        counts[verdict] += 1
    print(f"recorded REST calls: {counts}")
    assert not unused
    assert counts == {"equal": 233, "different": 44}
