"""signalrcore, driven through standard input and output: see processes.py.

Arguments: URL of the hub, protocol (json | messagepack), then the methods the server may call.
"""

import json
import logging
import os
import sys
from typing import Any

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.types import HubProtocolEncoding


def tell(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def main(url: str, protocol: str, methods: list[str]) -> None:
    encoding = HubProtocolEncoding.text if protocol == "json" else HubProtocolEncoding.binary
    connection = (
        HubConnectionBuilder()
        .with_url(url)
        .configure_logging(logging.CRITICAL)
        .with_hub_protocol(encoding)
        .build()
    )
    calls: dict[str, int] = {}  # invocation id → number of the call: errors arrive in one callback for all

    def subscribe(method: str) -> None:
        connection.on(method, lambda arguments: tell(event="message", message=[method, *arguments]))

    def failed(message: Any) -> None:
        tell(event="answer", call=calls[message.invocation_id], error=message.error)

    connection.on_open(lambda: tell(event="open"))
    connection.on_close(lambda: tell(event="closed", error=None))
    connection.on_error(failed)
    for method in methods:
        subscribe(method)
    connection.start()

    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            break
        number = command["call"]

        def answered(message: Any, number: int = number) -> None:
            tell(event="answer", call=number, result=message.result)

        calls[str(number)] = number
        on_invocation = answered if command["do"] == "invoke" else None
        connection.invoke(command["target"], command["args"], on_invocation, str(number))
    os._exit(0)  # its own stop() waits for a thread that waits for the server


main(sys.argv[1], sys.argv[2], sys.argv[3:])
