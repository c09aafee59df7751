"""Replay what was recorded from Microsoft's Functions extension (``vectors/trigger_exchanges.jsonl``).

Source: Azure/azure-functions-signalrservice-extension 3e87c3c, run as the notes beside the recording say; "row" in the
reasons below is a row of the table "Weaknesses and oddities" in those notes, "design" the project's error table.

Every exchange is one of

* equal: the same status and bytes, and the handler saw the same;
* equal for the client: other bytes that tell the client, or where it does not wait the service, the same;
* different, for a reason;
* excluded.
"""

import base64
import collections
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from signalr_upstream import Context, UpstreamApp
from signalr_upstream.protocol.upstream import decode_answer, encode_error

from .extension_functions import Seen, extension_hubs
from .recorded import Row, load, raw
from .support import RestService, post

pytestmark = pytest.mark.anyio

KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/ABCDE="
SECOND_KEY = "SecondKey_ABCDEFGHIJKLMNOPQRSTUVWXYZ01234567"
OTHER_KEY = "OtherKey_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ENDPOINT = "Endpoint=https://{}.service.signalr.net;AccessKey={};Version=1.0;"
PATH = "/runtime/webhooks/signalr"


class Difference(NamedTuple):
    """What we do otherwise: exchanges with this outcome, recorded and ours, whose name begins so."""

    outcomes: str
    names: tuple[str, ...]
    rows: int
    reason: str


ARGUMENTS = ("json-arguments-", "arg-", "date-", "serverlesshub-broadcast-wrong-count", "msgpack-arg")
BODIES = ("json-", "body-", "reason-phrase-", "content-type-", "disconnected-", "msgpack-")
ORDER = "design: the signature is checked first, so that a stranger learns nothing and no body is read"

# The first entry that fits counts.
DIFFERENT = [
    Difference("error -> error", ("throw-",), 11, "row 9: only the text of a HubError is for the caller"),
    Difference("error -> error", ("filter-",), 1, "row 37: require= comes before the arguments are bound"),
    Difference("error -> error", ARGUMENTS, 93, "rows 6, 7: both refuse; we name argument and reason"),
    Difference("error -> 400", ("json-arguments-null",), 1, "design: arguments are an array"),
    Difference("500 -> error", ("json-type-4",), 1, "a stream() that no handler answers is told so"),
    Difference(
        "500 -> 400", BODIES, 62, "row 11: the caller's fault, not to be retried, and no text in a reason"
    ),
    Difference(
        "500 -> 400", ("header-missing-",), 2, "design: a header that is missing is the caller's fault"
    ),
    Difference("500 -> 415", ("content-type-",), 4, "a missing or unreadable type is not JSON"),
    Difference("500 -> 415", ("disconnected-msgpack",), 1, "row 23: connection events are JSON"),
    Difference("result -> error", ("date-", "msgpack-arg-t_datetime"), 9, "row 5: dates are as in RFC 3339"),
    Difference(
        "result -> error",
        ("arg-", "msgpack-arg-"),
        47,
        "row 5: nothing is converted to another type, and a number out of range is no Infinity",
    ),
    Difference(
        "error -> result", ("arg-", "date-", "msgpack-arg-"), 30, "rows 4, 20: every type can be bound"
    ),
    Difference("result -> result", ("date-",), 43, "row 1: a string that looks like a date stays as it is"),
    Difference("result -> result", ("json-invocation-", "arg-t_jobject"), 2, "row 3: as row 1"),
    Difference("result -> result", ("query-repeated-",), 2, "row 34: every value is kept, keys have a case"),
    Difference("result -> result", ("arg-t_decimal",), 1, "row 5: a Decimal has all digits that were sent"),
    Difference(
        "result -> result", ("return-",), 5, "rows 29, 30: durations, enums, names as msgspec has them"
    ),
    Difference("result -> result", ("msgpack-arg-object-uint64",), 2, "row 26: no wrapping around"),
    Difference("result -> result", ("msgpack-arg-",), 6, "row 25: timestamps and extensions are read"),
    Difference("500 -> result", ("msgpack-arg-ext-in-map",), 1, "row 25: as above"),
    Difference(
        "500 -> result", ("msgpack-arg-object-map-int-key",), 1, "row 27: keys of a map may be numbers"
    ),
    Difference("500 -> result", ("msgpack-type-uint64",), 1, "row 24: an integer of any width"),
    Difference("500 -> result", ("return-",), 2, "NaN is null, as in JavaScript's JSON; a dict is a map"),
    Difference("500 -> result", ("content-type-trailing-semicolon",), 1, "the media type can be read"),
    Difference("415 -> result", ("content-type-",), 2, "a media type has no case"),
    Difference("result -> 400", ("json-invocation-invocationId",), 1, "row 21: an invocation id is a string"),
    Difference(
        "result -> 400", ("json-invocation-both", "json-type-"), 4, "row 18: type is 1, and said once"
    ),
    Difference("result -> 400", ("json-noargs-",), 1, "row 8: arguments are never absent"),
    Difference("result -> 400", ("msgpack-arg-",), 1, "design: invalid UTF-8"),
    Difference(
        "result -> 400", ("body-trailing-garbage", "msgpack-"), 5, "rows 17, 24: one message, and no more"
    ),
    Difference(
        "result -> error",
        ("body-lone-surrogate",),
        1,
        "half of a surrogate pair is no text; the argument is named",
    ),
    Difference("result -> 400", ("body-",), 11, "row 16: JSON as in RFC 8259, in valid UTF-8"),
    Difference("result -> 405", ("method-",), 4, "design: upstream calls are POST"),
    Difference("done -> 405", ("method-",), 1, "design: upstream calls are POST"),
    Difference("500 -> 405", ("method-",), 1, "design: upstream calls are POST"),
    Difference("401 -> result", ("signature-",), 3, "row 13: spaces do not matter, and all lines are read"),
    Difference("500 -> 401", ("signature-", "header-"), 5, ORDER),
    Difference("404 -> 401", ("signature-",), 1, ORDER),
    Difference("415 -> 401", ("signature-",), 1, ORDER),
    Difference("result -> 401", ("other-hub-",), 1, "row 14: a hub with its own connection has its own keys"),
    Difference("result -> 401", ("header-duplicate-",), 1, "row 36: of two connection ids none is believed"),
    Difference("result -> 404", ("event-", "hub-"), 2, "row 15: invisible characters are characters"),
    Difference("500 -> 404", ("event-",), 1, "row 15: as above"),
    Difference("done -> 400", ("connected-", "disconnected-"), 3, "rows 22, 23: the body says what happened"),
    Difference("done -> done", ("disconnected-error-datelike",), 1, "row 3: as row 1"),
    Difference("None -> error", ("return-r_cycle",), 1, "row 31: it does not kill the process"),
]


# --- the exchanges ---


def exchanges() -> Iterator[Row]:
    """The recorded exchanges, with whole headers, and bodies as bytes."""
    head, rows = load("trigger_exchanges.jsonl")
    for row in rows:
        row["headers"] = [
            (name.replace("~", "X-ASRS-").encode(), value.strip().encode())
            for name, given in (head["headers"] | row["headers"]).items()
            if given is not None
            for value in ([given] if isinstance(given, str) else given)
        ]
        row["body"], row["answer"] = raw(row["body"]), raw(row["answer"])
        yield row


def header(row: Row, name: str) -> str | None:
    return next((v.decode() for n, v in row["headers"] if n.decode().lower() == name.lower()), None)


def is_binary(row: Row) -> bool:
    return (header(row, "Content-Type") or "").startswith("application/x-msgpack")


def told(row: Row, status: int, body: bytes) -> Any:
    """What the client hears of an answer; where nobody waits for one, whether the service may be content."""
    invocation_id = invocation_id_of(row)
    if header(row, "X-ASRS-Category") == "connections" or not invocation_id:
        return "done" if status in (200, 204) else status
    told = decode_answer(status, body, invocation_id=invocation_id, binary=is_binary(row))
    if not told.result:
        return told.error
    return "result", repr(
        msgspec.msgpack.decode(told.result) if is_binary(row) else json.loads(bytes(told.result))
    )


def invocation_id_of(row: Row) -> str | None:
    """The id a client sent; "7" where the body cannot be read, since nearly every recorded call has it."""
    try:
        if is_binary(row):
            return str(msgspec.msgpack.decode(row["body"], strict=False)[2] or "")
        message = {key.lower(): value for key, value in json.loads(row["body"]).items()}
        return str(message.get("invocationid") or "")
    except (ValueError, AttributeError, TypeError, LookupError):
        return "7"


# --- what the handlers saw ---


def saw_the_same(row: Row, ctx: Context, values: tuple[Any, ...]) -> bool:
    saw = row["saw"]
    if saw.get("query", "") is None:
        return True  # a function that was bound to something else than the context
    arguments = saw.get("arguments", [])
    bound = saw.get("bound", arguments)
    query = saw.get("query", {"hub": "chat", "id": "abc"})
    ours = {key: ",".join(ctx.query.getlist(key)) for key in ctx.query}
    return (
        ctx.connection_id == saw.get("connection_id", header(row, "X-ASRS-Connection-Id"))
        and ctx.user_id == saw.get("user_id", header(row, "X-ASRS-User-Id"))
        and ctx.hub == header(row, "X-ASRS-Hub")
        and ctx.event == header(row, "X-ASRS-Event")
        and ctx.error == saw.get("error")
        and ours == {key: value for key, value in query.items() if key not in ("id", "access_token")}
        and ctx.claims_raw == (header(row, "X-ASRS-User-Claims") or "")
        and not ctx.claims  # none of these claims was sealed by us
        and same(["Object[]", arguments], list(ctx.arguments))
        and (not bound or same(["Object[]", bound], list(values)))
    )


def same(recorded: Any, value: Any) -> bool:
    """Whether a CLR value, stored as ``[type, text]``, is a Python value."""
    if recorded is None or value is None:
        return recorded is value
    clr_type, text = recorded
    match clr_type:
        case "Object[]":
            return len(text) == len(value) and all(same(a, b) for a, b in zip(text, value, strict=True))
        case clr_type if clr_type.startswith("Dictionary"):
            return text.keys() == value.keys() and all(same(text[key], value[key]) for key in text)
        case "Int32" | "Int64" | "UInt64" | "BigInteger":
            return isinstance(value, int) and str(value) == text
        case "Byte":
            return bool(value == int(text))
        case "Double" | "Single":
            return math.isclose(value, float(text), rel_tol=0) or math.isnan(value) == math.isnan(float(text))
        case "Decimal":
            return isinstance(value, Decimal) and value == Decimal(text)
        case "Byte[]":
            return bool(value == base64.b64decode(text))
        case "JObject" | "JArray":
            return bool(json.loads(text) == value)
        case "Poco":
            return True  # the answer tells that it was made
    return str(value) == text if clr_type != "Boolean" else bool(value is text)


# --- the replay ---


def kind_of(row: Row, answer: httpx.Response, seen: Seen) -> str:
    status, body = row["status"], row["answer"]
    if bool(seen) != (row["saw"] is not None) or (seen and not saw_the_same(row, *seen[0])):
        return "different"
    if (status, body) == (answer.status_code, answer.content):
        return "equal"
    if told(row, status, body) == told(row, answer.status_code, answer.content):
        return "equal for the client"
    return "different"


def outcome(status: int | None, body: bytes) -> str:
    if status not in (200, 204) or not body:
        return "done" if status in (200, 204) else str(status)
    return "error" if b'"error":' in body or b"\x80\xa17\x01" in body else "result"


def reason_for(row: Row, answer: httpx.Response) -> Difference:
    recorded = outcome(row["status"], row["answer"])
    outcomes = f"{recorded} -> {outcome(answer.status_code, answer.content)}"
    for difference in DIFFERENT:
        if difference.outcomes == outcomes and row["name"].startswith(difference.names):
            return difference
    raise AssertionError(f"{row['name']} is different ({outcomes}), and no reason is known")


async def test_the_extensions_exchanges_have_the_same_answers_but_for_listed_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OtherConnection", ENDPOINT.format("other", OTHER_KEY))
    seen: Seen = []
    app = UpstreamApp(
        *extension_hubs(seen),
        connection_string=[ENDPOINT.format("default", KEY), ENDPOINT.format("second", SECOND_KEY)],
        path=PATH,
        http_client=RestService().client,
    )
    found: dict[str, int] = dict.fromkeys(("equal", "equal for the client", "different"), 0)
    differences: collections.Counter[Difference] = collections.Counter()
    for row in exchanges():
        seen.clear()
        answer = await post(app, row["headers"], row["body"], path=PATH, method=row["method"])
        kind = kind_of(row, answer, seen)
        found[kind] += 1
        if kind == "different":
            differences[reason_for(row, answer)] += 1
    found["excluded"] = 0
    print(", ".join(f"{name}: {count}" for name, count in found.items()))
    for difference, count in differences.items():
        print(f"{count:4} {difference.outcomes:17} {difference.reason}")
    assert {difference: difference.rows for difference in DIFFERENT} == differences
    assert found == {"equal": 235, "equal for the client": 62, "different": 381, "excluded": 0}


def test_an_error_has_the_bytes_that_the_extension_gives_it() -> None:
    errors = 0
    for row in exchanges():
        status, body, binary = row["status"], row["answer"], is_binary(row)
        if outcome(status, body) == "error":
            invocation_id = invocation_id_of(row) or ""
            text = decode_answer(200, body, invocation_id=invocation_id, binary=binary).error
            assert encode_error(invocation_id, text or "", binary=binary) == body, row["name"]
            errors += 1
    assert errors == 139
