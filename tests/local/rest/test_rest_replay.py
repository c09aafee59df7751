"""Recorded REST calls to Microsoft's emulator, in their order, against a lenient local service.

Four clients are connected as they were when it was recorded: json-u1 (A), msgpack-u2 (B), json2-u1 (C) on hub
``chat``, and json-otherhub-u1 (D) on hub ``other``. Compared are the status, what each client received, in bytes, the
body of a success, ``Allow``, and how far ``WWW-Authenticate`` says why. Bodies of errors are not: ours are the API's
``ErrorDetail`` and say what to do. Those that make sense there are played to a strict service too.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService
from signalr_upstream.local.clients.client_connection import ClientConnection
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.connections import Hub

from ...recorded import Row, load, raw
from ..handmade import Client, connect

pytestmark = pytest.mark.anyio

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
CLIENTS = {  # name -> letter in targets, hub, user, protocol
    "json-u1": ("A", "chat", "u1", "json"),
    "msgpack-u2": ("B", "chat", "u2", "messagepack"),
    "json2-u1": ("C", "chat", "u1", "json"),
    "json-otherhub-u1": ("D", "other", "u1", "json"),
}
PINGS = (b'{"type":6}\x1e', b"\x02\x91\x06")

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
    "auth_two_headers": "it says that there are two; there that the key of one was not found",
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


# Differences of a strict service besides those. Its requests are signed for their path and name an api-version.
STRICT = {
    "ug_add": "200, as the newer descriptions of the API say; 202 is that of /api/v1",
    "mix_add_user": "as ug_add",
    "ug_remove": "204, as the newer descriptions say",
    "mix_remove_user": "as ug_remove",
    "ug_send_3s_after_ttlneg": "a negative ttl is refused, so that nobody is there",
    "group_remove_": "200 for who is not in the group, as the newest description says; 404 in older ones",
    "close_all_v1": "/api/v1 has no such operation",
}
# Not asked of a strict service: how tokens and versions are checked is what a lenient one is for.
LENIENT_ONLY = ("auth_", "health_no_token", "cors_", "api_version")


class Room:
    """The service and its clients; one that was sent away comes back, as they did not leave in the recording."""

    def __init__(self, *, lenient: bool) -> None:
        self.lenient = lenient
        self.clock = ManualClock(1_700_000_100.0)
        self.service = LocalService(keys=[KEY], lenient=lenient, clock=self.clock)
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

    async def play(self, exchange: Row) -> tuple[httpx.Response, dict[str, list[bytes]]]:
        await self.fill()
        if exchange["name"] in MISSING_STEPS:
            MISSING_STEPS[exchange["name"]](self.service.hub("chat"))
        if "3s_after" in exchange["name"]:
            self.clock.advance(3)
        target = exchange["target"]
        for letter, *_ in CLIENTS.values():
            target = target.replace(f"{{{letter}}}", letter * 22)
        claims = exchange.get("claims") or {}
        if not self.lenient:
            path, _, query = target.partition("?")
            claims = claims | {"aud": f"http://localhost{path}"}
            if not path.lower().startswith("/api/v1/"):
                target = f"{path}?{query}&api-version=2022-06-01"
        token = sign(exchange, claims)
        request = httpx.Request(
            exchange["method"],
            self.http.base_url,
            headers=[(name, value.replace("<token>", token)) for name, value in exchange["headers"]],
            content=raw(exchange["body"]),
        )
        request.url = request.url.copy_with(raw_path=target.replace("<token>", token).encode())
        response = await self.http.send(request)
        received = {
            name: [frame for frame in client.take() if frame not in PINGS]
            for name, client in self.clients.items()
        }
        return response, {name: got for name, got in received.items() if got}


def sign(exchange: Row, claims: dict[str, Any]) -> str:
    if exchange["name"] == "auth_bad_signature":
        return encode_token(claims, "x" * 44)
    if exchange["alg"] not in (None, "HS256"):
        return jwt.encode(claims, KEY.ljust(64, "="), algorithm=exchange["alg"])
    return encode_token(claims, KEY)


@pytest.fixture(params=[True, False], ids=["lenient", "strict"])
async def room(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    room = Room(lenient=request.param)
    await room.fill()
    yield room
    await room.http.aclose()
    await room.service.aclose()


def is_equal(exchange: Row, response: httpx.Response, received: dict[str, list[bytes]]) -> bool:
    """Status, messages, the body of a success, which methods are allowed and why a token is refused."""
    expected = {name: [raw(frame) for frame in frames] for name, frames in exchange["received"]}
    if (response.status_code, received) != (exchange["status"], expected):
        return False
    if response.is_success and response.content != raw(exchange["answered"]):
        return False
    return all(is_said(name, value, response.headers.get(name, "")) for name, value in exchange["answer"])


def is_said(name: str, recorded: str, ours: str) -> bool:
    if name == "Allow":
        return sorted(ours.split(", ")) == sorted(recorded.split(", "))
    return ours.startswith(recorded.rstrip('"'))  # we say more


COUNTS = {
    "lenient": {"equal": 232, "different": 45, "excluded": 3},
    "strict": {"equal": 195, "different": 64, "excluded": 21},
}


async def test_recorded_rest_calls_replay(room: Room) -> None:
    mode = "lenient" if room.lenient else "strict"
    different = DIFFERENT if room.lenient else DIFFERENT | STRICT
    skipped = () if room.lenient else LENIENT_ONLY
    head, exchanges = load("rest_exchanges.jsonl")
    counts = {"equal": 0, "different": 0, "excluded": len(head["excluded"])}
    unused = {start for start in different if not start.startswith(skipped)}
    for exchange in exchanges:
        name = exchange["name"]
        if name.startswith(skipped):
            counts["excluded"] += 1
            continue
        response, received = await room.play(exchange)
        if is_equal(exchange, response, received):
            counts["equal"] += 1
            continue
        reasons = {start for start in different if name.startswith(start)}
        assert reasons, f"{name}: {response.status_code}, {response.headers}, {received}; recorded {exchange}"
        unused -= reasons
        counts["different"] += 1
    print(f"recorded REST calls, {mode}: {counts}")
    assert not unused
    assert counts == COUNTS[mode]
