"""Our binary bodies beside those that the .NET Management SDK sent (``vectors/select_rest_bodies.py``).

What is sent is read from the recorded frame and sent again: the body has to be the same, byte by byte, but for how
JSON is escaped. Every difference is counted under its reason.
"""

import base64
from collections import Counter
from typing import Any

import msgspec
import pytest

from signalr_upstream.errors import InvalidNameError
from signalr_upstream.protocol.rest_bodies import BodyEncoder

from .recorded import Row, load


def read(body: bytes) -> tuple[dict[str, bytes], str, list[Any]]:
    """The frames by protocol, and the target and the arguments of the MessagePack one."""
    frames = msgspec.msgpack.decode(body, type=dict[str, bytes])
    frame = frames["messagepack"]
    prefix = next(index for index, byte in enumerate(frame) if byte < 0x80) + 1
    _, headers, invocation_id, target, arguments, streams = msgspec.msgpack.decode(frame[prefix:])
    assert (headers, invocation_id, streams) == ({}, None, [])
    return frames, target, arguments


WIDTH = ".NET writes integers inside lists five bytes wide, and has floats of four bytes"
TICKS = "a DateTime counts ticks of 100 ns, finer than Python's microseconds"
RANGE = "a DateTime may lie outside of the years that Python has"
JSON = ".NET's JSON and MessagePack write this type differently; ours writes one value in both"
SPACE = "a target of white space is refused; the service answers 400"
DIFFERENT = {WIDTH: 14, TICKS: 3, RANGE: 2, JSON: 22, SPACE: 2}


def difference(row: Row) -> str:
    """Why our body is another one; "" where it is the same."""
    try:
        frames, target, arguments = read(base64.b64decode(row["body"]))
        body = BodyEncoder(row["protocols"]).message(target, arguments)
    except InvalidNameError:
        return SPACE
    except ValueError:
        return RANGE
    ours, our_target, our_arguments = read(body)
    assert (list(ours), our_target, repr(our_arguments)) == (list(frames), target, repr(arguments))
    if len(ours["messagepack"]) != len(frames["messagepack"]):
        return WIDTH
    if ours["messagepack"] != frames["messagepack"]:
        return TICKS
    if "json" in ours:
        mine, theirs = (msgspec.json.decode(each["json"].removesuffix(b"\x1e")) for each in (ours, frames))
        if mine != theirs:
            return JSON
    return ""


def test_binary_bodies_equal_those_of_the_net_sdk() -> None:
    _, rows = load("rest_bodies.jsonl")

    counts = Counter(difference(row) for row in rows)

    print(f"\nbinary bodies: {counts['']} equal, {len(rows) - counts['']} different")
    assert counts == {"": 111} | DIFFERENT


@pytest.mark.parametrize("arguments", [[], [None], [1, "a"]])
def test_the_order_of_protocols_is_that_of_the_option(arguments: list[Any]) -> None:
    body = BodyEncoder(["messagepack", "json"]).message("t", arguments)

    assert list(msgspec.msgpack.decode(body)) == ["messagepack", "json"]
