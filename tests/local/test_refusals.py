"""What the log says of requests that are refused: why, and what to do, a few times a minute."""

import logging

import pytest

from signalr_upstream.calls.line_limits import LINES

from .doors import NOW, bearer, client_token, http, make

pytestmark = pytest.mark.anyio

AUDIENCE = "http://localhost/client/?hub=chat"
FRESH = " Clients connect with url and accessToken of one fresh answer of the app's negotiate."


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        (
            {"Origin": "https://evil.example"},
            "403: Pages of this origin may not connect: the local service takes loopback "
            "origins, and those given as cors_origins (--cors-origin).",
        ),
        ({}, f"401: There is no bearer token.{FRESH}"),
        (
            bearer("nonsense"),
            f"401: The token is not an HS256 JWT.{FRESH}",
        ),
        (
            bearer(client_token(exp=int(NOW) - 7)),
            f"401: The token expired 7 seconds ago, at 1699999993.{FRESH}",
        ),
        (
            bearer(client_token("other")),
            f"401: The audience is invalid: expected {AUDIENCE}, with or without a port.{FRESH}",
        ),
    ],
)
async def test_who_is_not_let_in_is_told_of(
    headers: dict[str, str], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = make()

    answer = await http(service, **headers).post("/client/negotiate?hub=chat&access_token=s3cret")

    assert answer.status_code in (401, 403)
    said = f"a client of the local service was answered {line}"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, said)]
    assert [refusal.status for refusal in service.journal.refused_requests] == [answer.status_code]
    await service.aclose()


async def test_what_comes_late_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    service = make()
    client = http(service, **bearer(client_token()))

    gone = await client.delete("/client/?hub=chat&id=gone")
    await service.aclose()
    ending = await client.post("/client/negotiate?hub=chat")

    assert (gone.status_code, ending.status_code) == (404, 503)
    assert len(service.journal.refused_requests) == 2
    assert caplog.records == []


async def test_who_is_refused_again_and_again_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    service = make()

    for _ in range(LINES + 5):
        await http(service, **bearer(client_token())).post(f"/client/negotiate?hub=a%0Ab{'x' * 1000}")

    assert len(caplog.records) == LINES
    message = caplog.records[0].getMessage()
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    await service.aclose()
