"""The life of one connection, with an injected clock and no I/O."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.local.clients import reasons
from signalr_upstream.local.clients.session import MAX_HANDSHAKE, MAX_WAITING, Session
from signalr_upstream.local.clients.states import State
from signalr_upstream.protocol.messages import (
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
)

from .session_driver import JSON_HANDSHAKE, MESSAGEPACK_HANDSHAKE, Driver, connected

SLOW = b'{"type":1,"invocationId":"0","target":"slow","arguments":[]}\x1e'
FAST = b'{"type":1,"invocationId":"1","target":"fast","arguments":[1]}\x1e'
SENT = b'{"type":1,"target":"sent","arguments":[]}\x1e'
PING = b'{"type":6}\x1e'
CLOSED_WITH_ERROR = b'{"type":7,"error":"Connection closed with an error.","allowReconnect":true}\x1e'


def targets(driver: Driver) -> list[str]:
    return [
        call.target if isinstance(call, Invocation) else type(call).__name__ for call in driver.take_calls()
    ]


# --- handshake ---


def test_the_handshake_is_answered_before_the_app_is_told() -> None:
    driver = Driver()

    driver.client_sends(JSON_HANDSHAKE)

    assert driver.take_written() == [b"{}\x1e"]
    assert driver.take_calls() == [OpenConnection()]
    assert driver.joined, "it can be reached while the app still handles `connected`"


def test_after_a_messagepack_handshake_everything_is_binary() -> None:
    driver = Driver()

    driver.client_sends(MESSAGEPACK_HANDSHAKE)

    assert driver.session.binary
    assert driver.take_written() == [b"{}\x1e"]


def test_a_handshake_may_come_byte_by_byte_with_messages_behind_it() -> None:
    driver = Driver()

    for byte in JSON_HANDSHAKE + SENT:
        driver.client_sends(bytes([byte]))
    driver.app_answers()

    assert targets(driver) == ["OpenConnection", "sent"]


def test_messages_in_the_frame_of_a_messagepack_handshake_are_taken() -> None:
    driver = Driver()

    driver.client_sends(MESSAGEPACK_HANDSHAKE + bytes.fromhex("0e950180c0a4466972659181a16101"))
    driver.app_answers()

    # reference: the JS package's own bytes of Fire({a:1})
    assert driver.calls[1] == Invocation("Fire", Raw(b"\x91\x81\xa1a\x01"))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b'{"protocol":"xml","version":1}\x1e', b"The protocol 'xml' is not supported."),
        (
            b'{"protocol":"json","version":3}\x1e',
            b"The server does not support version 3 of the 'json' protocol.",
        ),
        (b'{"protocol":"json"}\x1e', b"An unexpected error occurred during connection handshake"),
    ],
)
def test_a_bad_handshake_is_explained_and_the_app_hears_nothing(request_: bytes, error: bytes) -> None:
    driver = Driver()

    driver.client_sends(request_)

    [answer] = driver.take_written()
    assert error in answer
    assert driver.hung_up
    assert driver.calls == []
    assert driver.session.state is State.CLOSED


def test_a_client_that_says_nothing_is_let_go_after_15_seconds() -> None:
    driver = Driver()

    driver.time_passes(14.9)
    assert driver.take_written() == []
    driver.time_passes(0.1)

    assert driver.take_written() == [b'{"error":"Handshake was canceled."}\x1e']
    assert driver.hung_up


@pytest.mark.parametrize("ending", [b"", b"\x1e"])
def test_an_endless_handshake_is_refused(ending: bytes) -> None:
    driver = Driver()

    driver.client_sends(b" " * MAX_HANDSHAKE)
    driver.client_sends(b" " + ending)

    assert b"larger than 65536 bytes" in driver.take_written()[0]
    assert driver.hung_up


def test_nobody_is_told_of_a_client_that_leaves_before_its_handshake() -> None:
    driver = Driver()

    driver.client_leaves()
    driver.client_sends(JSON_HANDSHAKE)

    assert driver.session.state is State.CLOSED
    assert driver.calls == []
    assert driver.session.deadline is None


def test_a_service_that_ends_hangs_up_on_a_client_without_handshake() -> None:
    driver = Driver()

    driver.service_closes()

    assert driver.hung_up
    assert driver.written == []


# --- messages ---


def test_messages_wait_for_connected_and_for_each_other() -> None:
    driver = Driver()
    driver.client_sends(JSON_HANDSHAKE)

    driver.client_sends(SLOW + FAST)
    driver.client_sends(SENT)
    assert targets(driver) == ["OpenConnection"]
    driver.app_answers()
    assert targets(driver) == ["slow"]
    driver.app_answers(Completion("0", result=Raw(b'"done"')))
    assert targets(driver) == ["fast"]
    driver.app_answers(Completion("1", error="no"))
    assert targets(driver) == ["sent"]
    driver.app_answers()

    assert driver.take_written() == [
        b"{}\x1e",
        b'{"type":3,"invocationId":"0","result":"done"}\x1e',
        b'{"type":3,"invocationId":"1","error":"no"}\x1e',
    ]


def test_what_the_app_wrote_is_passed_on_as_it_is_and_is_a_sign_of_life() -> None:
    driver = connected()
    driver.client_sends(SLOW + FAST)
    driver.now += 10.0

    driver.app_answers(b'{"type":3, "invocationId":"0"}\x1e')

    assert driver.take_written() == [b'{"type":3, "invocationId":"0"}\x1e']
    assert targets(driver) == ["slow", "fast"]
    assert driver.session.deadline == driver.now + 15.0


def test_a_stream_is_refused_with_an_explanation_in_its_turn() -> None:
    driver = connected()
    driver.client_sends(SLOW + b'{"type":4,"invocationId":"7","target":"s","arguments":[]}\x1e')
    assert driver.take_written() == []

    driver.app_answers(Completion("0"))

    answered, refused = driver.take_written()
    assert answered == b'{"type":3,"invocationId":"0"}\x1e'
    assert (
        b'{"type":3,"invocationId":"7","error":"Invocation failed, the local service does not pass' in refused
    )


@pytest.mark.parametrize(
    "message",
    [
        b'{"type":2,"invocationId":"0","item":1}',
        b'{"type":5,"invocationId":"0"}',
        b'{"type":7}',
        b'{"type":8,"sequenceId":2}',
        b'{"type":9,"sequenceId":1}',
        b'{"type":99}',
    ],
)
def test_what_serverless_mode_has_no_use_for_is_ignored(message: bytes) -> None:
    # recorded: json_streamitem, json_close, json_ack, json_type_99
    driver = connected()

    driver.client_sends(message + b"\x1e")

    assert driver.take_written() == []
    assert driver.calls == []
    assert driver.session.state is State.IDLE


def test_garbage_closes_the_connection_and_the_app_learns_why() -> None:
    driver = connected()

    driver.client_sends(b"garbage\x1e" + FAST)

    assert driver.take_written() == [CLOSED_WITH_ERROR]
    assert driver.hung_up
    [farewell] = driver.take_calls()
    assert isinstance(farewell, CloseConnection)
    assert "not a hub message" in (farewell.error or "")


def test_a_good_message_before_garbage_is_still_answered() -> None:
    # recorded: json_ok_then_garbage_same_frame
    driver = connected()

    driver.client_sends(FAST + b"garbage\x1e")
    driver.app_answers(Completion("1", result=Raw(b'"ok"')))

    assert driver.take_written() == [b'{"type":3,"invocationId":"1","result":"ok"}\x1e', CLOSED_WITH_ERROR]


@pytest.mark.parametrize(
    "message",
    [
        b'{"type":1,"invocationId":"7","target":"","arguments":[]}',
        b'{"type":4,"invocationId":"7","target":"","arguments":[]}',
    ],
)
def test_an_empty_target_is_no_message(message: bytes) -> None:
    driver = connected()

    driver.client_sends(message + b"\x1e")

    assert driver.take_written() == [CLOSED_WITH_ERROR]
    assert driver.take_calls() == [CloseConnection("the target of an invocation is empty")]


def test_a_message_over_the_limit_closes_the_connection_before_it_is_complete() -> None:
    driver = connected(max_message=100)

    driver.client_sends(b"x" * 101)

    assert driver.take_calls() == [CloseConnection("a message is larger than 100 bytes")]


def test_the_transport_stops_reading_while_much_waits_for_a_call() -> None:
    driver = connected()
    driver.client_sends(SLOW)

    pieces = MAX_WAITING // len(SENT) // 100
    reading = []
    for _ in range(pieces + 1):
        reading.append(driver.session.reading)
        driver.client_sends(SENT * 100)
    reading.append(driver.session.reading)
    for _ in range((pieces + 1) * 100 + 1):
        driver.app_answers()

    assert reading == [True] * (pieces + 1) + [False]
    assert driver.session.reading
    assert driver.session.state is State.IDLE


def test_a_large_message_that_is_being_handled_does_not_stop_the_reading() -> None:
    # Who reads learns of a client that leaves while its call runs.
    driver = connected()

    driver.client_sends(SLOW.replace(b"[]", b'["' + b"x" * 2 * MAX_WAITING + b'"]'))

    assert len(driver.calls) == 1
    assert driver.session.reading


def test_an_answer_to_an_invocation_of_the_service_waits_its_turn() -> None:
    # The service handles the messages of one connection one at a time, these too.
    driver = connected()

    driver.client_sends(SLOW + b'{"type":3,"invocationId":"s1","result":42}\x1e' + FAST)
    assert driver.results == []
    driver.app_answers(Completion("0"))

    assert driver.results == [Completion("s1", result=Raw(b"42"))]
    assert targets(driver) == ["slow", "fast"]


# --- streams ---

STREAM = b'{"type":4,"invocationId":"7","target":"s","arguments":[1]}\x1e'
CANCEL = b'{"type":5,"invocationId":"7"}\x1e'


def test_a_stream_that_the_app_takes_on_is_open_from_its_call_on() -> None:
    driver = connected(streams=True)

    driver.client_sends(STREAM)
    assert driver.take_calls() == [StreamInvocation("7", "s", Raw(b"[1]"))]
    assert driver.session.has_stream("7"), "the app may send items before it answers"
    driver.app_answers()

    assert driver.session.has_stream("7")
    assert not driver.session.has_stream("8")
    assert driver.take_written() == []


def test_a_stream_that_the_app_does_not_take_on_ends_with_its_answer() -> None:
    driver = connected(streams=True)

    driver.client_sends(STREAM)
    driver.app_answers(Completion("7", error="no"))

    assert driver.take_written() == [b'{"type":3,"invocationId":"7","error":"no"}\x1e']
    assert not driver.session.has_stream("7")


def test_a_stream_that_was_completed_while_its_call_ran_is_not_ended_twice() -> None:
    driver = connected(streams=True)

    driver.client_sends(STREAM)
    assert driver.session.end_stream("7")
    driver.app_answers(Completion("7", error="no"))
    driver.client_sends(SLOW)
    driver.app_answers(Completion("0"))

    assert driver.take_written() == [b'{"type":3,"invocationId":"0"}\x1e']
    assert not driver.session.end_stream("7")


def test_a_cancelled_stream_is_closed_and_the_app_is_not_told() -> None:
    driver = connected(streams=True)
    driver.client_sends(STREAM)
    driver.app_answers()
    driver.take_calls()

    driver.client_sends(CANCEL)

    assert not driver.session.has_stream("7")
    assert driver.take_calls() == []
    assert driver.take_written() == []


def test_a_stream_ends_with_its_connection() -> None:
    driver = connected(streams=True)
    driver.client_sends(STREAM)
    driver.app_answers()

    driver.client_leaves()

    assert not driver.session.has_stream("7")


# --- the end ---


def test_a_clean_end_is_told_without_an_error() -> None:
    driver = connected()

    driver.client_leaves()

    assert not driver.joined
    assert driver.take_calls() == [CloseConnection()]
    driver.app_answers()
    assert driver.session.state is State.CLOSED


def test_the_app_hears_of_the_end_last_and_of_all_that_came_before() -> None:
    driver = connected()
    driver.client_sends(SLOW + SENT)

    driver.client_leaves()
    assert not driver.joined
    assert targets(driver) == ["slow"]
    driver.app_answers(Completion("0"))
    assert targets(driver) == ["sent"]
    driver.app_answers()
    assert targets(driver) == ["CloseConnection"]

    assert driver.written == [], "nobody is left to be answered"


@pytest.mark.parametrize("last_words", [b'{"type":1,"tar', SENT + b"x"])
def test_half_a_message_at_the_end_is_told_to_the_app(last_words: bytes) -> None:
    # recorded: close_partial_message
    driver = connected()

    driver.client_sends(last_words)
    driver.client_leaves()
    if driver.session.state is State.DRAINING:
        driver.app_answers()

    assert driver.calls[-1] == CloseConnection("Connection terminated while reading a message.")


def test_garbage_that_waited_is_told_to_the_app_when_its_sender_has_gone() -> None:
    driver = connected()
    driver.client_sends(SLOW + b"garbage\x1e")

    driver.client_leaves()
    driver.app_answers(Completion("0"))

    farewell = driver.calls[-1]
    assert isinstance(farewell, CloseConnection)
    assert "not a hub message" in (farewell.error or "")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("go away", b'{"type":7,"error":"go away","allowReconnect":true}\x1e'),
        (None, b'{"type":7,"allowReconnect":true}\x1e'),
        ("", b'{"type":7,"allowReconnect":true}\x1e'),
    ],
)
def test_a_close_by_the_service_reaches_the_client_and_is_a_normal_end_for_the_app(
    reason: str | None, message: bytes
) -> None:
    # recorded: close_conn, close_conn_no_reason; rest_close_reason
    driver = connected()

    driver.service_closes(reason)

    assert driver.take_written() == [message]
    assert driver.hung_up
    assert driver.take_calls() == [CloseConnection()]


def test_a_close_while_a_call_runs_drops_what_waits_and_its_answer() -> None:
    driver = connected()
    driver.client_sends(SLOW + FAST + b"half")

    driver.service_closes("bye")
    driver.client_sends(SENT)
    driver.client_leaves()
    driver.app_answers(Completion("0"))

    assert driver.take_written() == [b'{"type":7,"error":"bye","allowReconnect":true}\x1e']
    assert targets(driver) == ["slow", "CloseConnection"]


def test_a_gone_connection_takes_no_orders() -> None:
    driver = connected()
    driver.client_leaves()
    driver.take_calls()

    driver.service_closes("again")
    driver.client_leaves()
    driver.time_passes(1000)

    driver.service_sends(b"late")
    assert not driver.session.direct(driver.now)
    assert (driver.written, driver.calls) == ([], [])


# --- timers ---


def test_a_silent_service_pings_every_15_seconds() -> None:
    # recorded: timers_idle_and_handshake_timeout
    driver = connected()

    driver.time_passes(14.9)
    assert driver.take_written() == []
    driver.time_passes(30.2)

    assert driver.take_written() == [PING] * 3


def test_messagepack_clients_are_pinged_in_messagepack() -> None:
    driver = connected(MESSAGEPACK_HANDSHAKE)

    driver.time_passes(15)

    assert driver.take_written() == [b"\x02\x91\x06"]


def test_a_transport_that_shows_its_life_itself_needs_no_pings() -> None:
    # ASP.NET registers no keep-alive for long polling
    driver = connected(keep_alive=math.inf)

    driver.time_passes(100_000)

    assert driver.take_written() == []


def test_a_transport_of_text_takes_no_messagepack() -> None:
    driver = Driver(text_only=True)

    driver.client_sends(MESSAGEPACK_HANDSHAKE)

    assert driver.hung_up
    assert b"does not support 'Binary' transfer format" in driver.written[0]


def test_a_message_puts_the_ping_off() -> None:
    driver = connected()
    driver.time_passes(10)

    assert driver.session.direct(driver.now)
    driver.time_passes(10)
    assert driver.take_written() == []
    driver.time_passes(5)

    assert driver.take_written() == [PING]


def test_pings_go_on_while_the_app_is_slow() -> None:
    driver = connected()
    driver.client_sends(PING + SLOW)

    driver.time_passes(45)

    assert driver.take_written() == [PING] * 3
    assert driver.session.state is State.CALLING, "the client is not to blame for the app"


def test_a_client_that_never_pings_is_never_timed_out() -> None:
    driver = connected()

    driver.time_passes(3600)

    assert driver.session.state is State.IDLE


def test_a_client_that_pings_and_falls_silent_is_let_go() -> None:
    driver = connected()
    driver.client_sends(PING)

    driver.time_passes(29.9)
    assert driver.session.state is State.IDLE
    driver.time_passes(0.1)

    assert driver.hung_up
    assert b"Client hasn't sent a message/ping" in driver.take_written()[-1]
    assert driver.take_calls() == [CloseConnection(reasons.TIMED_OUT)]


def test_the_client_timeout_begins_anew_when_the_app_has_answered() -> None:
    driver = connected()
    driver.client_sends(PING + SLOW)
    driver.time_passes(100)

    driver.app_answers(Completion("0"))
    driver.time_passes(29)
    assert driver.session.state is State.IDLE
    driver.time_passes(1)

    assert driver.hung_up


def test_a_tick_that_comes_too_early_does_nothing() -> None:
    session = Session(now=0.0)

    assert session.tick(14.9) == []


# --- hostile clients ---


@given(
    handshake=st.sampled_from([b"", JSON_HANDSHAKE, MESSAGEPACK_HANDSHAKE, b'{"protocol":"json"']),
    pieces=st.lists(
        st.binary(max_size=40) | st.sampled_from([SLOW, SENT, PING, b"\x02\x91\x06", b"\x1e"]), max_size=8
    ),
    answers=st.booleans(),
)
def test_no_bytes_of_a_client_break_the_session(handshake: bytes, pieces: list[bytes], answers: bool) -> None:
    driver = Driver()
    for piece in [handshake, *pieces]:
        driver.client_sends(piece)
        while answers and driver.calls:
            call = driver.calls.pop()
            driver.app_answers(Completion("0") if isinstance(call, Invocation) else None)
    driver.time_passes(100)
    driver.client_leaves()
    while driver.calls:
        driver.calls.pop()
        driver.app_answers()

    assert driver.session.state is State.CLOSED
    assert not driver.joined
    assert driver.session.deadline is None
