"""Select the binary bodies that the .NET Management SDK sent, for ``test_client_bodies.py``.

Run by hand: ``python tests/vectors/select_rest_bodies.py <folder of the recorded exchanges>``; how the file is written:
``compact.py``. Rows are the configurations with .NET's own JSON and MessagePack protocols; the other serializers'
differ from these only in how they write JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from compact import write  # type: ignore[import-not-found] # beside this script

SOURCE = "Microsoft.Azure.SignalR.Management 1.25.1 (Azure/azure-signalr 31686ed), REST mode: management/"
PROTOCOLS = {
    "WithHubProtocols(new MessagePackHubProtocol())": ["messagepack"],
    "WithHubProtocols(new JsonHubProtocol(), new MessagePackHubProtocol())": ["json", "messagepack"],
    "WithHubProtocols(new MessagePackHubProtocol(), new JsonHubProtocol())": ["messagepack", "json"],
}


def select(source: Path) -> None:
    rows: list[dict[str, Any]] = []
    seen = set()
    for text in source.read_text().strip().split("\n"):
        row = json.loads(text)
        protocols = PROTOCOLS.get(row["protocol"])
        if protocols is None or not row["request"] or not row["request"].get("body_base64"):
            continue
        body = row["request"]["body_base64"]
        if body not in seen:
            seen.add(body)
            rows.append({"name": row["name"], "protocols": protocols, "body": body})
    write(
        "rest_bodies.jsonl",
        rows,
        source=SOURCE,
        keys={"n": "name", "p": "protocols", "b": "body"},
        defaults={"protocols": ["messagepack"]},
        short={},
    )


if __name__ == "__main__":
    select(Path(sys.argv[1]) / "management" / "rest-requests.jsonl")
