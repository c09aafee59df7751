"""Write ``negotiate.jsonl`` from the recorded exchanges: run by hand with the folder of all recordings.

    python tests/vectors/select_negotiate.py <folder with management/negotiate.jsonl>

Every recorded case is kept; the call, which is recorded as C# text, becomes our arguments.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

LIFETIMES = {"1m": 60, "5m": 300, "1h30": 5400, "10y": 315360000, "zero": 0, "500ms": 0.5, "MaxValue": 1e300}
CLAIM_TYPES = {"ClaimTypes.NameIdentifier": '"nameid"', "ClaimTypes.Role": '"role"'}


def python_literal(text: str) -> Any:
    text = re.sub(r"new string\('(.)', (\d+)\)", lambda m: repr(m[1] * int(m[2])), text)
    for name, literal in CLAIM_TYPES.items():
        text = text.replace(name, literal)
    return ast.literal_eval(text)


def arguments(entry: dict[str, Any]) -> dict[str, Any]:
    """The options that have a counterpart here; the others stay in ``call`` only."""
    call, found = entry["call"], {}
    if "connection_string" in entry["options"]:
        found["connection_string"] = entry["options"]["connection_string"]
    found["hub"] = entry["options"].get("hub", "Chat" if "Chat" in call else "chat")
    if match := re.search(r'ApplicationName="(.*?)"', call):
        found["application"] = match[1]
    if match := re.search(r'\bUserId=(".*?(?<!\\)"|new string\(.*?\))[,)]', call):
        found["user_id"] = python_literal(match[1])
    elif match := re.search(r"\bUserId=(\w+)\)", call):
        found["user_id"] = match[1]
    if match := re.search(r"TokenLifetime=(\w+)", call):
        found["lifetime"] = LIFETIMES[match[1]]
    if entry["name"] == "Claims/unicode":  # recorded with a raw control character
        found["claims"] = [["ké", "日本😀"], ["q", "\"\\/<>&'\u2028\n\u0001"]]
    elif match := re.search(r"^(?!.*HttpContext).*\bClaims=(\[.*?\])[,)]", call):
        found["claims"] = python_literal(match[1])
    return found


def main(folder: Path) -> None:
    source = folder / "management" / "negotiate.jsonl"
    target = Path(__file__).with_name("negotiate.jsonl")
    with target.open("w", encoding="utf-8") as output:
        for line in source.open(encoding="utf-8"):
            entry = json.loads(line)
            token, error = entry.get("token"), entry.get("exception")
            case = {
                "name": entry["name"],
                "call": entry["call"][:200],
                "with": arguments(entry),
                "url": entry["url"],
                "claims": token and token["claims_json"],
                "error": error and error["message"],
            }
            output.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
