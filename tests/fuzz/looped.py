"""Decoders that need an event loop: whole calls of an app, answers of the service, keys of an issuer."""

import asyncio
import functools
import logging
import math
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, TypeVar, cast
from unittest.mock import Mock

import msgspec

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.errors import DeliveryUnknown
from signalr_upstream.protocol.upstream import decode_answer
from signalr_upstream.published_keys import PublishedKeys
from signalr_upstream.transports.http_connection import HttpConnection
from signalr_upstream.transports.transport import Answer
from signalr_upstream.upstream_tokens import UpstreamTokens

from ..issuer import KEYS_URL, Issuer, entra
from ..service import Service, hub_of
from ..support import CONNECTION_STRING, JSON, MESSAGEPACK, Message, asgi_scope, call_asgi, call_headers
from .forms import Form, rsa_signed_token

MAX_ANSWER: Final = 1024
T = TypeVar("T")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return _loop().run_until_complete(coroutine)


class _Failures(logging.Handler):
    """What the package says has gone wrong in it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


# --- an app ---


class Order(msgspec.Struct):
    """An argument with members."""

    item: str
    count: int = 1
    notes: dict[str, list[float]] | None = None


async def _echo(ctx: Context, *values: Any) -> Any:
    return [ctx.connection_id, *values]


async def _order(ctx: Context, order: Order, at: datetime | None = None, *tags: str) -> Any:
    return {"order": order, "at": at, "tags": tags}


@functools.cache
def _app() -> tuple[UpstreamApp, _Failures]:
    hub = Hub("chat")
    hub.on("echo")(_echo)
    hub.on("order")(_order)
    failures = _Failures()
    logging.getLogger("signalr_upstream").addHandler(failures)
    return UpstreamApp(hub, connection_string=CONNECTION_STRING), failures


def call(*, binary: bool) -> Callable[[bytes], object]:
    """A signed call with any body: it is answered or refused, and nothing fails."""
    kind = MESSAGEPACK if binary else JSON
    scopes = {event: asgi_scope(call_headers(event, content_type=kind)) for event in ("echo", "order")}

    def decode(body: bytes) -> object:
        app, failures = _app()
        scope = dict(scopes["order" if b"order" in body else "echo"])

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        sent = _run(call_asgi(app, scope, receive))
        status, answer = sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
        assert not failures.said, failures.said
        assert status in (200, 204, 400), (status, answer)
        if status == 400:
            return answer
        return decode_answer(status, answer, invocation_id="1", binary=binary)

    return decode


# --- an answer over HTTP ---


def http_answer(data: bytes) -> object:
    """The answer to a request, in pieces: it is an answer, or it is none, and no promise stays open."""
    return _run(_http_answer(data))


async def _http_answer(data: bytes) -> object:
    transport = Mock(**{"is_closing.return_value": False, "get_write_buffer_size.return_value": 0})
    transport.get_extra_info.return_value = None
    connection = HttpConnection("service", expires=math.inf, max_answer=MAX_ANSWER)
    connection.connection_made(cast(asyncio.Transport, transport))
    answer = connection.request(b"GET / HTTP/1.1\r\n\r\n", is_head=data[:1] == b"\0")
    connection.flush()
    size = max(1, len(data) // 3)
    for at in range(0, len(data), size):
        if not connection.retired:
            connection.data_received(data[at : at + size])
    connection.eof_received()
    connection.connection_lost(None)
    if answer.exception() is not None:
        assert isinstance(answer.exception(), DeliveryUnknown)
        return None
    given = answer.result()
    assert given is not None
    assert len(given.body) <= MAX_ANSWER
    return [given.status, given.headers, given.body]


# --- what the service and an issuer say ---


def page(data: bytes) -> object:
    """The connections of a group, as a page and the next one."""
    return _run(_page(data))


async def _page(data: bytes) -> object:
    pages = [Answer(200, [], data), Answer(200, [], b'{"value":[]}')]
    hub = hub_of(Service(lambda method, url: pages.pop(0)))
    return [connection async for connection in hub.groups.connections("g")]


def service_token(data: bytes) -> object:
    """A client token that the service made, or so it is said."""
    return _run(hub_of(Service(lambda method, url: Answer(200, [], data))).generate_token())


def published_keys(data: bytes) -> object:
    """A document of keys: whatever it is, looking for a key gives one or none."""
    return _run(_published_keys(data))


async def _published_keys(data: bytes) -> object:
    keys = PublishedKeys(KEYS_URL, Service(lambda method, url: Answer(200, [], data)))
    keys.start_fetching()
    await keys.fetched()
    try:
        return keys.find("k1") is not None
    except LookupError:
        return None
    finally:
        await keys.aclose()


@functools.cache
def _issuer() -> Issuer:
    return Issuer()


@functools.cache
def _tokens() -> UpstreamTokens:
    document = msgspec.json.encode(_issuer().document())
    tokens = UpstreamTokens([entra()], Service(lambda method, url: Answer(200, [], document)))
    _run(tokens.start())
    return tokens


def upstream_token(data: bytes) -> object:
    """An Entra ID token of an upstream call."""
    tokens = _tokens()

    async def check() -> object:  # it may begin to fetch keys
        return tokens.check(data)

    return _run(check())


def issuer_token() -> bytes:
    """A token that is good."""
    return _issuer().token().encode()


def issuer_form() -> Form:
    """Any header and claims, signed with the issuer's key."""
    return rsa_signed_token(_issuer().keys["k1"])


def issuer_document() -> bytes:
    """The issuer's keys."""
    return msgspec.json.encode(_issuer().document())
