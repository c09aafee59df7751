"""Replay what the .NET Management SDK sent and how it took answers (``vectors/select_rest_requests.py``).

Differences that hold for every case are normalised: we speak api-version 2024-12-01 (recorded: 2022-06-01), the
audience has no query, the keys of a body are in lower case, a target's text is compared decoded, and membership is
asked for by HEAD as the API documents (recorded: GET). Everything else that differs is listed, with its reason.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from signalr_upstream.client import HubClient, ServiceClient
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeliveryUnknown,
    InvalidNameError,
    InvalidRequestError,
    NotFoundError,
    PartialDelivery,
    ServiceError,
    ThrottledError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from signalr_upstream.rest.targets import Target

from .recorded import Row, load

pytestmark = pytest.mark.anyio

KEY = "k" * 44


async def make(hub: HubClient, call: list[Any], *, target: str, arguments: list[Any]) -> Any:
    path, *rest = call
    options = rest.pop() if rest and isinstance(rest[-1], dict) else {}
    part, name = path.split(".")
    found = getattr(getattr(hub, part), name)
    if isinstance(found, Target):
        return await found.send(target, *arguments)
    made = found(*rest, **options)
    return await made.send(target, *arguments) if isinstance(made, Target) else await made


def audience(request: httpx.Request) -> str:
    payload = request.headers["authorization"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(claims) == {"aud", "iat", "exp"}
    return str(claims["aud"])


# ---- what was sent ----


def recorded_requests() -> tuple[int, list[Row]]:
    """The number of calls that were left out, and the others; names that were escaped are a table of the first line."""
    head, rows = load("rest_requests.jsonl")
    where = {letter: (position, *form) for position, (letter, *form) in head["positions"].items()}
    for name, escaped, letters in head["escaped"]:
        for position, call, request in (where[letter] for letter in letters):
            rows.append(
                head["defaults"]
                | {
                    "name": f"escape/{position}/{name}",
                    "call": json.loads(json.dumps(call).replace('"{}"', json.dumps(name))),
                    "request": request.replace("{}", escaped),
                }
            )
    return sum(head["left_out"].values()), rows


def expected_request(row: Row) -> tuple[str, str, bytes] | None:
    """Request line, audience and body as we should write them."""
    if row["request"] is None:
        return None
    line = row["request"].replace("api-version=2022-06-01", "api-version=2024-12-01")
    line = line.replace("GET ", "HEAD ")
    target_path = row["request"].partition(" ")[2]
    expected_audience = (row["aud"] or "http://localhost" + target_path).partition("?")[0]
    body = b""
    if line.startswith("POST"):
        target = json.dumps(json.loads(row["body"])["Target"], ensure_ascii=False)
        arguments = row["body"].partition(',"Arguments":')[2]
        body = f'{{"target":{target},"arguments":{arguments}'.encode()
    return line, expected_audience, body


async def replay_request(row: Row) -> list[tuple[str, str, bytes]]:
    """What we send for the same call; nothing if it is refused before."""
    sent: list[tuple[str, str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        line = f"{request.method} {request.url.raw_path.decode()}"
        sent.append((line, audience(request), request.content))
        assert (request.headers.get("content-type") == "application/json") is (request.method == "POST")
        return httpx.Response(202)

    string = row["connection_string"]
    string = string.replace("<key>", KEY if "example.com" in string else EMULATOR_KEY)
    message = json.loads(row["body"])
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client:
        try:
            client = ServiceClient(string, http_client=http_client, application=row["application"])
            hub = client.hub(row["hub"])
            await make(hub, row["call"], target=message["Target"], arguments=message["Arguments"] or [])
        except (InvalidNameError, ConfigurationError, ValueError, OverflowError):
            assert not sent
    return sent


def is_refused_hub(row: Row) -> bool:
    name: str = row["hub"]
    return not (name.isascii() and name.replace("_", "").isalnum() and name[0].isalpha())


def is_named(*ends: str) -> Callable[[Row], bool]:
    return lambda row: row["name"].endswith(ends)


def is_below(*starts: str) -> Callable[[Row], bool]:
    return lambda row: row["name"].startswith(starts)


DIFFERENT_REQUESTS: list[tuple[int, str, Callable[[Row], bool]]] = [
    (26, "hub names outside the service's pattern are refused", is_refused_hub),
    (25, "names . and .. are refused: in a path, NOTES, they make it another one", is_named("/.", "/..")),
    (10, "group names that the service refuses are refused before", is_named("/ ", "/\t", "/\n")),
    (1, "a target of white space is refused; the service answers 400", is_named("/\u2028/0")),
    (11, "half a surrogate pair is refused, not replaced by U+FFFD", is_named("\\ud800")),
    (16, "tokens over 4096 characters: .NET's limit, not the service's", is_named("/1024 é", "/4000 y")),
    (2, "a ttl lasts at least as long as asked: fractions are rounded up", is_named("/1.9s", "/500ms")),
    (2, "a ttl over int32 is an error, not the largest int32", is_below("usergroup.ttl/")),
    (2, "a target named twice gets the message once", is_named(".dup#2")),
    (5, "path and query of Endpoint= are dropped; .NET glues them on", is_below("conn/path", "conn/query")),
    (2, "the path of ServerEndpoint= is joined by one slash", is_below("conn/ServerEndpoint path/")),
    (6, "keys that anybody could guess sign nothing", is_below("conn/key ")),
    (2, "user and password in an endpoint are refused", is_below("conn/endpoint with userinfo")),
    (1, "arguments null are no arguments", is_named("/args null")),
    (4, "Newtonsoft's floats (1E+21) and its escapes of U+2028, U+2029, U+0085", is_below("args/00/")),
]


def settle(counts: Counter[str], row: Row, table: Any, what: object) -> None:
    """Count a difference under its reason."""
    reason = next((reason for _, reason, fits in table if fits(row)), None)
    assert reason is not None, (row["name"], what)
    counts[reason] += 1


async def test_requests_equal_those_of_the_net_sdk() -> None:
    left_out, rows = recorded_requests()
    counts: Counter[str] = Counter()
    for row in rows:
        sent = await replay_request(row)
        expected = expected_request(row)
        if (not sent if expected is None else expected in sent) and not is_named(".dup#2")(row):
            counts["equal"] += 1
        else:
            settle(counts, row, DIFFERENT_REQUESTS, sent)
    print(
        f"\nREST requests: {counts['equal']} equal, {len(rows) - counts['equal']} different, {left_out} left out"
    )
    assert counts == {"equal": 775} | {reason: count for count, reason, _ in DIFFERENT_REQUESTS}
    assert left_out == 1034  # MessagePack, .NET's other serializers, health, and what is only .NET's


# ---- what came back ----


def recorded_failures() -> tuple[int, list[Row]]:
    """The number of calls that were left out, and the others."""
    head, cases = load("rest_failures.jsonl")
    return sum(head["left_out"].values()), [
        {
            "name": f"{method}/{case['case']}",
            "call": head["calls"][method],
            "answers": case["answers"],
            "exception": exception,
            "returns": returned,
        }
        for case in cases
        for exception, returned, *methods in case["outcomes"]
        for method in methods
    ]


def expected_class(status: int) -> type[ServiceError]:
    if status >= 500:
        return UnavailableError
    classes = {
        408: UnavailableError,
        400: InvalidRequestError,
        401: UnauthorizedError,
        403: AccessDeniedError,
        404: NotFoundError,
        413: TooLargeError,
        429: ThrottledError,
    }
    return classes.get(status, ServiceError)


def leaves_open(row: Row) -> bool:
    """Whether a send may have been taken: our DeliveryUnknown, where .NET has one class for all failures."""
    return row["name"].startswith("send.") and row["answers"][0][0] in (408, 500, 502, 504)


def our_class(row: Row) -> type[ServiceError] | None:
    """The class of ours that corresponds to .NET's exception; its Runtime one is several here, by status."""
    exception = row["exception"]
    status = row["answers"][0][0]
    corresponding: dict[str, type[ServiceError] | None] = {
        "": None,
        "AzureSignalRInvalidArgumentException": InvalidRequestError,
        "AzureSignalRUnauthorizedException": UnauthorizedError,
        "AzureSignalRInaccessibleEndpointException": NotFoundError,
        "AzureSignalRRuntimeException": DeliveryUnknown if leaves_open(row) else expected_class(status),
        "AggregateException": PartialDelivery,
    }
    return corresponding[exception]


async def replay_failure(row: Row) -> tuple[type[Exception] | None, Any]:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        for status, headers, body, *matching in row["answers"]:
            if not matching or matching[0] in path:
                return httpx.Response(status, headers=headers, content=body.encode())
        raise AssertionError(path)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client:
        hub = ServiceClient(f"Endpoint=http://localhost;AccessKey={KEY}", http_client=http_client).hub("chat")
        try:
            return None, await make(hub, row["call"], target="t", arguments=["hello", 42])
        except ServiceError as exc:
            error = exc
    assert KEY not in str(error)
    assert "http" not in str(error)
    return type(error), None


def is_coded_404(row: Row) -> bool:
    status, headers = row["answers"][0][:2]
    return status == 404 and bool(headers)


DIFFERENT_FAILURES: list[tuple[int, str, Callable[[Row], bool]]] = [
    (35, "redirects are not followed: .NET does, without token or body", is_named(" redirect")),
    (25, "several targets: all failures are told, not the first alone", is_below("send.clients.2/")),
    (7, "a 404 that names what is missing also answers the other calls about it", is_coded_404),
    (12, "any 2xx is a success, also for exists", lambda row: 200 < row["answers"][0][0] < 300),
]


async def test_failures_are_told_as_by_the_net_sdk() -> None:
    left_out, rows = recorded_failures()
    counts: Counter[str] = Counter()
    for row in rows:
        raised, returned = await replay_failure(row)
        if raised is our_class(row) and (row["returns"] is None or returned is row["returns"]):
            counts["equal"] += 1
        else:
            settle(counts, row, DIFFERENT_FAILURES, (raised, returned))
    print(
        f"\nREST failures: {counts['equal']} equal, {len(rows) - counts['equal']} different, {left_out} left out"
    )
    assert counts == {"equal": 508} | {reason: count for count, reason, _ in DIFFERENT_FAILURES}
    assert (
        left_out == 362
    )  # retries and time-outs, which later work owns; broken connections: test_httpx_transport.py
