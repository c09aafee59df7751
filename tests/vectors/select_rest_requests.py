"""Select what the .NET Management SDK sent, and how it took failures, for ``test_client_recorded.py``.

Run by hand: ``python tests/vectors/select_rest_requests.py <folder of the recorded exchanges>``; how the files are
written: ``compact.py``. It translates each C# call into one of ours; what has no counterpart here is left out and
counted in the file's first line.

``rest_requests.jsonl``: a call and its request; most names that have to be escaped are in a table in the first line
(``positions``, ``escaped``: see ``by_name_at_position``).

``rest_failures.jsonl``: an answer, and ``outcomes``, each ``[exception, returned value, *methods]``; the calls of the
methods are in the first line.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote

from compact import write  # type: ignore[import-not-found] # beside this script

SOURCE = "Microsoft.Azure.SignalR.Management 1.25.1 (Azure/azure-signalr 31686ed), REST mode: management/"
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
REQUEST_DEFAULTS = {
    "call": ["clients.all"],
    "request": None,
    "body": USUAL_BODY,
    "aud": None,
    "hub": "chat",
    "application": "",
    "connection_string": "Endpoint=http://localhost:18888;AccessKey=<key>",
}
REQUEST_TEXTS = {
    "①": "/api/hubs/chat/",
    "②": "?api-version=2022-06-01",
    "③": r'"{\"Target\":\"t\",\"Arguments\":',
    "④": '["groups.add","g1",{"connection_id":"c1"}]',
    "⑤": '"Endpoint=http://localhost:18888;AccessKey=<key>',
    "⑥": '["connections.close","c1",{"reason":"',
    "⑦": '["users.add_to_group","u1",{"group":"g1","ttl":',
    "⑧": '["clients.group","g1",{"excluding":["',
}
FAILURE_TEXTS = {"①": "AzureSignalR", "②": "AggregateException"}

Call = list[Any]
Row = dict[str, Any]


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


def translate(row: Row) -> Row | None:
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
    rows = []
    for text in source.read_text().strip().split("\n"):
        row = json.loads(text)
        chosen = translate(row)
        if chosen is None:
            left_out[row["name"].partition("/")[0]] += 1
            continue
        request = row["request"]
        chosen = REQUEST_DEFAULTS | chosen
        if request:
            chosen["request"] = f"{request['method']} {request['target']}"
            chosen["body"] = request.get("body_text") or USUAL_BODY
            audience = row["token"]["claims"]["aud"]
            if audience != "http://localhost" + re.sub(r"&(excluded|ttl|reason)=.*", "", request["target"]):
                chosen["aud"] = audience
        rows.append({"name": row["name"], **chosen})
    positions, escaped, others = by_name_at_position(rows)
    write(
        "rest_requests.jsonl",
        others,
        source=SOURCE,
        keys={
            "n": "name",
            "c": "call",
            "r": "request",
            "b": "body",
            "a": "aud",
            "h": "hub",
            "p": "application",
            "s": "connection_string",
        },
        defaults=REQUEST_DEFAULTS,
        short=REQUEST_TEXTS,
        left_out=dict(sorted(left_out.items())),
        positions=positions,
        escaped=escaped,
    )


def by_name_at_position(rows: list[Row]) -> tuple[dict[str, Call], list[Call], list[Row]]:
    """``escape/<position>/<name>`` as tables: the same names at the same positions make the same rows again and again.

    Position -> its letter, call and request, with ``{}`` for the name; ``[name, escaped, letters]``; other rows.
    """
    forms: dict[str, Counter[str]] = {}
    for row in rows:
        section, where, name = (
            row["name"].split("/", 2) if row["name"].startswith("escape/") else ("", "", "")
        )
        if section and row["request"]:
            form = json.dumps([row["call"], row["request"].replace(quote(name, safe=""), "{}")])
            forms.setdefault(where, Counter())[form.replace(json.dumps(name), '"{}"')] += 1
    letters = dict(zip(sorted(forms), ascii_lowercase, strict=False))
    positions = {where: [letters[where], *json.loads(forms[where].most_common(1)[0][0])] for where in letters}
    escaped: dict[str, Call] = {}
    others = []
    for row in rows:
        where, _, name = row["name"].removeprefix("escape/").partition("/")
        if where in positions and row == {**row, **at_position(positions[where], name)}:
            escaped.setdefault(name, [name, quote(name, safe=""), ""])[2] += letters[where]
        else:
            others.append(row)
    return positions, list(escaped.values()), others


def at_position(position: Call, name: str) -> Row:
    """What a row says that needs no words of its own."""
    call = json.loads(json.dumps(position[1]).replace('"{}"', json.dumps(name)))
    return REQUEST_DEFAULTS | {"call": call, "request": position[2].replace("{}", quote(name, safe=""))}


def select_failures(source: Path) -> None:
    left_out: Counter[str] = Counter()
    calls: dict[str, Call | None] = {}
    cases: dict[str, Row] = {}
    for text in source.read_text().strip().split("\n"):
        row = json.loads(text)
        _, _, name = row["name"].partition("/")
        method, _, case = name.partition("/")
        if row["config"] != "no RetryOptions" or method == "health" or not name:
            left_out["health" if method == "health" else row["config"]] += 1
            continue
        answers = row["answer"]
        answers = next(iter(answers.values())) if "status" not in answers else [answers]
        answers = [
            [a["status"], a["headers"], a["body"], *([a["match"]] if "match" in a else [])] for a in answers
        ]
        found = cases.setdefault(case, {"case": case, "answers": answers, "outcomes": {}})
        call = by_method(method, row["call"])
        assert (call, answers) == (calls.setdefault(method, call), found["answers"]), row["name"]
        exception = (row["saw"]["exception"] or "").rpartition(".")[2]
        returned = row["saw"]["return"]
        found["outcomes"].setdefault(json.dumps([exception, returned]), []).append(method)
    for found in cases.values():
        found["outcomes"] = [[*json.loads(saw), *methods] for saw, methods in found["outcomes"].items()]
    write(
        "rest_failures.jsonl",
        cases.values(),
        source=SOURCE,
        keys={"c": "case", "a": "answers", "o": "outcomes"},
        short=FAILURE_TEXTS,
        left_out=dict(sorted(left_out.items())),
        calls=calls,
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    select_requests(folder / "management" / "rest-requests.jsonl")
    select_failures(folder / "management" / "failures.jsonl")
