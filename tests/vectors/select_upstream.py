"""Select the recorded upstream exchanges that the tests replay; run by hand with the folder of the recordings.

    python tests/vectors/select_upstream.py <folder with extension/ and emulator/>

It writes ``trigger_exchanges.jsonl`` (every exchange of Microsoft's Functions extension) and
``upstream_exchanges.jsonl`` (of Microsoft's emulator: one exchange for each different body, header shape and answer;
none with a body over ``MAX_BODY`` bytes; what is there for its body or answer only has the first row's connection id,
user, query and signature, and says ``"for": "body"``).

How the files are written: ``compact.py``. Headers are stored as differences to ``headers`` in the first line of each
file: ``null`` takes a header away, a list gives it several lines, and ``~`` stands for ``X-ASRS-``. A body is text or
``base64:...``; ``saw`` that is null (of the extension): no function was called; ``answer`` that is null (of the
emulator): nothing to be replayed.
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import compact  # type: ignore[import-not-found] # beside this script

MAX_BODY = 2048
Row = dict[str, Any]
_LEFT_OUT = ("host", "traceparent", "content-length")
_OF_THE_BODY = ("X-ASRS-Category", "X-ASRS-Event", "Content-Type")
_SEEN_DEFAULTS: Row = {"error": None, "arguments": [], "query": {"hub": "chat", "id": "abc"}}
_DEFAULTS: Row = {"method": "POST", "headers": {}, "status": 200}
_TRIGGER_DEFAULTS = _DEFAULTS | {"answer": "", "saw": None}
_UPSTREAM_DEFAULTS = _DEFAULTS | {
    "target": None,
    "for": "body",
    "body": "",
    "arguments": None,
    "answer": None,
    "saw": "result",
}
_TRIGGER_TEXTS = {
    "①": r'"b":"{\"type\":1,\"invocationId\":\"7\",\"target\":\"two\",\"arguments\":[\"hi\",42]}"',
    "②": '"s":{"arguments":[["String","hi"],["Int64","42"]],"bound":[["String","hi"],["Int32","42"]]}',
    "③": r'"a":"{\"type\":3,\"invocationId\":\"7\",\"result\":\"hi|42\"}\u001e"',
    "④": r"\"error\":\"One or more errors occurred. (Exception binding parameter "
    r"""'ctx') (Exception binding parameter 'v')\"}\u001e""",
    "⑥": r'"b":"{\"type\":1,\"invocationId\":\"7\",\"target\":\"t_',
    "⑦": r'"a":"{\"type\":3,\"invocationId\":\"7\",',
    "⑧": r"\",\"arguments\":[",
    "⑨": '"h":{"~Event":"t_',
    "⑩": '"Content-Type":"application/x-msgpack"',
    "⑪": r"\"result\":\"",
    "⑫": r'"b":"{\"type\":1,\"invocationId\":\"7\",\"target\":\"r_',
    "⑬": '"h":{"~Event":"r_',
    "⑭": "sha256=eac5bc106745a35f68ec11cc8c285946343df008454b27f0e07c1ca6782ca9dd",
    "⑤": '"s":{"arguments":[[',
}
_UPSTREAM_TEXTS = {
    "①": '"h":{"~Category":"messages","~Event":"',
    "②": '"h":{"~Event":"disconnected"},"b":"{\\"Type\\":11',
    "③": r'"b":"{\"type\":1,\"invocationId\":\"',
    "④": r'"a":"{\"type\":3,\"invocationId\":\"',
    "⑤": r"\",\"target\":\"",
    "⑥": r"\",\"arguments\":[",
    "⑦": '","Content-Type":"application/x-msgpack"}',
    "⑧": "nbf: 1700000000, exp: 4102444800, iat: 1700000000, aud: http://localhost:8888/client/?hub=chat",
    "⑨": '"~Signature":"sha256=',
    "⑩": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/",
    "⑪": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    "⑫": "Invocation failed, status code ",
    "⑬": '"h":{"~Connection-Id":"',
    "⑭": '","~Client-Query":"?hub=',
}


def main(source: Path) -> None:
    """Write both files."""
    write(
        "trigger_exchanges.jsonl",
        _read(source / "extension" / "trigger-exchanges.jsonl"),
        _trigger,
        source="Azure/azure-functions-signalrservice-extension 3e87c3c: extension/trigger-exchanges.jsonl",
        defaults=_TRIGGER_DEFAULTS,
        short=_TRIGGER_TEXTS,
    )
    rows = [row for row in _read(source / "emulator" / "upstream-exchanges.jsonl") if _is_small(row)]
    write(
        "upstream_exchanges.jsonl",
        _distinct(rows),
        _upstream,
        source="Azure/azure-signalr 31686ed (emulator): emulator/upstream-exchanges.jsonl",
        defaults=_UPSTREAM_DEFAULTS,
        short=_UPSTREAM_TEXTS,
    )


def write(
    name: str, rows: list[Row], compacted: Any, *, source: str, defaults: Row, short: dict[str, str]
) -> None:
    """The headers of the first row become the usual ones, and each row has the differences to them."""
    first = rows[0]["request"]["headers"]
    usual = {_short(header): value for header, value in first if header.lower() not in _LEFT_OUT}
    compact.write(
        name,
        [{"name": "", **defaults} | compacted(row, usual) for row in rows],
        source=source,
        keys={
            "n": "name",
            "m": "method",
            "t": "target",
            "f": "for",
            "h": "headers",
            "b": "body",
            "v": "arguments",
            "c": "status",
            "a": "answer",
            "s": "saw",
        },
        defaults=defaults,
        short=short,
        headers=usual,
    )


# --- the extension ---


def _trigger(row: Row, defaults: Row) -> Row:
    request, response = row["request"], row["response"]
    found: Row = {"name": row["name"]}
    if request["method"] != "POST":
        found["method"] = request["method"]
    found |= _headers(request["headers"], defaults)
    found["body"] = _body(request["body_base64"])
    found |= _answer(response)
    seen = (row["function_saw"] or {}) | {"context": (row["function_saw"] or {}).get("context")}
    if "function" in seen:
        found["saw"] = _seen(seen, dict(request["headers"]))
    return found


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
    found: Row = {"name": row["name"]}
    if request["method"] != "POST":
        found["method"] = request["method"]
    if request["target"] != f"/{headers['X-ASRS-Hub']}/{headers['X-ASRS-Category']}/{row['event']}":
        found["target"] = request["target"]
    found["for"] = row["for"]
    if row["for"] == "body":
        of_the_body = {_short(name): defaults[_short(name)] for name in _OF_THE_BODY}
        found |= _headers([item for item in request["headers"] if item[0] in _OF_THE_BODY], of_the_body)
    else:
        names = [_short(name) for name in headers if name.lower() not in _LEFT_OUT]
        assert names == [name for name in defaults if name in names], "the order is that of the first row"
        found |= _headers(request["headers"], defaults)
    found["body"] = _body(request["body_base64"])
    if "body_msgpack_decoded" in request:
        found["arguments"] = request["body_msgpack_decoded"][4]
    if headers["X-ASRS-Category"] == "messages" and response.get("body_base64") is not None:
        found |= _answer(response)
        found["saw"] = _client_saw(row)
    return found


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
    return {"status": response.get("status"), "answer": _body(response.get("body_base64") or "")}


def _short(header: str) -> str:
    return header.replace("X-ASRS-", "~")


def _body(encoded: str) -> str:
    body = base64.b64decode(encoded)
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"base64:{encoded}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
