"""The keys of an issuer: who fetches them, how often, and for how long they count."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from signalr_upstream.errors import ConnectError
from signalr_upstream.published_keys import FETCH_AT_MOST_EVERY, FETCH_EVERY, KEEP, PublishedKeys
from signalr_upstream.transports.transport import Answer

from .issuer import KEYS_URL, Issuer, make_key
from .service import Service

pytestmark = pytest.mark.anyio


class Source:
    """Published keys, the issuer behind them, and a clock that is only a number."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.issuer = Issuer()
        self.status = 200
        self.error: Exception | None = None
        self.document: bytes | None = None
        self.service = Service(self.reply)
        self.keys = PublishedKeys(KEYS_URL, self.service, clock=lambda: self.now, **options)

    def reply(self, method: str, url: str) -> Answer | Exception:
        assert (method, url) == ("GET", KEYS_URL)
        body = msgspec.json.encode(self.issuer.document()) if self.document is None else self.document
        return self.error or Answer(self.status, [], body)

    @property
    def asked(self) -> int:
        return len(self.service.requests)

    async def fetch(self) -> None:
        self.keys.start_fetching()
        await self.keys.fetched()


@pytest.fixture(scope="module")
def small_key() -> Any:
    return make_key(1024)


async def test_a_key_is_found_by_its_id() -> None:
    source = Source()
    await source.fetch()

    found = source.keys.find("k1")

    assert found is not None
    assert found.public_numbers() == source.issuer.keys["k1"].public_key().public_numbers()
    assert source.keys.age == 0
    assert repr(source.keys) == f"<PublishedKeys of {KEYS_URL}: 1>"
    await source.keys.aclose()
    assert source.service.closed


async def test_nobody_waits_for_keys_and_they_are_fetched_once() -> None:
    source = Source()

    for _ in range(5):
        with pytest.raises(LookupError, match="could not be fetched yet"):
            source.keys.find("k1")
    assert source.keys.age is None
    await source.keys.fetched()

    assert source.asked == 1
    assert source.keys.find("k1") is not None
    await source.keys.aclose()


async def test_an_unknown_key_is_looked_for_at_most_once_a_minute() -> None:
    source = Source()
    await source.fetch()

    for second in range(130):
        source.now = 1000.0 + second
        assert source.keys.find(f"random{second}") is None
        await source.keys.fetched()

    assert source.asked == 3
    source.issuer.keys["k2"] = make_key()
    source.now += FETCH_AT_MOST_EVERY
    assert source.keys.find("k2") is None
    await source.keys.fetched()
    assert source.keys.find("k2") is not None
    await source.keys.aclose()


async def test_a_failure_counts_as_an_attempt_too(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.error = ConnectError("no connection to login.microsoftonline.com: refused")

    for second in range(119):
        source.now = 1000.0 + second
        with pytest.raises(LookupError):
            source.keys.find("k1")
        await source.keys.fetched()

    assert source.asked == 2
    assert (
        caplog.messages
        == [
            f"the keys at {KEYS_URL} could not be fetched, the last ones count: "
            "no connection to login.microsoftonline.com: refused"
        ]
        * 2
    )
    await source.keys.aclose()


async def test_the_last_keys_count_for_a_day() -> None:
    source = Source()
    await source.fetch()
    source.error = OSError("secret detail")

    source.now = 1000.0 + KEEP
    assert source.keys.find("k1") is not None
    source.now += 1
    with pytest.raises(LookupError):
        source.keys.find("k1")

    await source.keys.fetched()
    source.error = None
    source.now += FETCH_AT_MOST_EVERY
    await source.fetch()
    assert source.keys.find("k1") is not None
    await source.keys.aclose()


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, None),
        (302, None),
        (200, b"not json"),
        (200, b"{}"),
        (200, b"[" * 100_000),
        (200, b'{"keys":[]}'),
        (200, b'{"keys":[{"kid":"k1","kty":"oct","k":"AAAA"}]}'),
    ],
)
async def test_an_answer_without_keys_leaves_the_last_ones(
    status: int, document: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    await source.fetch()
    source.status, source.document = status, document
    source.now += FETCH_AT_MOST_EVERY
    with caplog.at_level(logging.WARNING):
        await source.fetch()

    assert source.asked == 2
    assert source.keys.find("k1") is not None
    assert "could not be fetched" in caplog.text
    await source.keys.aclose()


async def test_a_key_that_is_withdrawn_is_gone() -> None:
    source = Source()
    source.issuer.keys["k2"] = make_key()
    await source.fetch()
    del source.issuer.keys["k1"]
    source.now += FETCH_AT_MOST_EVERY
    await source.fetch()

    assert source.keys.find("k1") is None
    assert source.keys.find("k2") is not None
    await source.keys.aclose()


async def test_only_keys_that_sign_with_rs256_are_taken(small_key: Any) -> None:
    source = Source()
    source.issuer.keys["small"] = small_key
    document = source.issuer.document()
    good = document["keys"][0]
    document["keys"] += [
        {**good, "kid": "encryption", "use": "enc"},
        {**good, "kid": "other", "alg": "RS512"},
        {**good, "kid": 5},
        {**good, "kid": "no-n", "n": None},
        {**good, "kid": "bad-n", "n": "*"},
        {**good, "kid": "elliptic", "kty": "EC"},
        {**good, "kid": "plain", "use": "sig", "alg": "RS256", "x5u": "https://evil.example"},
    ]
    source.document = msgspec.json.encode(document)
    await source.fetch()

    found = [
        key
        for key in ("k1", "small", "encryption", "other", "no-n", "bad-n", "elliptic", "plain")
        if source.keys.find(key) is not None
    ]

    assert found == ["k1", "plain"]
    await source.keys.aclose()


async def test_keys_are_fetched_again_though_nobody_asks() -> None:
    source = Source(fetch_every=0.0)
    third = asyncio.Event()
    reply = source.service.reply

    def answer_slowly(method: str, url: str) -> Any:
        source.now += FETCH_AT_MOST_EVERY
        if source.asked == 3:
            third.set()
        return reply(method, url)

    source.service.reply = answer_slowly
    source.keys.start_fetching()

    await asyncio.wait_for(third.wait(), 10)

    await source.keys.aclose()
    assert FETCH_EVERY * 2 < KEEP


async def test_a_fetch_that_hangs_is_the_only_one_and_ends_with_closing() -> None:
    source = Source()
    begun = asyncio.Event()
    fetches: list[None] = []

    async def hang(*args: Any, **options: Any) -> Answer:
        begun.set()
        fetches.append(None)
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    source.service.request = hang  # type: ignore[method-assign]
    source.keys.start_fetching()
    await begun.wait()
    source.now += FETCH_AT_MOST_EVERY
    source.keys.start_fetching()
    await asyncio.sleep(0)  # what had begun would have been counted
    assert len(fetches) == 1

    await asyncio.wait_for(source.keys.aclose(), 10)

    assert source.keys.age is None


def test_keys_outlive_the_loop_that_fetched_them() -> None:
    source = Source()
    asyncio.run(source.fetch())
    source.now += FETCH_AT_MOST_EVERY
    source.issuer.keys["k2"] = make_key()

    async def ask_twice() -> bool:
        assert source.keys.find("k1") is not None
        assert source.keys.find("k2") is None
        await source.keys.fetched()
        return source.keys.find("k2") is not None

    assert asyncio.run(ask_twice())


async def test_what_was_never_asked_can_be_closed() -> None:
    source = Source()

    await source.keys.fetched()
    await source.keys.aclose()

    assert source.asked == 0
