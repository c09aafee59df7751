"""pysignalr, driven through standard input and output: see processes.py.

Arguments: URL of the hub, protocol (json | messagepack), transport (WebSockets: it has no other), then the methods
the server may call. What the server calls "ask" is answered.
"""

import asyncio
import json
import sys
import threading
from typing import Any

import msgpack  # type: ignore[import-untyped] # what pysignalr reads with
from pysignalr.client import SignalRClient
from pysignalr.messages import CompletionMessage
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol


def tell(**event: Any) -> None:
    print(json.dumps(event, default=show), flush=True)


def show(value: Any) -> dict[str, str]:
    """What JSON has no form for, as the driver of the official client writes it."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, msgpack.Timestamp):
        return {"time": value.to_datetime().isoformat()}
    raise TypeError(type(value).__name__)


async def perform(client: SignalRClient, command: dict[str, Any]) -> None:
    async def answered(message: Any) -> None:
        if message.error:
            tell(event="answer", call=command["call"], error=message.error)
        else:
            tell(event="answer", call=command["call"], result=message.result)

    if command["do"] == "stream":
        items: list[Any] = []

        async def next_item(item: Any) -> None:
            items.append(item)

        async def completed(_: Any) -> None:
            tell(event="answer", call=command["call"], result=items)

        async def failed(message: CompletionMessage) -> None:
            tell(event="answer", call=command["call"], error=message.error)

        await client.stream(command["target"], command["args"], next_item, completed, failed)
        return
    on_invocation = answered if command["do"] == "invoke" else None
    await client.send(command["target"], command["args"], on_invocation)


async def main(url: str, protocol: str, methods: list[str]) -> None:
    client = SignalRClient(url, protocol=JSONProtocol() if protocol == "json" else MessagepackProtocol())
    commands: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read_commands() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
        loop.call_soon_threadsafe(commands.put_nowait, None)

    async def opened() -> None:
        tell(event="open")

    async def answered_with_error(message: CompletionMessage) -> None:
        """pysignalr wants one; the answer itself also goes to ``answered``."""

    def subscribe(method: str) -> None:
        async def received(arguments: list[Any]) -> None:
            tell(event="message", message=[method, *arguments])

        client.on(method, received)

    async def asked(arguments: list[Any]) -> list[Any]:
        return ["answered", *arguments]

    client.on("ask", asked)
    client.on_open(opened)
    client.on_error(answered_with_error)
    for method in methods:
        subscribe(method)
    threading.Thread(target=read_commands, daemon=True).start()
    running = asyncio.create_task(client.run())

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        tell(event="closed", error=None if error is None else f"{type(error).__name__}: {error}")

    running.add_done_callback(ended)
    while (command := await commands.get()) is not None:
        if command["do"] == "stop":
            running.cancel()
            await asyncio.wait([running])
        else:
            await perform(client, command)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[4:]))
