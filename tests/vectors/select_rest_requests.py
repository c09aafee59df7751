"""Select what the .NET Management SDK sent, and how it took failures, for ``test_client_recorded.py``.

Run by hand: ``python tests/vectors/select_rest_requests.py <folder of the recorded exchanges>``. It translates each C#
call into one of ours; what has no counterpart here is left out and counted in the file's first line.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONG = {"1024 x": "x" * 1024, "1024 é": "é" * 1024, "4000 y": "y" * 4000, "\\ud800": "\ud800"}
TTL = {
    "0": 0,
    "1.9s": 1.9,
    "500ms": 0.5,
    "1day": 86400,
    "-1s": -1,
    "int.MaxValue s": 2**31 - 1,
    "int.MaxValue+1 s": 2**31,
    "MaxValue": 922337203685.4775,
}
USUAL_BODY = '{"Target":"t","Arguments":[1]}'

Call = list[Any]


def by_method(method: str, call: str) -> Call | None:
    """``send.group`` and its like, with the names that the C# call has in quotes."""
    names = re.findall(r'"([^"]*)"', call.partition(".SendCoreAsync")[0])
    first, last = (names[0], names[-1]) if names else ("", "")
    kind, _, rest = method.partition(".")
    if kind == "send":
        sends: dict[str, Call] = {
            "all": ["clients.all"],
            "allexcept": ["clients.all_except", names],
            "client": ["clients.connection", first],
            "clients": ["clients.connections", names],
            "group": ["clients.group", first],
            "groups": ["clients.groups", names],
            "groupexcept": ["clients.group", first, {"excluding": names[1:]}],
            "user": ["clients.user", first],
            "users": ["clients.users", names],
        }
        return sends[rest.partition(".")[0]]
    calls: dict[str, Call] = {
        "group.add": ["groups.add", last, {"connection_id": first}],
        "group.remove": ["groups.remove", last, {"connection_id": first}],
        "group.removeall": ["groups.remove_from_all", {"connection_id": first}],
        "usergroup.add": ["users.add_to_group", first, {"group": last}],
        "usergroup.add.ttl": ["users.add_to_group", first, {"group": last, "ttl": 30}],
        "usergroup.remove": ["users.remove_from_group", first, {"group": last}],
        "usergroup.removeall": ["users.remove_from_all_groups", first],
        "usergroup.isin": ["users.in_group", first, {"group": last}],
        "conn.exists": ["connections.exists", first],
        "user.exists": ["users.exists", first],
        "group.exists": ["groups.exists", first],
        "conn.close": ["connections.close", first],
        "conn.close.reason": ["connections.close", first, {"reason": last}],
    }
    return calls.get(method)


def by_position(where: str, value: str) -> Call:
    """A name at one of the positions of the ``escape/`` cases."""
    calls: dict[str, Call] = {
        "group.send": ["clients.group", value],
        "user.send": ["clients.user", value],
        "client.send": ["clients.connection", value],
        "excluded": ["clients.all_except", [value]],
        "groupexcept": ["clients.group", "g1", {"excluding": [value]}],
        "group.add.group": ["groups.add", value, {"connection_id": "c1"}],
        "group.add.conn": ["groups.add", "g1", {"connection_id": value}],
        "group.removeall": ["groups.remove_from_all", {"connection_id": value}],
        "group.exists": ["groups.exists", value],
        "usergroup.add both": ["users.add_to_group", value, {"group": value}],
        "usergroup.ttl user": ["users.add_to_group", value, {"group": "g1", "ttl": 30}],
        "usergroup.removeall": ["users.remove_from_all_groups", value],
        "usergroup.isin group": ["users.in_group", "u1", {"group": value}],
        "user.exists": ["users.exists", value],
        "conn.exists": ["connections.exists", value],
        "conn.close": ["connections.close", value],
    }
    return calls[where]


OPERATIONS: dict[str, Call] = {
    "send": ["clients.all"],
    "groupexcept": ["clients.group", "g1", {"excluding": ["c1"]}],
    "group.add": ["groups.add", "g1", {"connection_id": "c1"}],
    "usergroup.ttl": ["users.add_to_group", "u1", {"group": "g1", "ttl": 30}],
    "close": ["connections.close", "c1", {"reason": "bye"}],
}


def translate(row: dict[str, Any]) -> dict[str, Any] | None:
    """The call and the client's settings, or None."""
    name, call, about = row["name"], row["call"], row.get("about", {})
    section, _, rest = name.partition("/")
    operation = rest.rpartition("/")[2]
    value = LONG.get(about.get("value"), about.get("value"))
    if row["protocol"] != "(none: default)":
        return None  # bodies in .NET's other serializers and in MessagePack
    if section == "method":
        found = by_method(rest.partition("#")[0], call)
        return {"call": found} if found else None
    if section == "escape":
        return {"call": by_position("groupexcept" if "groupexcept" in name else about["where"], value)}
    if section == "hub" and value is not None:
        return {"call": OPERATIONS[operation], "hub": value}
    if section == "appname":
        return {"call": OPERATIONS[operation], "hub": "Chat", "application": rest.rpartition("/")[0]}
    if section == "conn" and operation in OPERATIONS:
        return {"call": OPERATIONS[operation], "connection_string": about["connection_string"] or ""}
    if section == "conn.close.reason":
        return {
            "call": ["connections.close", "c1", {"reason": None if rest == "null" else LONG.get(rest, rest)}]
        }
    if section == "usergroup.ttl":
        return {"call": ["users.add_to_group", "u1", {"group": "g1", "ttl": TTL[rest]}]}
    if section == "target" and row["request"] and rest != "\\ud800/0":
        return {"call": ["clients.all"]}
    if section in {"args", "sendasync"} and row["request"] and "body_text" in row["request"]:
        return {"call": ["clients.all"]}
    return None


def select_requests(source: Path) -> None:
    left_out: Counter[str] = Counter()
    lines = []
    for text in source.read_text().strip().split("\n"):
        row = json.loads(text)
        chosen = translate(row)
        if chosen is None:
            left_out[row["name"].partition("/")[0]] += 1
            continue
        request = row["request"]
        if request:
            chosen["request"] = f"{request['method']} {request['target']}"
            if request.get("body_text") and request["body_text"] != USUAL_BODY:
                chosen["body"] = request["body_text"]
            audience = row["token"]["claims"]["aud"]
            if audience != "http://localhost" + re.sub(r"&(excluded|ttl|reason)=.*", "", request["target"]):
                chosen["aud"] = audience
        lines.append({"name": row["name"], **chosen})
    write("rest_requests.jsonl", left_out, lines)


def select_failures(source: Path) -> None:
    left_out: Counter[str] = Counter()
    lines = []
    for text in source.read_text().strip().split("\n"):
        row = json.loads(text)
        method = row["name"].split("/")[1]
        if row["config"] != "no RetryOptions" or method == "health" or "/" not in row["name"]:
            left_out["health" if method == "health" else row["config"]] += 1
            continue
        answers = row["answer"]
        answers = next(iter(answers.values())) if "status" not in answers else [answers]
        lines.append(
            {
                "name": row["name"].partition("/")[2],
                "call": by_method(method, row["call"]),
                "answers": [
                    [a["status"], a["headers"], a["body"], *([a["match"]] if "match" in a else [])]
                    for a in answers
                ],
                "exception": (row["saw"]["exception"] or "").rpartition(".")[2],
                "returns": row["saw"]["return"],
            }
        )
    write("rest_failures.jsonl", left_out, lines)


def write(name: str, left_out: Counter[str], lines: list[dict[str, Any]]) -> None:
    head = {
        "source": "Microsoft.Azure.SignalR.Management 1.25.1, REST mode",
        "left_out": dict(sorted(left_out.items())),
    }
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in [head, *lines]) + "\n"
    (HERE / name).write_text(text)
    print(name, len(lines), "selected,", left_out.total(), "left out,", len(text), "bytes")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    select_requests(folder / "management" / "rest-requests.jsonl")
    select_failures(folder / "management" / "failures.jsonl")
