from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.errors import FrameTooLargeError, LengthPrefixError, ProtocolError
from signalr_upstream.protocol.framing import (
    BinarySplitter,
    SplitterType,
    TextSplitter,
    frame_binary,
    frame_text,
)

# HubProtocol.md, "Length Prefix": 7 bits a byte, the lowest first.
PREFIXES = {
    0: "00",
    1: "01",
    127: "7f",
    128: "8001",
    255: "ff01",
    300: "ac02",
    16383: "ff7f",
    16384: "808001",
    2097151: "ffff7f",
    2097152: "80808001",
}
# The same for lengths that no test sends: the prefix alone is enough for the limit to be passed.
LONG_PREFIXES = {268435455: "ffffff7f", 268435456: "8080808001", 2147483647: "ffffffff07"}

SPLITTERS = pytest.mark.parametrize(
    ("splitter", "frame"),
    [(TextSplitter, frame_text), (BinarySplitter, frame_binary)],
    ids=["text", "binary"],
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("length", "prefix"), PREFIXES.items())
def test_a_length_prefix_is_written_and_read_as_the_spec_shows_it(length: int, prefix: str) -> None:
    payload = bytes(length)

    assert frame_binary(payload) == bytes.fromhex(prefix) + payload
    assert BinarySplitter().feed(bytes.fromhex(prefix) + payload) == [payload]


@pytest.mark.parametrize(("length", "prefix"), LONG_PREFIXES.items())
def test_an_announced_length_is_judged_before_the_message_comes(length: int, prefix: str) -> None:
    assert BinarySplitter(length).feed(bytes.fromhex(prefix)) == []
    with pytest.raises(FrameTooLargeError) as caught:
        BinarySplitter(length - 1).feed(bytes.fromhex(prefix))
    assert caught.value.limit == length - 1


@pytest.mark.parametrize("prefix", ["8080808008", "ffffffff7f", "8080808080", "ffffffffff01"])
def test_a_prefix_over_five_bytes_or_two_gibibytes_is_refused(prefix: str) -> None:
    with pytest.raises(LengthPrefixError):
        BinarySplitter(2**40).feed(bytes.fromhex(prefix))


def test_a_message_over_two_gibibytes_is_not_sent() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**31

    with pytest.raises(LengthPrefixError):
        frame_binary(Huge())


def test_text_ends_with_the_record_separator() -> None:
    assert frame_text(b"{}") == b"{}\x1e"


@SPLITTERS
def test_an_unfinished_message_is_pending(splitter: SplitterType, frame: Callable[[bytes], bytes]) -> None:
    stream = splitter()

    assert stream.feed(frame(b"one") + frame(b"two")[:-1]) == [b"one"]
    assert stream.pending > 0
    assert stream.feed(frame(b"two")[-1:]) == [b"two"]
    assert stream.pending == 0


@SPLITTERS
def test_a_message_of_exactly_the_limit_passes(
    splitter: SplitterType, frame: Callable[[bytes], bytes]
) -> None:
    assert splitter(10).feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameTooLargeError):
        splitter(10).feed(frame(b"x" * 11))


def test_text_without_an_end_is_refused_at_the_limit() -> None:
    stream = TextSplitter(10)
    stream.feed(b"x" * 10)

    with pytest.raises(FrameTooLargeError):
        stream.feed(b"x")


def test_the_limit_counts_all_pieces_of_a_text() -> None:
    stream = TextSplitter(10)
    stream.feed(b"x" * 6)

    with pytest.raises(FrameTooLargeError):
        stream.feed(b"x" * 5 + b"\x1e")


@given(messages=st.lists(st.binary(max_size=300)), places=st.lists(st.integers(0, 5000), max_size=20))
@settings(max_examples=100)
def test_however_a_stream_is_cut_the_messages_are_the_same(messages: list[bytes], places: list[int]) -> None:
    texts = [message.replace(b"\x1e", b"") for message in messages]
    for splitter, sent, stream in (
        (BinarySplitter(), messages, b"".join(map(frame_binary, messages))),
        (TextSplitter(), texts, b"".join(map(frame_text, texts))),
    ):
        got = [message for piece in cut(stream, places) for message in splitter.feed(piece)]

        assert got == sent
        assert splitter.pending == 0


@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 200), max_size=10))
@settings(max_examples=200)
def test_hostile_bytes_give_messages_or_a_protocol_error(data: bytes, places: list[int]) -> None:
    for splitter in (BinarySplitter(100), TextSplitter(100)):
        try:
            for piece in cut(data, places):
                assert all(len(message) <= 100 for message in splitter.feed(piece))
                assert splitter.pending <= 105
        except ProtocolError:
            pass


@SPLITTERS
def test_a_message_in_single_bytes_is_not_copied_for_each_of_them(
    splitter: SplitterType, frame: Callable[[bytes], bytes]
) -> None:
    # Quadratic copying of this one would take minutes, so the time limit of the test run is the check.
    stream = splitter()
    data = frame(bytes(1_000_000))

    got = [message for index in range(len(data)) for message in stream.feed(data[index : index + 1])]

    assert got == [bytes(1_000_000)]
