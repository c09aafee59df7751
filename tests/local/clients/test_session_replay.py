"""Recorded connections of real clients to Microsoft's emulator, played to our session.

The client's frames go in as recorded and the app's recorded answers are given; compared are the bytes for the
client and the upstream calls (events and bodies).
"""

from typing import Any

import pytest

from signalr_upstream.protocol import upstream as wire
from signalr_upstream.protocol.messages import CloseConnection, Completion, Invocation, OpenConnection

from ...recorded import load, raw
from .session_driver import Driver

PINGS = (b'{"type":6}\x1e', b"\x02\x91\x06")

EXCLUDED = {  # name or its beginning -> why there is nothing to compare
    "conn_control_claim": "a claim with NUL: refused when the headers are built, see test_upstream",
    "frame_": "violations of the WebSocket protocol: uvicorn and websockets answer them",
    "hub_empty": "refused before there is a session, see test_app",
    "hub_missing": "as hub_empty",
    "invoke_big17c": "17 MiB, see test_upstream",
    "invoke_chunked": "the recording holds the chunked encoding, which is not the session's business",
    "invoke_slow105": "the app's time limit, see test_upstream",
    "json_invalid_utf8_textframe": "websockets closes with 1007, as Microsoft's",
    "rest_": "caused by REST calls, see test_rest_replay",
    "template_nomatch": "no app: an error says so, see test_upstream; in Microsoft's the client waits for ever",
    "ws_empty_hub": "as hub_empty",
    "ws_no_hub": "as hub_empty",
}
DIFFERENT = {  # name or its beginning -> why we do otherwise
    "args_11": "more than 10 arguments are dropped there and the client waits for ever; here they arrive",
    "json_args11": "as args_11",
    "mp_args11": "as args_11",
    "argkind_arr": "nested MessagePack integers are widened there (argkind_arrays in NOTES); here bytes stay",
    "argkind_maplens": "as argkind_arr",
    "argkind_objects": "as argkind_arr",
    "argkind_strings": "strings are written anew there, as JSON and as MessagePack; here the client's bytes stay",
    "cancel_invoke": "the app answers another invocation: relayed there, an error here",
    "conn_unicode": "non-ASCII header values are never sent there (invoke fails with 500); here they are UTF-8",
    "handshake_trailing": "bytes between the handshake's JSON and its end are ignored there",
    "hub_unicode": "as conn_unicode",
    "invoke_html": "an answer that is no completion breaks the client there; here it is an error that says so",
    "invoke_invocation": "as invoke_html",
    "invoke_noid": "as invoke_html",
    "invoke_norecsep": "as invoke_html",
    "invoke_otherproto": "as invoke_html",
    "invoke_pingmsg": "as invoke_html",
    "invoke_plain": "as invoke_html",
    "invoke_redir302": "redirects are followed there, with the signature; here 302 is an error",
    "invoke_resultanderror": "as invoke_html",
    "invoke_st_200": "as invoke_html",
    "invoke_streamitem": "as invoke_html",
    "invoke_twocompletions": "as invoke_html",
    "invoke_wrongid": "as invoke_html; there the client waits for ever",
    "json_noninvocation_then_ok": "as stream",
    "json_strings_escaped": "as argkind_strings",
    "json_deep70": "deep nesting closes the connection there; here it arrives, and the app refuses it",
    "json_trailing_comma": "invalid JSON in arguments drops the message there, and the client waits for ever",
    "json_ws_order_whitespace": "white space inside arguments is dropped there; here the client's bytes stay",
    "mp_args_nil": "arguments that are no array drop the message there, and the client waits for ever",
    "mp_args_map": "as mp_args_nil",
    "mp_array_nonminimal": "as argkind_arr",
    "mp_bin_nonminimal": "as argkind_arr",
    "mp_ext": "extension types drop the message there, and the client waits for ever; here they arrive",
    "mp_int_nonminimal": "as argkind_arr",
    "mp_map_": "keys other than text drop the message there; here the bytes arrive, and the app judges",
    "mp_nested": "as argkind_arr",
    "mp_str_invalid_utf8": "replaced there; here the bytes arrive, and the app refuses them",
    "mp_str_nonminimal": "as argkind_arr",
    "mp_stream_invocation": "as stream",
    "mp_text_frame": "MessagePack in a text message that is UTF-8 is closed with 1007 there, read here",
    "mp_trailing_bytes": "bytes behind a message inside its frame are ignored there",
    "mp_truncated": "dropped there, and the client waits for ever",
    "mp_ts96_nanos": "timestamps are shortened there; here the bytes stay",
    "mp_uint_nonminimal": "as argkind_arr",
    "name_newline": "a line break in a target kills the connection there; here the invocation fails",
    "stream": "stream() waits for ever there; here it fails and says why",
}


def recorded() -> list[dict[str, Any]]:
    """The connections; ``in`` and ``out`` are bytes (None: the client closes), as are the bodies of ``calls``."""
    _, rows = load("sessions.jsonl")
    for row in rows:
        messages = [None if text is None else raw(text) for text in row["in"] + row["out"]]
        row["in"], row["out"] = messages[: len(row["in"])], messages[len(row["in"]) :]
        row["calls"] = [call(messages, *described) for described in row["calls"]]
    return rows


def call(
    messages: list[bytes | None],
    event: str,
    body: str | int,
    status: int | None = 200,
    answer: str | int | None = None,
) -> tuple[str, bytes, int | None, bytes]:
    """An upstream request and its answer; a body that is a number is that message of the client's connection."""
    asked = (messages[body] or b"").removesuffix(b"\x1e") if isinstance(body, int) else raw(body)
    answered = (messages[answer] or b"") if isinstance(answer, int) else raw(answer)
    return event, asked, status, answered


def reason(reasons: dict[str, str], name: str) -> str | None:
    return next((why for start, why in reasons.items() if name.startswith(start)), None)


class Replay(Driver):
    """The app answers as it did when it was recorded."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        super().__init__()
        self.told: list[tuple[str, bytes]] = []
        self._answers = list(scenario["calls"])

    def play(self, data: bytes | None) -> None:
        if data is None:
            self.client_leaves()
        else:
            self.client_sends(data)
        while self.calls:
            self._answer()

    def _answer(self) -> None:
        message = self.calls.pop(0)
        _, _, status, body = self._answers.pop(0) if self._answers else ("", b"", 200, b"")
        completion = None
        match message:
            case OpenConnection():
                self.told.append(("connected", wire.encode_connected()))
            case CloseConnection():
                self.told.append(("disconnected", wire.encode_disconnected(message.error)))
            case Invocation():
                binary = self.session.binary
                self.told.append((message.target, wire.encode_invocation(message, binary=binary)))
                if message.invocation_id:
                    completion = (
                        Completion(message.invocation_id, error="Invocation failed, status code 500")
                        if status is None
                        else wire.decode_answer(
                            status, body, invocation_id=message.invocation_id, binary=binary
                        )
                    )
        self.app_answers(completion)


def play(scenario: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
    replay = Replay(scenario)
    for data in scenario["in"]:
        replay.play(data)
    replay.play(None)
    return b"".join(data for data in replay.written if data not in PINGS), replay.told


def without_texts(out: bytes, calls: list[tuple[str, bytes]]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The same without the words of errors that only people read: of the handshake, and for the app."""
    if b"An unexpected error occurred during connection handshake" in out:
        out = b"handshake error"
    return out, [
        (event, b"error" if event == "disconnected" and b'"Error":' in body else body)
        for event, body in calls
    ]


def judge(scenario: dict[str, Any]) -> str:
    expected = b"".join(scenario["out"]), [(event, body) for event, body, *_ in scenario["calls"]]
    ours = play(scenario)
    if ours == expected:
        return "equal"
    return "equal but for error texts" if without_texts(*ours) == without_texts(*expected) else "different"


def test_recorded_connections_replay() -> None:
    counts = {"equal": 0, "equal but for error texts": 0, "different": 0, "excluded": 0}
    unused = set(EXCLUDED) | set(DIFFERENT)
    for scenario in recorded():
        verdict = judge(scenario)
        for name, clients in scenario["of"].items():
            unused -= {start for start in unused if name.startswith(start)}
            assert not reason(EXCLUDED, name), name
            if verdict == "different":
                assert reason(DIFFERENT, name), f"{name} ({clients}) differs and is not listed"
            counts[verdict] += len(clients)
    head, _ = load("sessions.jsonl")
    for name, clients in head["excluded"].items():
        unused -= {start for start in unused if name.startswith(start)}
        assert reason(EXCLUDED, name), name
        counts["excluded"] += len(clients)
    print(f"recorded connections: {counts}")
    assert not unused
    assert counts == {"equal": 346, "equal but for error texts": 40, "different": 112, "excluded": 44}


@pytest.mark.parametrize("size", [1, 3])
def test_cutting_the_clients_bytes_differently_changes_nothing(size: int) -> None:
    for scenario in recorded():
        cut = [
            data for whole in scenario["in"] for data in ([None] if whole is None else pieces(whole, size))
        ]
        assert play(scenario | {"in": cut}) == play(scenario), scenario["of"]


def pieces(whole: bytes, size: int) -> list[bytes]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]
