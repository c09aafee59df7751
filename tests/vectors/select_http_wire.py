r"""Select from the recorded exchanges the connections that use HTTP requests: event streams, polls, and raw requests.

Run by hand: ``python tests/vectors/select_http_wire.py <folder of the recorded exchanges>``; how the file is written:
``compact.py``.

``http_wire.jsonl``: what one client and Microsoft's emulator said to each other. ``of`` says which scenarios it was:
each with a letter for every client in which all was the same. ``steps`` are in the order of the recording: a request
``[connection, line, headers, body]``, an answer ``[connection, status, headers, body]``, or a piece of an event
stream ``[connection, text]``; the connections are those of TCP. ``{token}`` and ``{id}`` stand for what negotiate has
given out, ``<token>`` for the access token. Left out: headers of the network and of the client's kind, the ``_`` of a
poll's query, pings of the service. ``calls`` are as in ``sessions.jsonl``, without the numbers. Of what is excluded
there are the names only, in the first line.
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

from compact import write  # type: ignore[import-not-found] # beside this script
from select_local_service import SOURCE, plain, read, upstream_call  # type: ignore[import-not-found] # beside it

LARGEST = 6000  # characters of one row: larger ones show nothing new
CLIENTS = {
    ".net 10.0.12 json longpolling": "l",
    ".net 10.0.12 json sse": "e",
    "js 10.0.11 json longpolling": "p",
    "js 10.0.11 json sse": "s",
    "js 10.0.11 messagepack longpolling": "P",
    "raw python socket - http": "r",
}
SAME_CALLS = {  # whose upstream requests were the same, and are recorded once
    ".net 10.0.12 json longpolling": ".net 10.0.12 json websockets",
    ".net 10.0.12 json sse": ".net 10.0.12 json websockets",
    "js 10.0.11 json longpolling": "js 10.0.11 json websockets",
    "js 10.0.11 json sse": "js 10.0.11 json websockets",
    "js 10.0.11 messagepack longpolling": "js 10.0.11 messagepack websockets",
}
EXCLUDED = (  # beginnings of names; the reasons are in test_http_replay.py
    "asterisk",
    "badrequestline",
    "conn_control_claim",
    "http10",
    "nohost",
)
LEFT_OUT = {
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "host",
    "sec-fetch-mode",
    "user-agent",
    "x-requested-with",
}
ANSWERS_LEFT_OUT = {"content-length", "date", "server", "transfer-encoding"}
CLAIMS = {  # of tokens whose claims were not recorded: those of all others
    "nbf": 1700000000,
    "exp": 4102444800,
    "iat": 1700000000,
    "aud": "http://localhost:8888/client/?hub=chat",
    "asrs.s.uid": "user1",
}
PING = 'data: {"type":6}\x1e\r\n\r\n'
TEXTS = {
    "①": r'"/client/?hub=chat&id={token}"',
    "②": r'[["Authorization","Bearer <token>"],["Content-Type","text/plain;charset=UTF-8"]]',
    "③": r'[["Authorization","Bearer <token>"]]',
    "④": (
        r'200,[["Content-Type","application/octet-stream"],["Cache-Control","no-cache, no-store"],["'
        r'Expires","Thu, 01 Jan 1970 00:00:00 GMT"],["Pragma","no-cache"]],'
    ),
    "⑤": r'200,[["Content-Type","text/plain"]],""]',
    "⑥": (
        r'200,[["Content-Type","application/json"]],"{\"negotiateVersion\":1,\"connectionId\":\"{id}'
        r"\",\"connectionToken\":\"{token}\",\"availableTransports\":[{\"transport\":\"WebSockets\","
        r"\"transferFormats\":[\"Text\",\"Binary\"]},{\"transport\":\"ServerSentEvents\",\"transferF"
        r"ormats\":[\"Text\"]},{\"transport\":\"LongPolling\",\"transferFormats\":[\"Text\",\"Binary"
        r'\"]}]}"'
    ),
    "⑦": (
        r'200,[["Content-Type","text/event-stream"],["Cache-Control","no-cache,no-store"],["Content-'
        r'Encoding","identity"],["Pragma","no-cache"]],""]'
    ),
    "⑧": r'"{\"protocol\":\"json\",\"version\":1}\u001e"',
    "⑨": r'"POST /client/?hub=chat&id={token}"',
    "⑩": r'"GET /client/?hub=chat&id={token}"',
    "⑪": r'"DELETE /client/?hub=chat&id={token}"',
    "⑫": r'404,[["Content-Type","text/plain"]],"No Connection with that ID"',
    "⑬": r'202,[["Content-Type","text/plain"]],""',
    "⑭": r'"POST /client/negotiate?hub=chat&negotiateVersion=1"',
    "⑮": r"\"arguments\":[",
    "⑯": r"\"invocationId\":",
    "⑰": r"{\"type\":3,",
    "⑱": r'["connected","{\"type\":10}"]',
    "⑲": r'["disconnected","{\"Type\":11}"]',
    "⑳": r'"data: {}\u001e\r\n\r\n"',
    "␞": r"\u001e",
}


def main(folder: Path) -> None:
    calls: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for exchange in read(folder / "upstream-exchanges.jsonl"):
        calls.setdefault((str(exchange["client"]), exchange["name"]), []).append(exchange)
    rows: dict[str, dict[str, Any]] = {}
    excluded: dict[str, str] = {}
    for scenario in read(folder / "client-wire.jsonl"):
        client, name = str(scenario["client"]), scenario["name"]
        if client not in CLIENTS:
            continue
        called = calls.get((client, name)) or calls.get((SAME_CALLS.get(client, ""), name), [])
        row = described(scenario, called if scenario["upstream_events"] else [])
        of = excluded
        left_out = EXCLUDED + (
            ("rest_",) if client.startswith(".net") else ()
        )  # its REST calls are not in the recording
        if row is not None and len(json.dumps(row)) <= LARGEST and not name.startswith(left_out):
            of = rows.setdefault(json.dumps(row), {"of": {}, **row})["of"]
        of[name] = of.get(name, "") + CLIENTS[client]
    write(
        "http_wire.jsonl",
        rows.values(),
        source=f"{SOURCE}: emulator/client-wire.jsonl, emulator/upstream-exchanges.jsonl",
        keys={"n": "of", "c": "claims", "s": "steps", "u": "calls"},
        defaults={"claims": CLAIMS, "calls": []},
        short=TEXTS,
        clients={letter: client for client, letter in CLIENTS.items()},
        excluded=excluded,
    )


def described(scenario: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any] | None:
    messages = scenario["messages"]
    if scenario.get("omitted_frames") or any("data_base64" not in message for message in messages):
        return None
    if any("body_base64" not in call["request"] for call in calls):
        return None
    tokens = [m["token"]["claims"] for m in messages if m.get("token") and "/client" in m["text"][:20]]
    steps: list[list[Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        step = described_message(message, names)
        if step is None:
            continue
        if len(step) == 2 and steps and len(steps[-1]) == 2 and steps[-1][0] == step[0]:
            steps[-1][1] += step[1]
        else:
            steps.append(step)
    told = [step for step in steps if step[1:] != [PING]]
    return {
        "claims": tokens[0] if tokens else CLAIMS,
        "steps": told,
        "calls": [upstream_call(call, []) for call in calls],
    }


def described_message(message: dict[str, Any], names: dict[str, str]) -> list[Any] | None:
    """A step; ``names`` are the ids that negotiate has given out, and what stands for them."""
    text = plain(message["data_base64"]) or ""
    part = message.get("part", "")
    if part.startswith("chunk"):
        return [message["conn"], unchunked(text)]
    head, _, body = split(message)
    first, *lines = head.split("\r\n")
    given = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in lines]
    if message["from"] == "client":
        method, target, _ = (first + "  ").split(" ", 2)
        target = re.sub(r"&_=\d+", "", target)
        headers = [pair for pair in given if pair[0].lower() not in LEFT_OUT and pair[1] != "*/*"]
        return [message["conn"], replaced(f"{method} {target}".strip(), names), headers, body]
    chunked = ["Transfer-Encoding", "chunked"] in given
    if chunked and not part:
        body = unchunked(body)
    if '"connectionId"' in body:
        negotiated = json.loads(body)
        names[negotiated["connectionId"]] = "{id}"
        if "connectionToken" in negotiated:
            names[negotiated["connectionToken"]] = "{token}"
    headers = [pair for pair in given if pair[0].lower() not in ANSWERS_LEFT_OUT]
    return [message["conn"], int(first.split(" ")[1]), headers, replaced(body, names)]


def split(message: dict[str, Any]) -> tuple[str, str, str]:
    """Head and body; a body that is no text is ``base64:...``."""
    head, gap, body = base64.b64decode(message["data_base64"]).partition(b"\r\n\r\n")
    return head.decode(), gap.decode(), plain(base64.b64encode(body).decode()) or ""


def unchunked(text: str) -> str:
    """The data of HTTP's chunks; all sizes are of ASCII text or followed by a chunk of their own."""
    data, rest = "", text.encode()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        data += rest[:length].decode()
        rest = rest[length + 2 :]
    return data


def replaced(text: str, names: dict[str, str]) -> str:
    for name, mark in names.items():
        text = text.replace(name, mark)
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "emulator")
