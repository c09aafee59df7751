"""Replay what Microsoft's emulator posted upstream, and what its clients made of the answers.

Source: ``vectors/upstream_exchanges.jsonl``, recorded from Azure/azure-signalr 31686ed (emulator) with the official
JavaScript and .NET clients 10; see ``vectors/select_upstream.py``. "notes" are those beside the recording.
"""

import collections
import json
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.errors import InvalidMessageError
from signalr_upstream.protocol.upstream import (
    decode_answer,
    decode_json_invocation,
    decode_msgpack_invocation,
    encode_connected,
    encode_disconnected,
    encode_error,
    encode_headers,
    encode_invocation,
    encode_result,
)

from ..recorded import Row, load, raw
from ..support import post

CONNECTION_STRING = f"Endpoint=http://localhost;Port=8888;AccessKey={EMULATOR_KEY};Version=1.0;"

# Exchange -> why we do not take it, or not as the emulator's .NET recorder would.
REQUESTS_DIFFERENT = {
    "hub_digit_first": "no hub can be called so at the service, nor at ours",
    "invoke_redir302": "notes: a redirected POST comes as GET; design: only POST",
    "name_dots": "the emulator's Uri removes the segment `..`, so path and headers disagree",
    "json_bignum": "1e400 is no float; the handler hears of it when it looks",
}
EXPLAINED = (
    "design: the client is told what is wrong, where the emulator passes on what breaks it or its connection"
)
# Scenario, named after the recorder's answer -> why the client is told something else.
ANSWERS_DIFFERENT = {
    "void": "design: None is sent as `result: null`, also to clients that wait for nothing",
    "redir302": "a redirect is not followed: the signed headers are for us only",
    **dict.fromkeys(
        ("plain", "plainrs", "html", "norecsep", "st_200", "noid", "otherproto", "resultanderror"), EXPLAINED
    ),
    **dict.fromkeys(("twocompletions", "invocationthen", "streamitem"), EXPLAINED),
}
ANSWERS_EXCLUDED = {
    "chunked": "recorded with its chunked transfer coding, which is the HTTP client's matter",
    "res_string100k": "the recording has only a digest of the answer",
    "res_bytes100k": "as res_string100k",
    "reset": "the connection was reset: there was no answer",
    "slow105": "the emulator gave up after 100 s",
    "rest_close_all_while_invoking": "the connection was closed before the answer came",
}


# --- the exchanges ---


def exchanges() -> Iterator[Row]:
    """The recorded exchanges; ``headers`` as text, ``lines`` as bytes in their order on the wire."""
    head, rows = load("upstream_exchanges.jsonl")
    for row in rows:
        given = {
            name: value for name, value in (head["headers"] | row["headers"]).items() if value is not None
        }
        row["headers"] = {name.removeprefix("~"): value for name, value in given.items()}
        row["lines"] = [
            (name.replace("~", "X-ASRS-").encode(), value.encode()) for name, value in given.items()
        ]
        row["binary"] = row["headers"].get("Content-Type") == "application/x-msgpack"
        row["body"], row["answer"] = raw(row["body"]), raw(row["answer"])
        yield row


def message_of(row: Row) -> Row:
    """What the body says, read without our decoders."""
    if row["binary"]:
        values = msgspec.msgpack.decode(row["body"])
        return {"invocationId": values[2], "target": values[3], "arguments": plain(row["arguments"])}
    return {key[0].lower() + key[1:]: value for key, value in json.loads(row["body"]).items()}


def plain(value: Any) -> Any:
    """The recorder's notation of a MessagePack value as a Python value."""
    match value:
        case {"$float32": text} | {"$float64": text}:
            return float(text)
        case {"$int": text}:
            return int(text)
        case {"$bin_hex": text}:
            return bytes.fromhex(text)
        case {"$ext": -1, "hex": text}:
            return timestamp(bytes.fromhex(text))
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def timestamp(data: bytes) -> datetime:
    """A MessagePack timestamp of 32, 64 or 96 bits, rounded to the microseconds that Python has."""
    whole = int.from_bytes(data, signed=len(data) == 12)
    match len(data):
        case 4:
            seconds, nanoseconds = whole, 0
        case 8:
            seconds, nanoseconds = whole & (2**34 - 1), whole >> 34
        case _:
            seconds = int.from_bytes(data[4:], signed=True)
            nanoseconds = int.from_bytes(data[:4])
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=seconds, microseconds=round(nanoseconds / 1000)
    )


# --- requests ---


@pytest.mark.anyio
async def test_the_emulators_requests_are_accepted_and_mean_what_they_say() -> None:
    seen: list[Context] = []
    app = UpstreamApp(*catch_all_hubs(seen), connection_string=CONNECTION_STRING)
    fixed = UpstreamApp(*app.hubs, connection_string=CONNECTION_STRING, path="/api/upstream")
    found: collections.Counter[str] = collections.Counter()
    names: set[str] = set()
    for row in exchanges():
        seen.clear()
        headers = row["headers"]
        target = row["target"] or "/{Hub}/{Category}/{Event}".format(**headers)
        answer = await post(
            fixed if target.startswith("/api") else app,
            row["lines"],
            row["body"],
            path=target,
            method=row["method"],
        )
        different = answer.status_code not in (200, 204) or wrong(row, seen[0])
        found["different" if different else "equal"] += 1
        if different:
            names.add(row["name"])
    print(f"requests: equal: {found['equal']}, different: {found['different']}, excluded: 0")
    assert found == {"equal": 363, "different": 5}
    assert names == REQUESTS_DIFFERENT.keys()


def catch_all_hubs(seen: list[Context]) -> list[Hub]:
    """Hubs that serve every legal name and every event."""

    async def message(ctx: Context, *values: msgspec.Raw) -> None:
        seen.append(ctx)

    async def connection_event(ctx: Context) -> None:
        seen.append(ctx)

    hubs = [Hub("c"), *(Hub(f"{letter}*") for letter in string.ascii_lowercase)]
    for hub in hubs:
        hub.on("*")(message)
        hub.on("connected")(connection_event)
        hub.on("disconnected")(connection_event)
    return hubs


def wrong(row: Row, ctx: Context) -> Any:
    """What a context says else than its request, or {}."""
    headers, message = row["headers"], message_of(row)
    query = parse_qsl(headers["Client-Query"].removeprefix("?"), keep_blank_values=True)
    expected = {
        "connection_id": headers["Connection-Id"],
        "hub": headers["Hub"],
        "category": headers["Category"],
        "event": headers["Event"],
        "user_id": headers.get("User-Id"),
        "claims_raw": headers["User-Claims"],
        "invocation_id": message.get("invocationId"),
        "error": message.get("error"),
        "arguments": repr(message.get("arguments", [])),
        "query": [item for item in query if item[0] not in ("id", "access_token")],
        "claims": {},
    }
    try:
        arguments = repr(list(ctx.arguments))
    except InvalidMessageError:
        arguments = "refused"
    found = {"arguments": arguments, "query": ctx.query.multi_items(), "claims": dict(ctx.claims)}
    found |= {name: getattr(ctx, name) for name in expected.keys() - found.keys()}
    return {name: (value, found[name]) for name, value in expected.items() if found[name] != value}


# --- the same requests, from us ---


def test_headers_are_encoded_as_the_emulator_writes_them() -> None:
    equal = 0
    for row in calls():
        headers = row["headers"]
        if row["for"] == "headers":
            lines = encode_headers(
                connection_id=headers["Connection-Id"],
                hub=headers["Hub"],
                category=headers["Category"],
                event=headers["Event"],
                user_id=headers.get("User-Id"),
                claims=claims_of(headers),
                client_query=headers["Client-Query"],
                signature=headers["Signature"],
                content_type=headers["Content-Type"],
            )
            assert lines == row["lines"], row["name"]
            equal += 1
    print(f"headers: equal: {equal}")
    assert equal == 71


def calls() -> Iterator[Row]:
    """The exchanges but for a redirected one, which came as GET."""
    return (row for row in exchanges() if row["method"] == "POST")


def claims_of(headers: Row) -> list[tuple[str, str]]:
    """The claims, as far as they can be told apart: those with a comma in them come in pieces, to the same effect."""
    items = re.split(r", (?=[^ ,]+: )", headers["User-Claims"])
    return [(name, value) for name, _, value in (item.partition(": ") for item in items)]


def test_bodies_are_encoded_as_the_emulator_writes_them() -> None:
    equal = 0
    for row in calls():
        if row["headers"]["Category"] == "messages":
            decode = decode_msgpack_invocation if row["binary"] else decode_json_invocation
            body = encode_invocation(decode(row["body"]), binary=row["binary"])
        elif row["headers"]["Event"] == "connected":
            body = encode_connected()
        else:
            body = encode_disconnected(message_of(row).get("error"))
        assert body == row["body"], row["name"]
        equal += 1
    print(f"bodies: equal: {equal}")
    assert equal == 367


# --- answers ---


def test_answers_are_what_the_clients_were_told() -> None:
    found = dict.fromkeys(("equal", "equal for the client", "different", "excluded"), 0)
    different: set[str] = set()
    for row in calls():
        scenario = row["name"].removeprefix("invoke").removeprefix("_")
        invocation_id = message_of(row).get("invocationId")
        if row["headers"]["Category"] == "connections":
            continue
        # A client that waits for nothing, or a bare socket that reported nothing.
        if not invocation_id or row["saw"] == "nothing" or scenario in ANSWERS_EXCLUDED:
            kind = "excluded"
        else:
            kind = kind_of(row, invocation_id)
        found[kind] += 1
        if kind == "different":
            different.add(scenario)
    print("answers:", found)
    assert found == {"equal": 153, "equal for the client": 1, "different": 29, "excluded": 91}
    assert different == ANSWERS_DIFFERENT.keys()


def kind_of(row: Row, invocation_id: str) -> str:
    """Compare what the client said it was told with our reading of the answer, and the answer with our bytes."""
    status, body, binary = row["status"], row["answer"], row["binary"]
    told = decode_answer(status, body, invocation_id=invocation_id, binary=binary)
    if row["saw"] != "result":
        assert row["saw"].startswith("error ")
        return "equal" if told.error == row["saw"].removeprefix("error ") else "different"
    if told.error is not None:
        return "different"
    if not body:
        return "equal"  # 204, or 200 with nothing: no result, as the clients said
    value = None
    if told.result:
        value = msgspec.msgpack.decode(told.result) if binary else json.loads(bytes(told.result))
    ours = encode_result(invocation_id, value, binary=binary)
    if ours == body:
        return "equal"
    again = decode_answer(200, ours, invocation_id=invocation_id, binary=binary)
    same = not binary and told.result and json.loads(bytes(again.result)) == value
    return "equal for the client" if same else "different"


def test_error_completions_are_encoded_as_the_clients_took_them() -> None:
    errors = 0
    for row in calls():
        if row["headers"]["Event"] == "error" and row["saw"].startswith("error "):
            invocation_id, error = message_of(row)["invocationId"], row["saw"].removeprefix("error ")
            assert encode_error(invocation_id, error, binary=row["binary"]) == row["answer"]
            errors += 1
    assert errors == 4
