"""What Microsoft's software has said, as bytes for the fuzzers to begin with; ``tests/vectors`` says from where."""

from collections.abc import Iterable
from functools import cache
from typing import Final

from ..recorded import load, load_plain, raw

MAX_SIZE: Final = 1000
"""Bytes. What is longer says nothing that is new, and makes every run slow."""


def _short(bodies: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(body for body in bodies if 0 < len(body) <= MAX_SIZE))


@cache
def upstream(*, binary: bool, answers: bool = False) -> tuple[bytes, ...]:
    """Bodies of upstream calls, or the answers to them."""
    found = []
    for name in ("upstream_exchanges.jsonl", "trigger_exchanges.jsonl"):
        head, rows = load(name)
        for row in rows:
            kind = (head["headers"] | row["headers"]).get("Content-Type")
            if (kind == "application/x-msgpack") == binary:
                found.append(raw(row["answer" if answers else "body"]))
    return _short(found)


@cache
def frames(protocol: str) -> tuple[bytes, ...]:
    """What clients and service have sent each other."""
    rows = load_plain("client_wire.jsonl")
    return _short(raw(row["data"]) for row in rows if row["protocol"] == protocol)


@cache
def handshakes() -> tuple[bytes, ...]:
    """First messages of clients, without their separator."""
    rows = load_plain("client_wire_handshakes.jsonl")
    return _short(raw(row["request"]).removesuffix(b"\x1e") for row in rows if "request" in row)


@cache
def rest_bodies() -> tuple[bytes, ...]:
    """Bodies of REST calls in JSON, to an older emulator and from the .NET SDK."""
    exchanges = (raw(row["body"]) for row in load("rest_exchanges.jsonl")[1])
    return _short([*exchanges, *(raw(row["body"]) for row in load("rest_requests.jsonl")[1])])


@cache
def rest_answers() -> tuple[bytes, ...]:
    """Bodies of the service's answers."""
    return _short(raw(row.get("answered")) for row in load("rest_exchanges.jsonl")[1])


@cache
def packed_rest_bodies() -> tuple[bytes, ...]:
    """Bodies of REST calls in MessagePack: frames by protocol."""
    return _short(raw("base64:" + row["body"]) for row in load("rest_bodies.jsonl")[1])


@cache
def headers(name: str) -> tuple[bytes, ...]:
    """Values of one header of upstream calls."""
    rows = load("upstream_headers.jsonl")[1]
    return _short(value.encode() for row in rows for key, value in row["headers"] if key == name)
