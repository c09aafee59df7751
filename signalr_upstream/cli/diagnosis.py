"""What can be wrong with an app that is about to be used, looked for from the inside out.

Configuration first, then the service's REST API, then the way from the service to the app (``public_url``).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from ..app import UpstreamApp
from ..client import ServiceClient
from ..connection_string import DEFAULT_SETTING, Endpoint, is_loopback
from ..endpoints import Endpoints
from ..errors import (
    AccessDeniedError,
    ConfigurationError,
    ConnectError,
    ConnectionStringError,
    CredentialError,
    DeliveryUnknown,
    NoKeysError,
    NotFoundError,
    ServiceError,
    UnauthorizedError,
)
from ..hubs.hub import Hub
from ..transports.default_transport import DefaultTransport
from ..transports.transport import Answer, Transport
from .findings import NOBODY, NOTE, OK, PROBLEM, Finding
from .public_url import LOGGED, call_as_service

MAX_SKEW: Final = 60.0
"""Seconds that this clock may differ from the service's: it refuses tokens at some minutes."""

TIMEOUT: Final = 5.0
"""Seconds for one attempt of a REST call, and for a call to the app."""


async def examine(
    apps: Sequence[UpstreamApp],
    url: str | None,
    *,
    transport: Transport | None = None,
    http: httpx.AsyncClient | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Look at everything.

    Args:
        url: the app's public address; None leaves it out.
        transport: how REST calls travel.
        http: calls the app.
        clock: Unix seconds of this machine.
    """
    findings: list[Finding] = []
    service = Watched(transport or DefaultTransport())
    asked: set[str] = set()
    has_called = False
    async with http or httpx.AsyncClient(timeout=TIMEOUT, trust_env=True) as caller:
        for app in apps:
            findings += look_at_names(app)
            for hub in app.hubs:
                found = look_at_configuration(app, hub)
                findings.append(found)
                if found.outcome == PROBLEM:
                    continue
                for endpoint in app.services.client_of(hub).endpoints.all:
                    if endpoint.url not in asked:
                        asked.add(endpoint.url)
                        findings += await look_at_service(app, hub, endpoint, service, clock)
                if url is not None:
                    called = await call_as_service(app, hub, url, caller)
                    has_called |= any(finding.outcome == OK for finding in called)
                    findings += called
    await service.aclose()
    if has_called:
        findings.append(LOGGED)
    if url is None:
        findings.append(
            Finding(NOTE, "public address", "not looked at", "say it with --url https://host/prefix")
        )
    return findings


# --- configuration ---


def look_at_configuration(app: UpstreamApp, hub: Hub[Any]) -> Finding:
    """Whether there is something to check calls with, and to sign with."""
    subject = f"configuration of hub {hub.name}"
    try:
        endpoints = app.services.client_of(hub).endpoints
        app.services.check(hub)
        for endpoint in endpoints.for_sending:
            if endpoint.url.startswith("http://") and not is_loopback(httpx.URL(endpoint.url).host):
                return Finding(
                    PROBLEM,
                    subject,
                    f"{endpoint.url} is not encrypted",
                    "write Endpoint=https://: tokens travel to it",
                )
    except ConfigurationError as exc:
        return Finding(PROBLEM, subject, str(exc), _advice_on_configuration(exc, app, hub))
    if app.insecure:
        return Finding(
            PROBLEM,
            subject,
            "insecure=True: calls that nobody has signed are answered",
            "remove it; `signalr-upstream dev` needs none",
        )
    shown = ", ".join(f"{endpoint.url} ({_proof(endpoint)})" for endpoint in endpoints.all)
    return Finding(OK, subject, shown)


def _advice_on_configuration(error: ConfigurationError, app: UpstreamApp, hub: Hub[Any]) -> str:
    if not isinstance(error, ConnectionStringError | NoKeysError):
        return "correct the arguments of UpstreamApp"
    if hub.connection == DEFAULT_SETTING and callable(app.connection.connection_string):
        return "look at what the function of connection_string= reads: it gives whole connection strings"
    return f"copy a connection string of the resource (Keys) into {hub.connection}, whole and unchanged"


def _proof(endpoint: Endpoint) -> str:
    if endpoint.keys:
        return "1 key" if len(endpoint.keys) == 1 else f"{len(endpoint.keys)} keys"
    return "Entra ID"


def look_at_names(app: UpstreamApp) -> Iterator[Finding]:
    """Handlers that no call can reach, hubs that nobody can connect to."""
    for hub in app.hubs:
        subject = f"names of hub {hub.name}"
        bad = [handler for handler in hub.handlers if not _fits_header(handler.event)]
        for handler in bad:
            yield Finding(
                PROBLEM,
                subject,
                f"no call can have the event {handler.event!r} ({handler.binding.where})",
                "events come in a header: no spaces at their ends, no control characters",
            )
        if not hub.handlers:
            yield Finding(
                NOTE,
                subject,
                "it has no handler",
                "fine for a hub that only sends; else import the module with them",
            )
        if hub.negotiator is None:
            yield Finding(
                NOTE,
                subject,
                "it has no negotiate",
                "fine if clients get url and token elsewhere; else @hub.negotiate",
            )
        if not bad and hub.handlers:
            yield Finding(OK, subject, f"{len(hub.handlers)} handlers")


def _fits_header(event: str) -> bool:
    return event == event.strip() and all(character >= " " and character != "\x7f" for character in event)


# --- the service ---


class Watched:
    """A transport that remembers when the service says that it is."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.date: float | None = None

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
        """As the inner one's."""
        answer = await self._inner.request(method, base, target, headers, body, timeout=timeout)
        try:
            self.date = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            self.date = None
        return answer

    async def aclose(self) -> None:
        """As the inner one's."""
        await self._inner.aclose()


async def look_at_service(
    app: UpstreamApp, hub: Hub[Any], endpoint: Endpoint, service: Watched, clock: Callable[[], float]
) -> list[Finding]:
    """Make one call that needs a token and changes nothing, and compare the clocks."""
    client = ServiceClient(
        endpoints=Endpoints([endpoint]),
        application=app.services.application,
        transport=service,
        timeout=TIMEOUT,
        total_timeout=TIMEOUT,
    )
    service.date = None
    name = hub.name[:-1] + "check" if hub.is_family else hub.name
    subject = f"service {endpoint.url}"
    try:
        await client.hub(name).connections.exists(NOBODY)
        found = Finding(OK, subject, "it takes our token")
    except ServiceError as exc:
        found = Finding(PROBLEM, subject, str(exc), _advice(exc, endpoint))
    return [found, *_look_at_clock(service.date, clock())]


def _look_at_clock(date: float | None, now: float) -> list[Finding]:
    if date is None:
        return []
    skew = now - date
    if abs(skew) <= MAX_SKEW:
        return [Finding(OK, "clock", f"within {MAX_SKEW:g} seconds of the service's")]
    word = "ahead of" if skew > 0 else "behind"
    return [
        Finding(
            PROBLEM,
            "clock",
            f"this machine is {abs(skew):.0f} seconds {word} the service",
            "set the clock (NTP): tokens that are made here count as expired, or as not yet valid",
        )
    ]


def _advice(error: ServiceError, endpoint: Endpoint) -> str:
    match error:
        case UnauthorizedError() if endpoint.keys:
            return "copy the connection string anew: the key was regenerated, or belongs to another resource"
        case UnauthorizedError():
            return "the identity's tenant is not that of the resource, or the service does not know it yet"
        case AccessDeniedError() if endpoint.keys:
            return (
                "allow this machine in the resource's Networking, or enable access keys if they are disabled"
            )
        case AccessDeniedError():
            return (
                "give the app's identity the role 'SignalR Service Owner' on the resource (Access control); it counts "
                "after some minutes. Or the resource's Networking does not let this machine in"
            )
        case CredentialError():
            return "give the app an identity (managed identity, az login), and install signalr-upstream[identity]"
        case ConnectError():
            return "look at the name in Endpoint=, at DNS, and at the firewall between here and the service"
        case NotFoundError():
            return "something else answers at this address: compare Endpoint= (and ServerEndpoint=) with the resource"
        case DeliveryUnknown():
            return "it does not answer in time: look at the firewall or proxy in between, and at the resource's health"
        case _:
            return "look at the resource's health in the portal, and try again"
