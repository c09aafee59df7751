"""Select the recorded upstream exchanges that the tests replay; run by hand with the folder of the recordings.

    python tests/vectors/select_upstream.py <folder with extension/ and emulator/>

It writes ``trigger_exchanges.jsonl`` (every exchange of Microsoft's Functions extension) and
``upstream_exchanges.jsonl`` (of Microsoft's emulator: one exchange for each different body, header shape and answer;
none with a body over ``MAX_BODY`` bytes; what is there for its body or answer only has the first row's connection id,
user, query and signature, and says ``"for": "body"``).

Headers are stored as differences to ``DEFAULTS``, which is the first line of each file: ``null`` takes a header away,
a list gives it several lines, and ``~`` stands for ``X-ASRS-``. A body that is not UTF-8 is stored in hexadecimal as
``{"hex": "..."}``. A status that is not there is 200.
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

MAX_BODY = 2048
Row = dict[str, Any]
_LEFT_OUT = ("host", "traceparent", "content-length")
_OF_THE_BODY = ("X-ASRS-Category", "X-ASRS-Event", "Content-Type")
_SEEN_DEFAULTS: Row = {"error": None, "arguments": [], "query": {"hub": "chat", "id": "abc"}}


def main(source: Path) -> None:
    """Write both files."""
    rows = _read(source / "extension" / "trigger-exchanges.jsonl")
    write("trigger_exchanges.jsonl", rows, _trigger)
    rows = [row for row in _read(source / "emulator" / "upstream-exchanges.jsonl") if _is_small(row)]
    write("upstream_exchanges.jsonl", _distinct(rows), _upstream)


def write(name: str, rows: list[Row], compact: Any) -> None:
    """Write the headers of the first row as defaults, then one compact row a line."""
    first = rows[0]["request"]["headers"]
    defaults = {_short(header): value for header, value in first if header.lower() not in _LEFT_OUT}
    lines = [{"DEFAULTS": defaults}, *(compact(row, defaults) for row in rows)]
    path = Path(__file__).parent / name
    path.write_text(
        "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    )
    print(f"{name}: {len(rows)} exchanges, {path.stat().st_size} bytes")


# --- the extension ---


def _trigger(row: Row, defaults: Row) -> Row:
    request, response = row["request"], row["response"]
    compact: Row = {"name": row["name"]}
    if request["method"] != "POST":
        compact["method"] = request["method"]
    compact |= _headers(request["headers"], defaults)
    compact["body"] = _body(request["body_base64"])
    compact |= _answer(response)
    seen = (row["function_saw"] or {}) | {"context": (row["function_saw"] or {}).get("context")}
    if "function" in seen:
        compact["saw"] = _seen(seen, dict(request["headers"]))
    return compact


def _seen(seen: Row, headers: Row) -> Row:
    """What the .NET function saw, where it is not what the request's headers say."""
    context = seen["context"]
    if context is None:
        return {"arguments": None, "query": None}
    values = {
        "error": context["Error"],
        "arguments": [_clr(value) for value in context["Arguments"] or []],
        "query": dict(context["Query"] or []),
        "bound": [_clr(value) for value in seen.get("parameters", {}).values()],
        "connection_id": context["ConnectionId"],
        "user_id": context["UserId"],
    }
    same = _SEEN_DEFAULTS | {
        "bound": values["arguments"],
        "connection_id": headers.get("X-ASRS-Connection-Id"),
        "user_id": headers.get("X-ASRS-User-Id"),
    }
    return {key: value for key, value in values.items() if value != same[key]}


def _clr(value: Row | None) -> Any:
    """``[CLR type, text]``; JSON of Newtonsoft's trees as text."""
    if value is None:
        return None
    name = value["clr_type"].removeprefix("System.").removeprefix("Newtonsoft.Json.Linq.")
    if "items" in value:
        return [name, [_clr(item) for item in value["items"]]]
    if "map" in value:
        return [name, {key: _clr(item) for key, item in value["map"].items()}]
    return [name, value.get("json_text", value.get("value", value.get("value_base64")))]


# --- the emulator ---


def _upstream(row: Row, defaults: Row) -> Row:
    request, response = row["request"], row["response_sent"]
    headers = dict(request["headers"])
    compact: Row = {"name": row["name"]}
    if request["method"] != "POST":
        compact["method"] = request["method"]
    if request["target"] != f"/{headers['X-ASRS-Hub']}/{headers['X-ASRS-Category']}/{row['event']}":
        compact["target"] = request["target"]
    if row["for"] == "body":
        compact["for"] = "body"
        of_the_body = {_short(name): defaults[_short(name)] for name in _OF_THE_BODY}
        compact |= _headers([item for item in request["headers"] if item[0] in _OF_THE_BODY], of_the_body)
    else:
        names = [_short(name) for name in headers if name.lower() not in _LEFT_OUT]
        assert names == [name for name in defaults if name in names], "the order is that of the first row"
        compact |= _headers(request["headers"], defaults)
    compact["body"] = _body(request["body_base64"])
    if "body_msgpack_decoded" in request:
        compact["arguments"] = request["body_msgpack_decoded"][4]
    if headers["X-ASRS-Category"] == "messages" and response.get("body_base64") is not None:
        compact |= _answer(response)
        if _client_saw(row) != "result":
            compact["saw"] = _client_saw(row)
    return compact


def _client_saw(row: Row) -> str:
    saw = row["client_saw"] or {}
    if "error" in saw:
        error = saw["error"]
        text: str = error["message"] if isinstance(error, dict) else error.removeprefix("Error: ")
        return "error " + text
    return "result" if "result" in saw else "nothing"


def _is_small(row: Row) -> bool:
    bodies = [row["request"].get("body_base64"), row["response_sent"].get("body_base64", "")]
    return all(body is not None and len(body) * 3 // 4 <= MAX_BODY for body in bodies)


def _distinct(rows: list[Row]) -> list[Row]:
    known: set[Any] = set()
    chosen = []
    for row in rows:
        headers = dict(row["request"]["headers"])
        body = _without_id(row["request"]["body_base64"])
        media_type = headers.get("Content-Type")
        query = re.sub(r"\b(id|_)=[^&]*", r"\1=", headers["X-ASRS-Client-Query"])
        answer = (
            _without_id(row["response_sent"].get("body_base64") or ""),
            row["response_sent"].get("status"),
        )
        shape = [headers.get(f"X-ASRS-{name}") for name in ("Hub", "User-Id", "User-Claims")]
        keys = {
            ("body", media_type, body),
            # Claims over a kilobyte are one shape, whatever else is in these headers.
            ("headers", *shape, query) if len(headers["X-ASRS-User-Claims"]) < 1024 else ("headers", "long"),
            ("answer", headers["X-ASRS-Category"], media_type, *answer, _client_saw(row).split()[0]),
        }
        if not keys <= known:
            new = {kind for kind, *_ in keys - known}
            chosen.append(row | {"for": "headers" if "headers" in new else "body"})
            known |= keys
    return chosen


def _without_id(encoded: str) -> bytes:
    return re.sub(rb'"invocationId":"\d+"|(?<=[\x01\x03]\x80\xa1)\d', b"", base64.b64decode(encoded))


# --- both ---


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def _headers(lines: list[list[str]], defaults: Row) -> Row:
    given: dict[str, list[str]] = {}
    for name, value in lines:
        if name.lower() not in _LEFT_OUT:
            given.setdefault(_short(name), []).append(value)
    different: Row = {
        name: values[0] if len(values) == 1 else values
        for name, values in given.items()
        if values != [defaults.get(name)]
    }
    different |= {name: None for name in defaults if name not in given}
    return {"headers": different} if different else {}


def _answer(response: Row) -> Row:
    answer: Row = {} if response.get("status") == 200 else {"status": response.get("status")}
    return answer | {"answer": _body(response.get("body_base64") or "")}


def _short(header: str) -> str:
    return header.replace("X-ASRS-", "~")


def _body(encoded: str) -> Any:
    body = base64.b64decode(encoded)
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"hex": body.hex()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
