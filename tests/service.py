"""The service behind the output client, as a transport that remembers what it was asked."""

from collections.abc import Callable, Sequence
from typing import Any

from signalr_upstream.client import HubClient, ServiceClient
from signalr_upstream.transports.transport import Answer

KEY, OTHER_KEY = "k" * 44, "o" * 44
EAST = f"Endpoint=https://east.example;AccessKey={KEY};"
WEST = f"Endpoint=https://west.example;AccessKey={OTHER_KEY};"
Reply = int | tuple[int, str] | Answer | Exception


class Service:
    """A transport that records requests and answers with what ``reply`` says: a status, with an error code.

    Looks at the health of several endpoints come when they like, and are answered well and forgotten.
    """

    def __init__(self, reply: Callable[[str, str], Reply] = lambda method, url: 202) -> None:
        self.reply = reply
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.timeouts: list[float] = []
        self.closed = False
        self.is_well = True

    async def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Answer:
        url = base + target
        if self.is_well and method == "HEAD" and target.startswith("/api/health"):
            return Answer(200, [], b"")
        self.requests.append((method, url, dict(headers), body))
        self.timeouts.append(timeout)
        reply = self.reply(method, url)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Answer):
            return reply
        status, code = reply if isinstance(reply, tuple) else (reply, "")
        return Answer(status, [(b"x-ms-error-code", code.encode())] if code else [], b"")

    async def aclose(self) -> None:
        self.closed = True

    @property
    def lines(self) -> list[str]:
        return [f"{method} {url.replace('?api-version=2024-12-01', '')}" for method, url, *_ in self.requests]


def hub_of(service: Service, *connection_strings: str, **options: Any) -> HubClient:
    return ServiceClient(connection_strings or (EAST,), transport=service, **options).hub("chat")
