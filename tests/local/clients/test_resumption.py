"""Stateful reconnect: what a session says to a client whose socket broke, and a proof that nothing is lost or repeated.

Expected bytes are those of the trace in the reference, section 3.9, and of the spec of the two messages.
"""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.local.clients import reasons
from signalr_upstream.local.clients.resumption import BUFFER, FIRST_WORDS, MAX_KEPT
from signalr_upstream.local.clients.states import State
from signalr_upstream.protocol.handshake import PROTOCOLS, HubProtocol
from signalr_upstream.protocol.messages import (
    Ack,
    CloseConnection,
    Completion,
    HubMessage,
    Invocation,
    Sequence,
)

from .session_driver import Driver, connected

HANDSHAKE = b'{"protocol":"json","version":2}\x1e'
MESSAGEPACK_HANDSHAKE = b'{"protocol":"messagepack","version":2}\x1e'
PING = b'{"type":6}\x1e'
CLOSE = b'{"type":7}\x1e'


def said(number: int) -> bytes:
    """A message of the service."""
    return b'{"type":1,"target":"m","arguments":[%d]}\x1e' % number


def sent(number: int) -> bytes:
    """A message of the client, as the trace has it."""
    return b'{"target":"a","arguments":[%d],"type":1}\x1e' % number


def sequence(number: int) -> bytes:
    return b'{"type":9,"sequenceId":%d}\x1e' % number


def ack(number: int) -> bytes:
    return b'{"type":8,"sequenceId":%d}\x1e' % number


def resumable() -> Driver:
    driver = connected(HANDSHAKE, stateful=True)
    driver.time_passes(FIRST_WORDS)
    return driver


def calls(driver: Driver) -> list[bytes]:
    return [bytes(call.arguments) for call in driver.take_calls() if isinstance(call, Invocation)]


# --- what is said ---


def test_the_trace_of_a_real_client_replays() -> None:
    driver = resumable()
    driver.client_sends(PING)
    driver.client_sends(sent(1))
    driver.app_answers()
    driver.service_sends(said(1))
    driver.service_sends(said(2))
    driver.client_sends(ack(2))
    assert driver.take_written() == [said(1), said(2)]
    driver.transport_breaks()
    driver.service_sends(said(3))
    assert driver.take_written() == []

    driver.client_returns()
    driver.client_sends(sequence(1) + sent(1) + sent(2))
    driver.app_answers()
    driver.time_passes(1.0)

    assert driver.take_written() == [sequence(3), said(3), ack(2)]
    assert calls(driver) == [b"[1]", b"[2]"], "the first one came again and was skipped"


def test_messagepack_clients_are_told_in_messagepack() -> None:
    driver = connected(MESSAGEPACK_HANDSHAKE, stateful=True)
    # reference: the JS package's bytes of send("alice",42)
    driver.client_sends(bytes.fromhex("11950180c0a473656e6492a5616c6963652a"))
    driver.app_answers()
    driver.time_passes(1.0)
    driver.transport_breaks()

    driver.client_returns()

    assert driver.take_written() == [bytes.fromhex("03920801"), bytes.fromhex("03920901")]


def test_what_arrives_is_acknowledged_once_a_second_at_most() -> None:
    driver = resumable()

    for number in range(3):
        driver.client_sends(sent(number))
        driver.app_answers()
        driver.time_passes(0.4)
    assert driver.take_written() == [ack(3)]
    driver.client_sends(sent(3))
    driver.app_answers()
    driver.time_passes(0.9)
    assert driver.take_written() == []
    driver.time_passes(0.1)

    assert driver.take_written() == [ack(4)]


def test_an_acknowledgement_that_was_lost_is_given_again() -> None:
    driver = resumable()
    driver.client_sends(sent(1))
    driver.app_answers()
    driver.time_passes(1.0)
    assert driver.take_written() == [ack(1)]
    driver.transport_breaks()
    driver.client_returns()
    driver.client_sends(sequence(1) + sent(1))
    driver.take_written()

    driver.time_passes(1.0)

    assert driver.take_written() == [ack(1)]


@pytest.mark.parametrize(
    ("handshake", "stateful"), [(HANDSHAKE, False), (b'{"protocol":"json","version":1}\x1e', True)]
)
def test_a_client_that_has_not_asked_for_it_in_both_places_cannot_return(
    handshake: bytes, stateful: bool
) -> None:
    driver = connected(handshake, stateful=stateful)
    driver.client_sends(sent(1))
    driver.app_answers()
    driver.time_passes(2.0)

    driver.transport_breaks()

    assert driver.take_written() == []
    assert not driver.session.resumable
    assert driver.session.state is State.LEAVING


def test_what_belongs_to_one_socket_is_not_counted() -> None:
    driver = resumable()
    driver.client_sends(PING + sent(1) + b'{"type":99}\x1e' + ack(0))
    driver.app_answers()
    driver.time_passes(29)
    driver.transport_breaks()
    driver.time_passes(20)
    driver.take_written()

    driver.client_returns()
    driver.client_sends(sequence(2) + sent(2))

    assert driver.take_written() == [sequence(1)], "no pings again"
    assert calls(driver) == [b"[1]", b"[2]"]


@pytest.mark.parametrize("number", [3, 10**12])
def test_a_client_that_goes_on_with_a_message_too_far_is_closed_with_the_texts_of_the_spec(
    number: int,
) -> None:
    driver = resumable()
    driver.client_sends(sent(1))
    driver.app_answers()
    driver.take_calls()
    driver.transport_breaks()
    driver.client_returns()
    driver.take_written()

    driver.client_sends(sequence(number))

    text = "Sequence ID greater than amount of messages we've received."
    assert driver.take_written() == [b'{"type":7,"error":"%s","allowReconnect":true}\x1e' % text.encode()]
    assert driver.hung_up
    assert driver.take_calls() == [CloseConnection(text)]


@pytest.mark.parametrize("number", [0, -5])
def test_a_client_that_goes_back_before_its_first_message_is_closed(number: int) -> None:
    driver = resumable()

    driver.client_sends(sequence(number))

    assert b"begin with 1" in driver.take_written()[0]


def test_a_client_that_goes_back_without_a_new_socket_is_understood_and_one_that_left_is_not_taken_back() -> (
    None
):
    driver = resumable()
    driver.client_sends(sent(1) + sequence(1) + sent(1) + sent(2) + CLOSE + sequence(3))
    driver.app_answers()
    driver.app_answers()

    assert calls(driver) == [b"[1]", b"[2]"]
    assert not driver.session.resumable


def test_a_client_may_return_twice_before_its_repetitions_are_through() -> None:
    driver = resumable()
    driver.client_sends(sent(1) + sent(2) + sent(3))
    for _ in range(3):
        driver.app_answers()
    driver.transport_breaks()
    driver.client_returns()
    driver.client_sends(sequence(1) + sent(1))

    driver.client_returns()
    driver.client_sends(sequence(4) + sent(4))

    assert calls(driver) == [b"[1]", b"[2]", b"[3]", b"[4]"]


def test_what_waited_when_the_socket_was_replaced_is_taken_from_the_new_one() -> None:
    driver = resumable()
    driver.client_sends(sent(1) + sent(2) + sent(3)[:5])
    driver.client_returns()
    driver.client_sends(sent(2))  # before its Sequence: of no meaning
    driver.client_sends(sequence(1) + sent(1) + sent(2) + sent(3))
    for _ in range(3):
        driver.app_answers()

    assert calls(driver) == [b"[1]", b"[2]", b"[3]"]
    assert driver.session.state is State.IDLE


def test_what_was_repeated_is_kept_until_something_newer_has_arrived() -> None:
    # The JavaScript client counts from our Sequence on, and takes no higher one before all of it came again.
    driver = resumable()
    driver.service_sends(said(1))
    driver.transport_breaks()
    driver.client_returns()
    driver.client_sends(sequence(1) + ack(1))  # of the first time; the second is still on its way
    driver.transport_breaks()
    driver.take_written()

    driver.client_returns()
    assert driver.take_written() == [sequence(1), said(1)]
    driver.service_sends(said(2))
    driver.client_sends(sequence(1) + ack(2))
    driver.client_returns()

    assert driver.take_written() == [said(2), sequence(3)]


# --- the beginning ---


def test_messages_wait_until_the_client_has_spoken() -> None:
    # The JavaScript client in Node does not count what comes together with the answer to its handshake.
    driver = connected(HANDSHAKE, stateful=True)
    driver.service_sends(said(1))
    driver.service_sends(said(2))
    assert driver.take_written() == []

    driver.client_sends(PING)
    driver.service_sends(said(3))

    assert driver.take_written() == [said(1), said(2), said(3)]


def test_messages_do_not_wait_long_for_a_client_that_says_nothing() -> None:
    driver = connected(HANDSHAKE, stateful=True)
    driver.service_sends(said(1))

    driver.time_passes(FIRST_WORDS - 0.1)
    assert driver.take_written() == []
    driver.time_passes(0.1)

    assert driver.take_written() == [said(1)]


def test_the_first_messages_come_before_a_close_and_survive_a_cut() -> None:
    closed, cut = (connected(HANDSHAKE, stateful=True) for _ in range(2))
    closed.service_sends(said(1))
    closed.service_closes()
    cut.service_sends(said(1))
    cut.transport_breaks()
    cut.client_returns()

    assert closed.take_written() == [said(1), b'{"type":7,"allowReconnect":true}\x1e']
    assert cut.take_written() == [sequence(1), said(1)]


# --- the buffer ---


def big(number: int) -> bytes:
    return said(number).replace(b"[", b'["' + b"x" * 30_000 + b'",')


def test_no_more_than_the_buffer_is_under_way_and_acknowledgements_release_the_rest() -> None:
    driver = resumable()

    for number in range(1, 7):
        driver.service_sends(big(number))
    assert driver.take_written() == [big(number) for number in range(1, 5)], (
        f"over {BUFFER} bytes with the 4th"
    )
    driver.client_sends(ack(1))
    assert driver.take_written() == [big(5)]
    driver.client_sends(ack(3))

    assert driver.take_written() == [big(6)]


def test_what_is_held_back_is_sent_before_a_close() -> None:
    driver = resumable()
    for number in range(1, 7):
        driver.service_sends(big(number))

    driver.service_closes("bye")

    written = driver.take_written()
    assert written[:6] == [big(number) for number in range(1, 7)]
    assert written[6] == b'{"type":7,"error":"bye","allowReconnect":true}\x1e'


def test_a_client_that_returns_gets_what_the_buffer_allows_at_first() -> None:
    driver = resumable()
    driver.transport_breaks()
    for number in range(1, 7):
        driver.service_sends(big(number))

    driver.client_returns()
    assert driver.take_written() == [sequence(1), *[big(number) for number in range(1, 5)]]
    driver.client_sends(sequence(1) + ack(4))

    assert driver.take_written() == [big(5), big(6)]


def test_acknowledgements_of_what_was_never_sent_do_no_harm() -> None:
    driver = resumable()
    driver.client_sends(ack(99) + ack(-1))
    driver.service_sends(said(1))
    driver.transport_breaks()

    driver.client_returns()

    assert driver.take_written() == [said(1), sequence(1), said(1)]


@pytest.mark.parametrize("away", [True, False])
def test_a_client_for_which_too_much_is_kept_is_closed(away: bool) -> None:
    driver = resumable()
    if away:
        driver.transport_breaks()

    for _ in range(MAX_KEPT // len(big(1)) + 1):
        driver.service_sends(big(1))

    assert driver.take_calls() == [CloseConnection(reasons.NOT_ACKNOWLEDGING)]
    assert not driver.joined
    assert bool(driver.take_written()) is not away


# --- away ---


def test_a_client_that_is_away_can_be_reached_for_30_seconds() -> None:
    driver = resumable()
    driver.transport_breaks()

    driver.time_passes(29.9)
    assert (driver.joined, driver.session.resumable) == (True, True)
    driver.time_passes(0.1)

    assert (driver.joined, driver.session.resumable) == (False, False)
    assert driver.take_calls() == [CloseConnection()]
    assert driver.take_written() == []
    assert driver.session.deadline is None


def test_a_call_goes_on_while_the_client_is_away_and_its_answer_is_kept() -> None:
    driver = resumable()
    driver.client_sends(b'{"type":1,"invocationId":"0","target":"slow","arguments":[]}\x1e' + sent(2))
    driver.transport_breaks()
    driver.app_answers(Completion("0", result=Raw(b"1")))
    driver.app_answers()
    assert driver.session.state is State.IDLE
    assert calls(driver) == [b"[]", b"[2]"]

    driver.client_returns()

    assert driver.take_written() == [sequence(1), b'{"type":3,"invocationId":"0","result":1}\x1e']


def test_a_client_that_stays_away_while_its_call_runs_is_told_to_the_app_behind_it() -> None:
    driver = resumable()
    driver.client_sends(sent(1))
    driver.transport_breaks()

    driver.time_passes(30)
    assert not driver.joined
    assert driver.session.state is State.DRAINING
    driver.app_answers()

    assert driver.calls[-1] == CloseConnection()


def test_frames_that_a_lenient_service_passes_on_are_counted_one_by_one() -> None:
    driver = resumable()
    driver.client_sends(b'{"type":1,"invocationId":"0","target":"t","arguments":[]}\x1e')
    answer = b'{"type":3,"invocationId":"0"}\x1e'
    driver.app_answers(said(1) + PING + b'{"type":99}\x1e' + answer)
    assert driver.take_written() == [said(1), PING, answer]
    driver.client_sends(ack(1))
    driver.transport_breaks()

    driver.client_returns()

    assert driver.take_written() == [sequence(2), answer]


def test_a_client_that_said_close_is_not_waited_for() -> None:
    driver = resumable()
    driver.client_sends(CLOSE + sent(1))
    driver.app_answers()
    assert not driver.session.resumable

    driver.transport_breaks()

    assert driver.session.state is State.LEAVING


def test_a_client_that_closes_its_socket_in_good_order_is_not_waited_for() -> None:
    driver = resumable()

    driver.client_leaves()

    assert driver.session.state is State.LEAVING
    assert not driver.session.resumable


def test_a_transport_that_breaks_before_the_handshake_is_the_end() -> None:
    driver = Driver(stateful=True)

    driver.transport_breaks()

    assert driver.session.state is State.CLOSED


# --- both ends ---


class FarEnd:
    """A client's end, written from Microsoft's MessageBuffer.js and not from our code."""

    def __init__(self, protocol: HubProtocol) -> None:
        self.protocol = protocol
        self.got: list[HubMessage] = []
        self.splitter = protocol.splitter()
        self.unacknowledged: list[tuple[int, bytes]] = []
        self.total = 0
        self.next = 1
        self.latest = 0
        self.waits_for_sequence = False
        self.connected = True
        self.owes_ack = False

    def send(self, message: HubMessage) -> bytes:
        frame = self.protocol.encode(message)
        self.total += 1
        self.unacknowledged.append((self.total, frame))
        return frame if self.connected else b""

    def receive(self, data: bytes) -> None:
        for payload in self.splitter.feed(data):
            message = self.protocol.decode(payload)
            assert message is not None
            if isinstance(message, Sequence):
                assert message.sequence_id <= self.next
                self.next = message.sequence_id
                self.waits_for_sequence = False
            elif self.waits_for_sequence:
                pass
            elif isinstance(message, Ack):
                self.unacknowledged = [item for item in self.unacknowledged if item[0] > message.sequence_id]
            elif isinstance(message, Invocation | Completion):
                number, self.next = self.next, self.next + 1
                if number > self.latest:
                    self.latest = number
                    self.got.append(message)
                self.owes_ack = True

    def ack(self) -> bytes:
        owes, self.owes_ack = self.owes_ack, False
        return self.protocol.encode(Ack(self.latest)) if owes and self.connected else b""

    def lose(self) -> None:
        self.connected = False
        self.waits_for_sequence = True

    def resume(self) -> bytes:
        self.connected = True
        self.splitter = self.protocol.splitter()
        first = self.unacknowledged[0][0] if self.unacknowledged else self.total + 1
        frames = [frame for _, frame in self.unacknowledged]
        return self.protocol.encode(Sequence(first)) + b"".join(frames)


class Wire:
    """A client and a session with a network between them that can be cut anywhere."""

    def __init__(self, name: str) -> None:
        self.protocol = PROTOCOLS[name]
        handshake = HANDSHAKE if name == "json" else MESSAGEPACK_HANDSHAKE
        self.driver = connected(handshake, stateful=True)
        self.client = FarEnd(self.protocol)
        self.up = bytearray()  # on the way to the service
        self.down = bytearray()
        self.noticed = True  # by the service, that the last socket is gone
        self.invoked = 0
        self.answered = 0
        self.broadcast = 0

    def client_invokes(self, size: int) -> None:
        arguments = self.protocol.encode_values([self.invoked, "x" * size])
        self.up += self.client.send(Invocation("a", arguments, str(self.invoked)))
        self.invoked += 1

    def service_broadcasts(self, size: int) -> None:
        arguments = self.protocol.encode_values([self.broadcast, "x" * size])
        self.driver.service_sends(self.protocol.encode(Invocation("m", arguments)))
        self.broadcast += 1

    def app_answers(self, _: int) -> None:
        if self.driver.session.state is State.CALLING:
            self.driver.app_answers(Completion(str(self.answered)))
            self.answered += 1

    def bytes_arrive(self, count: int) -> None:
        self._collect()
        if self.client.connected:
            self.driver.client_sends(bytes(self.up[:count]))
            self.client.receive(bytes(self.down[:count]))
            del self.up[:count], self.down[:count]
            self._collect()

    def time_passes(self, _: int) -> None:
        self.driver.time_passes(1.0)
        self.up += self.client.ack()

    def is_cut(self, which: int) -> None:
        """The service learns of it at once, or when the client is back."""
        self._collect()
        self.client.lose()
        self.up.clear()
        self.down.clear()
        if which % 2:
            self.driver.transport_breaks()

    def comes_back(self, _: int) -> None:
        if not self.client.connected:
            self._collect()
            self.down.clear()
            self.driver.client_returns()
            self.up += self.client.resume()

    def settles(self) -> None:
        self.comes_back(0)
        for _ in range(100):
            self.bytes_arrive(10**9)
            self.app_answers(0)
            self.time_passes(0)

    def _collect(self) -> None:
        written = b"".join(self.driver.take_written())
        if self.client.connected:
            self.down += written


Step = tuple[Callable[[Wire, int], None], int]


def step(do: Callable[[Wire, int], None], *numbers: int) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(do), st.integers(0, 300) | st.sampled_from(numbers or (0,)))


STEPS = st.lists(
    st.one_of(
        step(Wire.client_invokes, 40_000),
        step(Wire.service_broadcasts, 40_000),
        step(Wire.app_answers),
        step(Wire.bytes_arrive, 10**6),
        step(Wire.time_passes),
        step(Wire.is_cut),
        step(Wire.comes_back),
    ),
    min_size=10,
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(["json", "messagepack"]), steps=STEPS)
def test_whatever_is_cut_nothing_is_lost_repeated_or_out_of_order(name: str, steps: list[Step]) -> None:
    wire = Wire(name)
    for do, number in steps:
        do(wire, number)

    wire.settles()

    numbers = msgspec.json.decode if name == "json" else msgspec.msgpack.decode
    to_client = [numbers(got.arguments)[0] for got in wire.client.got if isinstance(got, Invocation)]
    answers = [message.invocation_id for message in wire.client.got if isinstance(message, Completion)]
    to_app = [call.invocation_id for call in wire.driver.calls if isinstance(call, Invocation)]
    assert to_client == list(range(wire.broadcast))
    assert answers == [str(number) for number in range(wire.invoked)]
    assert to_app == [str(number) for number in range(wire.invoked)]


@given(
    name=st.sampled_from(["json", "messagepack"]),
    pieces=st.lists(
        st.binary(max_size=30)
        | st.sampled_from(
            [sent(1), PING, CLOSE, sequence(1), sequence(2), sequence(9), ack(1), b"lose", b"back"]
        )
        | st.sampled_from([bytes.fromhex("03920901"), bytes.fromhex("03920801"), bytes.fromhex("029106")]),
        max_size=12,
    ),
)
def test_no_bytes_of_a_client_that_comes_and_goes_break_the_session(name: str, pieces: list[bytes]) -> None:
    driver = connected(HANDSHAKE if name == "json" else MESSAGEPACK_HANDSHAKE, stateful=True)
    for piece in pieces:
        driver.service_sends(said(1))
        match piece:
            case b"lose":
                driver.transport_breaks()
            case b"back" if driver.session.resumable:
                driver.client_returns()
            case _:
                driver.client_sends(piece)
    driver.transport_breaks()
    driver.time_passes(30)
    while driver.calls:
        driver.calls.pop()
        driver.app_answers()

    assert driver.session.state is State.CLOSED
    assert not driver.joined
    assert driver.session.deadline is None
