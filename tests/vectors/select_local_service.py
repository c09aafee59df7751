r"""Select from the recorded exchanges what the tests of the local service replay.

Run by hand: ``python tests/vectors/select_local_service.py <folder of the recorded exchanges>``; how the files are
written: ``compact.py``.

``sessions.jsonl``: WebSocket connections recorded between a real client and Microsoft's emulator. ``of`` says which
they were: the scenarios, each with a letter for every client in which all was the same. ``in`` and ``out`` are the
messages of the client (null: it closes) and of the service (without pings), text or ``base64:...``. ``calls`` are the
upstream requests (event, body) with their answers (status, body; left out where it was 200 and empty); a number
instead of a body is the message of ``in + out`` with the same bytes, but for the ``\x1e`` at a request's end. Of what
the replay excludes there are the names only, in the first line.

``upstream_headers.jsonl``: claims of a token, and the first upstream request of the connection that it opened.

``rest_exchanges.jsonl``: one REST call a line: request, status, those headers of the answer that say something, its
body if it was no error, and which clients received what. The large ones are named in the first line.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from compact import write  # type: ignore[import-not-found] # beside this script

SOURCE = "Azure/azure-signalr 31686ed (emulator), with Microsoft's clients 10 and a raw socket"
ANSWER_HEADERS = ("Allow", "WWW-Authenticate")
LARGEST = 2500  # characters of one row: larger ones show nothing new
PINGS = ('{"type":6}\x1e', "base64:ApEG")
CLIENTS = {
    ".net 10.0.12 json websockets": "n",
    ".net 10.0.12 messagepack websockets": "N",
    "js 10.0.11 json websockets": "j",
    "js 10.0.11 messagepack websockets": "J",
    "raw python socket json websockets": "r",
    "raw python socket messagepack websockets": "R",
}
EXCLUDED = (  # beginnings of names; the reasons are in test_session_replay.py
    "conn_control_claim",
    "frame_",
    "hub_empty",
    "hub_missing",
    "invoke_big17c",
    "invoke_chunked",
    "invoke_slow105",
    "json_invalid_utf8_textframe",
    "rest_",
    "template_nomatch",
    "ws_empty_hub",
    "ws_no_hub",
)
SESSION_TEXTS = {
    "①": r'},"i":["{\"protocol\":\"json\",\"version\":1}\u001e","',
    "②": r'},"i":["{\"protocol\":\"messagepack\",\"version\":1}\u001e","',
    "③": r',null],"o":["{}\u001e"',
    "④": r'],"c":[["connected","{\"type\":10}"],["',
    "⑤": r',["disconnected","{\"Type\":11}"]]}',
    "⑬": r',"{\"target\":\"res_int\",\"arguments\":[\"afterwards\"],\"invocationId\":\"1\",\"type\":1}\u001e"',
    "⑭": r'["res_int","{\"type\":1,\"invocationId\":\"1\",\"target\":\"res_int\",\"arguments\":[\"afterwards\"]}",200',
    "⑮": r',"{\"type\":3,\"invocationId\":\"1\",\"result\":42}\u001e"',
    "⑯": r',"{\"type\":1,\"invocationId\":\"probe\",\"target\":\"res_int\",\"arguments\":[\"still alive?\"]}\u001e"',
    "⑰": r',"{\"type\":3,\"invocationId\":\"probe\",\"result\":42}\u001e"',
    "⑱": '"base64:IJYBgKVwcm9iZadyZXNfaW50kaxzdGlsbCBhbGl2ZT+Q"',
    "⑲": '["res_int","base64:lgGApXByb2Jlp3Jlc19pbnSRrHN0aWxsIGFsaXZlP5A=",200',
    "⑳": r"Invocation failed, status code ",
    "⑥": r"{\"type\":1,\"invocationId\":\"",
    "⑦": r"{\"type\":3,\"invocationId\":\"",
    "⑧": r"\"target\":\"",
    "⑨": r"\"arguments\":[",
    "⑩": r"{\"type\":6}\u001e",
    "⑪": r"{\"type\":7}\u001e",
    "⑫": r"],\"invocationId\":\"",
    "␞": r"\u001e",
}
HEADERS_LEFT_OUT = {"host", "traceparent", "content-length"}
HEADER_TEXTS = {
    "①": '[["X-ASRS-Connection-Id","',
    "②": '"],["X-ASRS-Hub","',
    "③": '"],["X-ASRS-Category","connections"],["X-ASRS-Event","connected"],["X-ASRS-User-',
    "④": "nbf: 1700000000, exp: 4102444800, iat: 1700000000, aud: http://localhost:8888/client/?hub=chat",
    "⑤": '"],["X-ASRS-Client-Query","',
    "⑥": '"],["X-ASRS-Signature","sha256=',
    "⑦": '"],["Content-Type","application/json"]]',
    "⑧": '"nbf":1700000000,"exp":4102444800,"iat":1700000000,"aud":"http://localhost:8888/client/?hub=chat"',
    "⑨": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/",
    "⑩": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    "⑪": '"],["X-ASRS-User-Claims","',
}
REST_TEXTS = {
    "①": "http://localhost:8888/api/v1/hubs/chat",
    "②": '[["Authorization","Bearer <token>"],["Content-Type","application/json"]]',
    "③": '"Authorization","Bearer <token>"',
    "④": r"{\"target\": \"fromRest\", \"arguments\": [\"a\"]}",
    "⑤": "/api/hubs/chat/",
    "⑥": r'["json-u1",["{\"type\":1,\"target\":\"fromRest\",\"arguments\":[\"a\"]}\u001e"]]',
    "⑦": r'["json2-u1",["{\"type\":1,\"target\":\"fromRest\",\"arguments\":[\"a\"]}\u001e"]]',
    "⑧": '["msgpack-u2",["base64:EZYBgMCoZnJvbVJlc3SRoWGQ"]]',
}


def read(path: Path) -> list[dict[str, Any]]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def sessions(folder: Path) -> None:
    calls: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for exchange in read(folder / "upstream-exchanges.jsonl"):
        calls.setdefault((str(exchange["client"]), exchange["name"]), []).append(exchange)
    rows: dict[str, dict[str, Any]] = {}
    headers: list[dict[str, Any]] = []
    excluded: dict[str, str] = {}
    for scenario in read(folder / "client-wire.jsonl"):
        client, name = str(scenario["client"]), scenario["name"]
        called = calls.get((client, name), [])
        row = session(scenario, called)
        if client not in CLIENTS or row is None or len(json.dumps(row)) > LARGEST:
            continue
        of = excluded
        if not name.startswith(EXCLUDED):
            of = rows.setdefault(json.dumps(row), {"of": {}, **row})["of"]
        of[name] = of.get(name, "") + CLIENTS[client]
        tokens = [m["token"]["claims"] for m in scenario["messages"] if m.get("token")]
        if tokens and called and name.startswith(("conn_", "hub_")):
            headers.append({"name": name, "client": CLIENTS[client], "claims": tokens[-1]} | first(called))
    write(
        "sessions.jsonl",
        rows.values(),
        source=f"{SOURCE}: emulator/client-wire.jsonl, emulator/upstream-exchanges.jsonl",
        keys={"n": "of", "i": "in", "o": "out", "c": "calls"},
        short=SESSION_TEXTS,
        clients={letter: client for client, letter in CLIENTS.items()},
        excluded=excluded,
    )
    write(
        "upstream_headers.jsonl",
        headers,
        source=f"{SOURCE}: as sessions.jsonl, whose first line names the clients",
        keys={"n": "name", "f": "client", "c": "claims", "h": "headers", "b": "body"},
        defaults={"body": '{"type":10}'},
        short=HEADER_TEXTS,
    )


def session(scenario: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any] | None:
    frames = [
        m for m in scenario["messages"] if m["kind"] in ("text", "binary", "continuation", "raw", "ws-close")
    ]
    connections = {m["conn"] for m in frames}
    if len(connections) != 1 or scenario.get("omitted_frames"):
        return None
    if any(m["kind"] in ("continuation", "raw") for m in frames):
        return None
    if any("data_base64" not in m for m in frames if m["kind"] != "ws-close"):
        return None
    if any("body_base64" not in call["request"] for call in calls):
        return None
    sent = [message(m) for m in frames if m["from"] == "client"]
    heard = [message(m) for m in frames if m["from"] == "service" and m["kind"] != "ws-close"]
    heard = [text for text in heard if text not in PINGS]
    return {"in": sent, "out": heard, "calls": [upstream_call(call, [*sent, *heard]) for call in calls]}


def first(calls: list[dict[str, Any]]) -> dict[str, Any]:
    request = calls[0]["request"]
    headers = [pair for pair in request["headers"] if pair[0].lower() not in HEADERS_LEFT_OUT]
    return {"headers": headers, "body": plain(request["body_base64"])}


def upstream_call(call: dict[str, Any], messages: list[str | None]) -> list[Any]:
    answer = [call["response_sent"].get("status"), plain(call["response_sent"].get("body_base64"))]
    body = plain(call["request"]["body_base64"])
    described = [call["event"], index(messages, f"{body}\x1e", body)]
    return (
        described if answer == [200, ""] else [*described, answer[0], index(messages, answer[1], answer[1])]
    )


def index(messages: list[str | None], message: str | None, otherwise: str | None) -> Any:
    """Where ``message`` is, if it is longer than the number."""
    return messages.index(message) if message in messages and message else otherwise


def message(recorded: dict[str, Any]) -> str | None:
    return None if recorded["kind"] == "ws-close" else plain(recorded["data_base64"])


def plain(data: str | None) -> str | None:
    """Text as it is, anything else as ``base64:...``."""
    if data is None:
        return None
    try:
        return base64.b64decode(data).decode()
    except UnicodeDecodeError:
        return f"base64:{data}"


def received(frames: list[dict[str, Any]]) -> list[str]:
    texts = [plain(frame.get("data_base64")) for frame in frames]
    return [text for text in texts if text and text not in PINGS]


def rest(folder: Path) -> None:
    rows, excluded = [], []
    for exchange in read(folder / "rest-exchanges.jsonl"):
        request, response = exchange["request"], exchange["response"]
        body = plain(request["body_base64"]) if "body_base64" in request else request.get("body_text")
        row = {
            "name": exchange["name"],
            "method": request["method"],
            "target": request["target_template"],
            "headers": [
                pair for pair in request["headers"] if pair[0].lower() not in ("host", "content-length")
            ],
            "body": body,
            "claims": (request.get("token") or {}).get("claims"),
            "alg": (request.get("token") or {}).get("header", {}).get("alg"),
            "status": response["status"],
            "answer": [pair for pair in response["headers"] if pair[0] in ANSWER_HEADERS],
            "answered": response["body_text"] if response["status"] < 400 else "",
            "received": [
                [got["client"], frames]
                for got in exchange["clients_received"]
                if (frames := received(got["frames"]))
            ],
        }
        if row["body"] is not None and len(json.dumps(row)) <= LARGEST:
            rows.append(row)
        else:
            excluded.append(exchange["name"])
    write(
        "rest_exchanges.jsonl",
        rows,
        source=f"{SOURCE}: emulator/rest-exchanges.jsonl",
        keys={
            "n": "name",
            "m": "method",
            "t": "target",
            "h": "headers",
            "b": "body",
            "c": "claims",
            "a": "alg",
            "s": "status",
            "w": "answer",
            "d": "answered",
            "r": "received",
        },
        defaults={
            "method": "POST",
            "headers": [["Authorization", "Bearer <token>"]],
            "body": "",
            "claims": rows[0]["claims"],
            "alg": "HS256",
            "status": 202,
            "answer": [],
            "answered": "",
            "received": [],
        },
        short=REST_TEXTS,
        excluded=excluded,
    )


if __name__ == "__main__":
    source = Path(sys.argv[1]) / "emulator"
    sessions(source)
    rest(source)
