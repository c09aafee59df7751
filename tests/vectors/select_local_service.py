"""Select from the recorded exchanges what the tests of the local service replay.

Run by hand: ``python tests/vectors/select_local_service.py <folder of the recorded exchanges>``.

``sessions.jsonl``: one WebSocket connection a line, recorded between a real client and Microsoft's emulator.
``in`` and ``out`` are the WebSocket messages of the client and of the service (``t`` text, ``b`` binary as text
or ``base64:...``, ``close`` with its code), ``calls`` the upstream requests (event, body) with their answers
(status, body; left out where the answer was 200 and empty). ``conn_*`` and ``hub_*`` also have the ``claims`` of
the token and the ``headers`` of the first upstream request.

``rest_exchanges.jsonl``: one REST call a line: request, status, and which clients received what.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LARGEST = 2500  # characters of one line: larger ones show nothing new
HEADERS_LEFT_OUT = {"host", "traceparent", "content-length"}


def read(path: Path) -> list[dict[str, Any]]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def write(name: str, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    (HERE / name).write_text(text)
    print(f"{name}: {len(rows)} rows, {len(text.encode()) // 1024} KiB")


def sessions(folder: Path) -> list[dict[str, Any]]:
    calls: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for exchange in read(folder / "upstream-exchanges.jsonl"):
        calls.setdefault((str(exchange["client"]), exchange["name"]), []).append(exchange)
    rows = []
    for scenario in read(folder / "client-wire.jsonl"):
        client = str(scenario["client"])
        if "websockets" not in client or scenario.get("omitted_frames"):
            continue
        row = session(scenario, calls.get((client, scenario["name"]), []))
        if row is not None and len(json.dumps(row)) <= LARGEST:
            rows.append({"name": scenario["name"], "client": client, **row})
    return rows


def session(scenario: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any] | None:
    frames = [
        m for m in scenario["messages"] if m["kind"] in ("text", "binary", "continuation", "raw", "ws-close")
    ]
    connections = {m["conn"] for m in frames}
    if len(connections) != 1 or any(m["kind"] in ("continuation", "raw") for m in frames):
        return None
    if any("data_base64" not in m for m in frames if m["kind"] != "ws-close"):
        return None
    if any("body_base64" not in call["request"] for call in calls):
        return None
    row: dict[str, Any] = {
        "in": [message(m) for m in frames if m["from"] == "client"],
        "out": [message(m) for m in frames if m["from"] == "service"],
        "calls": [upstream_call(call) for call in calls],
    }
    tokens = [m["token"]["claims"] for m in scenario["messages"] if m.get("token")]
    if tokens and calls and scenario["name"].startswith(("conn_", "hub_")):
        row["claims"] = tokens[-1]
        row["headers"] = [
            pair for pair in calls[0]["request"]["headers"] if pair[0].lower() not in HEADERS_LEFT_OUT
        ]
    return row


def upstream_call(call: dict[str, Any]) -> list[Any]:
    answer = [call["response_sent"].get("status"), plain(call["response_sent"].get("body_base64"))]
    described = [call["event"], plain(call["request"]["body_base64"])]
    return described if answer == [200, ""] else described + answer


def message(recorded: dict[str, Any]) -> list[Any]:
    if recorded["kind"] == "ws-close":
        return ["close", recorded.get("close_code")]
    return ["t" if recorded["kind"] == "text" else "b", plain(recorded["data_base64"])]


def plain(data: str | None) -> str | None:
    """Text as it is, anything else as ``base64:...``."""
    if data is None:
        return None
    try:
        return base64.b64decode(data).decode()
    except UnicodeDecodeError:
        return f"base64:{data}"


def rest(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for exchange in read(folder / "rest-exchanges.jsonl"):
        request = exchange["request"]
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
            "status": exchange["response"]["status"],
            "allow": dict(exchange["response"]["headers"]).get("Allow"),
            "received": [
                [got["client"], [plain(frame.get("data_base64")) for frame in got["frames"]]]
                for got in exchange["clients_received"]
            ],
        }
        if row["body"] is not None and len(json.dumps(row)) <= LARGEST:
            rows.append({key: value for key, value in row.items() if value})
    return rows


if __name__ == "__main__":
    source = Path(sys.argv[1]) / "emulator"
    write("sessions.jsonl", sessions(source))
    write("rest_exchanges.jsonl", rest(source))
