"""signalrcore, driven through standard input and output: see processes.py.

Arguments: URL of the hub, protocol (json | messagepack), transport (WebSockets | ServerSentEvents), then the methods
the server may call.

Redirected by an app, signalrcore takes the access token for the id of its connection, so Server-Sent Events cannot
work: for these the driver negotiates with the app, and the library with the service.
"""

import json
import logging
import os
import sys
import urllib.request
from typing import Any

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.types import HttpTransportType, HubProtocolEncoding


def tell(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def follow(connection: Any, command: dict[str, Any]) -> None:
    """Call ``stream()``, and tell of its items when it ends."""
    items: list[Any] = []
    connection.stream(command["target"], command["args"]).subscribe(
        {
            "next": items.append,
            "complete": lambda _: tell(event="answer", call=command["call"], result=items),
            "error": lambda message: tell(event="answer", call=command["call"], error=str(message)),
        }
    )


def options_for(url: str, transport: str) -> tuple[str, dict[str, Any]]:
    """The URL that the library negotiates with, and its options."""
    if transport == "WebSockets":
        return url, {}
    path, _, query = url.partition("?")
    asked = urllib.request.Request(f"{path}/negotiate?{query}", method="POST")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        access = json.load(answer)
    headers = {"Authorization": f"Bearer {access['accessToken']}"}
    return access["url"], {"headers": headers, "transport": HttpTransportType(transport)}


def main(url: str, protocol: str, transport: str, methods: list[str]) -> None:
    encoding = HubProtocolEncoding.text if protocol == "json" else HubProtocolEncoding.binary
    url, options = options_for(url, transport)
    connection = (
        HubConnectionBuilder()
        .with_url(url, options)
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
        if command["do"] == "stream":
            follow(connection, command)
            continue

        def answered(message: Any, number: int = number) -> None:
            tell(event="answer", call=number, result=message.result)

        calls[str(number)] = number
        on_invocation = answered if command["do"] == "invoke" else None
        connection.invoke(command["target"], command["args"], on_invocation, str(number))
    os._exit(0)  # its own stop() waits for a thread that waits for the server


main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
