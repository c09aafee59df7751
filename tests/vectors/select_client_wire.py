"""Select what clients and service said on WebSockets: run by hand with the folder of the recordings as argument.

    python tests/vectors/select_client_wire.py <recordings>

Source: ``emulator/client-wire.jsonl``, Microsoft's emulator with Microsoft's clients and a raw socket. Written next to
this file, each line once however often it was recorded, with the first scenario it was seen in:

* ``client_wire.jsonl``: ``frame`` rows, one WebSocket message behind the handshake; ``stream`` rows, all that the raw
  socket sent in one scenario (cut and malformed messages among it) and whether the service closed the connection;
* ``client_wire_handshakes.jsonl``: a handshake request and its answer, or a query of negotiate and its answer.

Left out: messages over ``MAX_SIZE`` bytes and those the recording itself holds only a digest of.
"""

import base64
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

MAX_SIZE = 4096
HERE = Path(__file__).parent
SEPARATOR = b"\x1e"
NOT_UTF8 = 1007  # WebSocket close code

Row = dict[str, Any]


def main(recordings: Path) -> None:
    wire: dict[str, Row] = {}
    handshakes: dict[str, Row] = {}
    with (recordings / "emulator/client-wire.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            scenario = json.loads(line)
            for row in _handshakes(scenario):
                key = json.dumps([row.get("query"), row.get("request"), row["answer"]])
                handshakes.setdefault(key, row)
            for row in _wire(scenario):
                key = json.dumps([row["kind"], row["client"], row["protocol"], row.get("from"), row["data"]])
                wire.setdefault(key, row)
    _write("client_wire.jsonl", wire)
    _write("client_wire_handshakes.jsonl", handshakes)


def _wire(scenario: Row) -> Iterator[Row]:
    protocol, client = scenario["protocol"], " ".join(scenario["client"].split()[:2])
    if scenario["transport"] != "websockets" or protocol not in ("json", "messagepack"):
        return
    for conn in sorted({message.get("conn", 0) for message in scenario["messages"]}):
        sent = _messages(scenario, conn, "client")
        heard = _messages(scenario, conn, "service")
        head = {"name": scenario["name"], "client": client, "protocol": protocol}
        if sent is None or heard is None or not sent or not heard or heard[0] != b"{}" + SEPARATOR:
            continue
        stream = b"".join(sent).partition(SEPARATOR)[2]
        if client.startswith("raw"):
            closed = any(b"Connection closed with an error." in data for data in heard) or any(
                message.get("close_code") == NOT_UTF8 and message["conn"] == conn
                for message in scenario["messages"]
            )
            if len(stream) <= MAX_SIZE:
                yield head | {"kind": "stream", "closed": closed, "data": _text(stream)}
        else:
            for data in sent[1:]:
                if len(data) <= MAX_SIZE:
                    yield head | {"kind": "frame", "from": "client", "data": _text(data)}
        for data in heard[1:]:
            if len(data) <= MAX_SIZE:
                yield head | {"kind": "frame", "from": "service", "data": _text(data)}


def _handshakes(scenario: Row) -> Iterator[Row]:
    messages = scenario["messages"]
    for request, answer in pairwise(messages):
        if request["kind"] == answer["kind"] == "http" and "text" in request and "text" in answer:
            called = request["text"].startswith("POST /client/negotiate?")
            if called and answer["text"].startswith("HTTP/1.1 200"):
                body = answer["text"].partition("\r\n\r\n")[2]
                # Every negotiate has new ids: one of each kind is enough.
                if "connectionId" not in body or scenario["name"].startswith("negotiate"):
                    query = request["text"].split(" ")[1].partition("?")[2]
                    yield {"name": scenario["name"], "query": query, "answer": body}
    if not scenario["name"].startswith("handshake"):
        return
    for conn in sorted({message.get("conn", 0) for message in messages}):
        sent, heard = _messages(scenario, conn, "client"), _messages(scenario, conn, "service")
        if sent and heard:
            request_bytes = b"".join(sent)
            if SEPARATOR in request_bytes and len(request_bytes) <= MAX_SIZE:
                yield {
                    "name": scenario["name"],
                    "request": _text(request_bytes.partition(SEPARATOR)[0]),
                    "answer": _text(heard[0]),
                }


def _messages(scenario: Row, conn: int, side: str) -> list[bytes] | None:
    """The WebSocket messages of one side, continuations joined; None if some of them were not recorded."""
    messages: list[bytes] = []
    for message in scenario["messages"]:
        if message.get("conn", 0) != conn or message["from"] != side:
            continue
        if message["kind"] not in ("text", "binary", "continuation"):
            continue
        if "data_base64" not in message or "sha256" in message:
            return None
        data = base64.b64decode(message["data_base64"])
        if message["kind"] == "continuation":
            messages[-1] += data
        else:
            messages.append(data)
    return messages


def _text(data: bytes) -> str:
    """Text as it is, anything else as base64 behind a marker."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()
    return text if text.isprintable() or text.startswith("{") else "base64:" + base64.b64encode(data).decode()


def _write(name: str, rows: dict[str, Row]) -> None:
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows.values()]
    (HERE / name).write_text("".join(lines), encoding="utf-8")
    print(f"{name}: {len(lines)} rows, {sum(len(line.encode()) for line in lines)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
