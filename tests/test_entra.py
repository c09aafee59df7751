"""Entra ID tokens: fetched once, kept, fetched again in time; with a clock that is only a number."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from signalr_upstream.entra import EARLY, LAST, SCOPE, EntraToken
from signalr_upstream.errors import CredentialError

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0


class AccessToken(NamedTuple):
    """As azure-core's."""

    token: str
    expires_on: int


class Credential:
    """An async credential that numbers its tokens; each lasts an hour."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_token(self, *scopes: str) -> AccessToken:
        assert scopes == (SCOPE,)
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return AccessToken(f"token{number}", int(self.now) + 3600)


def token_of(credential: Any) -> EntraToken:
    return EntraToken(credential, clock=lambda: credential.now)


async def test_a_token_is_fetched_once_and_kept() -> None:
    credential = Credential()
    token = token_of(credential)

    assert [await token.get() for _ in range(3)] == ["token1"] * 3
    assert credential.asked == 1


async def test_many_calls_wait_for_one_fetch() -> None:
    credential = Credential()
    credential.gate.clear()
    token = token_of(credential)
    calls = [asyncio.create_task(token.get()) for _ in range(50)]
    await asyncio.sleep(0)
    calls[0].cancel()  # the others still get it
    await asyncio.sleep(0)
    credential.gate.set()

    assert await asyncio.gather(*calls[1:]) == ["token1"] * 49
    assert credential.asked == 1


async def test_the_next_token_is_fetched_early_while_the_old_one_is_used() -> None:
    credential = Credential()
    token = token_of(credential)
    await token.get()
    credential.now += 3600 - EARLY
    credential.gate.clear()

    assert [await token.get() for _ in range(3)] == ["token1"] * 3
    credential.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert await token.get() == "token2"
    assert credential.asked == 2


async def test_a_token_about_to_end_is_waited_for() -> None:
    credential = Credential()
    token = token_of(credential)
    await token.get()
    credential.now += 3600 - LAST

    assert await token.get() == "token2"


async def test_an_early_fetch_that_fails_is_logged_and_tried_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "signalr_upstream")
    credential = Credential()
    token = token_of(credential)
    await token.get()
    credential.now += 3600 - EARLY
    credential.error = RuntimeError("s3cret")

    for _ in range(5):
        assert await token.get() == "token1"
        await asyncio.sleep(0)
    credential.error = None
    credential.now += 5
    await token.get()
    for _ in range(5):
        await asyncio.sleep(0)

    assert await token.get() == "token3"
    assert "Credential gave no token" in caplog.text
    assert "s3cret" not in caplog.text


async def test_what_was_refused_is_fetched_anew() -> None:
    credential = Credential()
    token = token_of(credential)
    await token.get()

    token.forget()

    assert await token.get() == "token2"


class Plain:
    """A credential as azure-identity's without aio: it blocks."""

    now = NOW

    def get_token(self, *scopes: str) -> AccessToken:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # so it does not hold up the event loop
        return AccessToken("plain", int(NOW) + 60)


class Odd:
    """A plain function that gives something to await."""

    now = NOW

    def get_token(self, *scopes: str) -> Any:
        async def later() -> AccessToken:
            return AccessToken("odd", int(NOW) + 60)

        return later()


@pytest.mark.parametrize("make", [Plain, Odd])
async def test_plain_credentials_do_as_well(make: Callable[[], Any]) -> None:
    credential = make()

    assert await token_of(credential).get() == make.__name__.lower()


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "é"])
async def test_what_would_break_a_header_is_no_token(token: str) -> None:
    class Broken:
        now = NOW

        async def get_token(self, *scopes: str) -> AccessToken:
            return AccessToken(token, int(NOW) + 60)

    with pytest.raises(CredentialError, match="no token"):
        await token_of(Broken()).get()


async def test_an_error_of_the_credential_says_what_to_check_and_hides_its_text() -> None:
    credential = Credential()
    credential.error = ValueError("client secret is s3cret")

    with pytest.raises(CredentialError, match="SignalR Service Owner") as caught:
        await token_of(credential).get()

    assert "s3cret" not in str(caught.value)
    assert "token" not in repr(token_of(credential)).removeprefix("<EntraToken of Credential>")


def test_tokens_are_shared_between_loops_one_after_the_other() -> None:
    credential = Plain()
    token = token_of(credential)

    assert [asyncio.run(token.get()) for _ in range(2)] == ["plain", "plain"]
