import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from signalr_upstream.auth import sign_connection
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.endpoints import ASK_AT_MOST_EVERY, ASK_EVERY, Endpoints
from signalr_upstream.errors import ConfigurationError, ConnectionStringError, NoKeysError, SignatureError

A, B, C = "a" * 44, "b" * 44, "c" * 44
EAST = f"Endpoint=https://east.service.signalr.net;AccessKey={A};"
WEST = f"Endpoint=https://west.service.signalr.net;AccessKey={B};"


def signed(key: str) -> bytes:
    return sign_connection("c1", [key]).encode()


def test_the_key_that_signed_names_the_endpoint() -> None:
    endpoints = Endpoints.load([EAST, WEST], environ={})

    assert endpoints.all[0].url == "https://east.service.signalr.net"
    assert endpoints.verify(signed(A), b"c1") is endpoints.all[0]
    assert endpoints.verify(signed(B), b"c1") is endpoints.all[1]


def test_a_foreign_signature_is_refused_each_time() -> None:
    endpoints = Endpoints.load(EAST, environ={})

    for _ in range(2):
        with pytest.raises(SignatureError):
            endpoints.verify(signed(B), b"c1")
    with pytest.raises(SignatureError):
        endpoints.verify(signed(A), b"c2")


def test_a_second_key_of_the_same_endpoint_is_good_while_keys_rotate() -> None:
    rotated = EAST.replace(A, B)

    endpoints = Endpoints.load([EAST, rotated], environ={})

    assert len(endpoints.all) == 1
    assert endpoints.verify(signed(B), b"c1") is endpoints.all[0]


def test_a_key_that_two_endpoints_share_names_neither() -> None:
    endpoints = Endpoints.load([EAST, WEST.replace(B, A)], environ={})

    assert endpoints.verify(signed(A), b"c1") is None


def test_an_upstream_key_verifies_and_names_an_only_endpoint() -> None:
    one = Endpoints.load(EAST, environ={}, upstream_keys=[C])
    two = Endpoints.load([EAST, WEST], environ={}, upstream_keys=[C, A])

    assert one.verify(signed(C), b"c1") is one.all[0]
    assert two.verify(signed(C), b"c1") is None
    assert two.verify(signed(A), b"c1") is two.all[0]


def test_upstream_keys_alone_are_enough_to_serve() -> None:
    endpoints = Endpoints.load(environ={}, upstream_keys=[C])

    endpoints.require_keys()
    assert endpoints.verify(signed(C), b"c1") is None
    with pytest.raises(NoKeysError, match="set AzureSignalRConnectionString"):
        _ = endpoints.for_sending
    with pytest.raises(NoKeysError, match="set OtherConnection"):
        Endpoints.load(environ={}, name="OtherConnection").require_keys()


@pytest.mark.parametrize("key", ["", "${KEY}", "short"])
def test_with_no_real_key_nothing_is_verified(key: str) -> None:
    endpoints = Endpoints.load(f"Endpoint=https://east;AccessKey={key};", environ={}, upstream_keys=[key])

    with pytest.raises(NoKeysError, match="AccessKey of https://east"):
        endpoints.require_keys()
    with pytest.raises(NoKeysError):
        endpoints.verify(b"sha256=" + b"0" * 64, b"c1")


def test_the_environment_is_read_where_no_setting_is_given() -> None:
    environ = {"AzureSignalRConnectionString": EAST, "OtherConnection": WEST}

    assert Endpoints.load(environ=environ).all[0].url == "https://east.service.signalr.net"
    assert (
        Endpoints.load(environ=environ, name="OtherConnection").all[0].url
        == "https://west.service.signalr.net"
    )


def test_no_key_is_shown() -> None:
    text = repr(Endpoints.load([EAST, WEST], environ={}, upstream_keys=[C]))

    assert text == "Endpoints(https://east.service.signalr.net, https://west.service.signalr.net)"


@pytest.mark.parametrize(
    ("setting", "served"),
    [(f"Endpoint=http://localhost;Port=8888;AccessKey={A};", True), (EAST, False)],
)
def test_the_emulators_public_key_verifies_for_loopback_only(setting: str, served: bool) -> None:
    endpoints = Endpoints.load(setting, environ={}, upstream_keys=[EMULATOR_KEY])

    if served:
        assert endpoints.verify(signed(EMULATOR_KEY), b"c1") is endpoints.all[0]
    else:
        with pytest.raises(SignatureError):
            endpoints.verify(signed(EMULATOR_KEY), b"c1")


def test_the_emulators_public_key_alone_is_no_key() -> None:
    with pytest.raises(NoKeysError):
        Endpoints.load(environ={}, upstream_keys=[EMULATOR_KEY]).require_keys()


# --- keys that change ---


class Vault:
    """Where the connection string is kept: what it says now, and how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.text = answer
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.text


class Rotation:
    """Endpoints that ask a vault, with a clock that is only a number."""

    def __init__(self, answer: Any = EAST, *, error: Exception | None = None, **options: Any) -> None:
        self.now = 1000.0
        self.vault = Vault(answer)
        self.vault.error = error
        environ = {"AzureSignalRConnectionString": f"Endpoint=https://of.environment;AccessKey={C};"}
        self.endpoints = Endpoints.load(self.vault, environ=environ, clock=lambda: self.now, **options)

    async def ask_again(self, after: float = ASK_EVERY) -> None:
        """Need the endpoints once more, so many seconds later."""
        self.now += after
        with contextlib.suppress(ConfigurationError):
            self.endpoints.require_keys()
        await self.endpoints.answered()


@pytest.mark.anyio
async def test_a_function_is_asked_again_after_a_minute_and_what_it_says_counts() -> None:
    rotation = Rotation()
    rotation.vault.text = EAST.replace(A, B)
    rotation.now += ASK_EVERY - 1
    assert rotation.endpoints.verify(signed(A), b"c1") is not None
    await rotation.endpoints.answered()
    assert rotation.vault.asked == 1

    rotation.now += 1
    assert rotation.endpoints.for_sending
    await rotation.endpoints.answered()

    assert rotation.vault.asked == 2
    assert rotation.endpoints.for_sending[0].keys == (B,)
    assert rotation.endpoints.verify(signed(B), b"c1") is rotation.endpoints.all[0]
    with pytest.raises(SignatureError):
        rotation.endpoints.verify(signed(A), b"c1")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "broken",
    ["", " ", None, [], [""], 5, [5], "Endpoint=nonsense;", EAST.replace(A, ""), WEST.replace(B, "")],
)
async def test_the_last_keys_count_while_the_function_gives_none(broken: Any) -> None:
    rotation = Rotation()
    rotation.vault.text = broken
    rotation.now += ASK_EVERY

    rotation.endpoints.verify(signed(A), b"c1")
    await rotation.endpoints.answered()

    assert rotation.endpoints.verify(signed(A), b"c1") is not None
    assert [endpoint.keys for endpoint in rotation.endpoints.for_sending] == [(A,)]


@pytest.mark.anyio
@pytest.mark.parametrize("half_written", [WEST.replace(B, ""), WEST.replace(B, "short"), "", "Endpoint=htt"])
async def test_the_last_key_of_each_endpoint_counts(
    half_written: str, caplog: pytest.LogCaptureFixture
) -> None:
    rotation = Rotation([EAST, WEST])

    rotation.vault.text = [EAST, half_written]
    await rotation.ask_again()

    assert [endpoint.keys for endpoint in rotation.endpoints.for_sending] == [(A,), (B,)]
    assert "the last one counts" in caplog.text
    rotation.vault.text = [EAST, WEST.replace(B, C)]
    await rotation.ask_again()
    assert [endpoint.keys for endpoint in rotation.endpoints.for_sending] == [(A,), (C,)]


@pytest.mark.anyio
async def test_the_others_go_on_changing_while_one_has_no_key() -> None:
    rotation = Rotation([EAST, WEST])

    rotation.vault.text = [EAST.replace(A, C), WEST.replace(B, "")]
    await rotation.ask_again()

    assert [endpoint.keys for endpoint in rotation.endpoints.for_sending] == [(C,), (B,)]


@pytest.mark.anyio
async def test_an_endpoint_that_is_new_waits_for_its_key() -> None:
    rotation = Rotation([EAST, ""])

    rotation.vault.text = [EAST, WEST.replace(B, "")]
    await rotation.ask_again()
    assert rotation.endpoints.for_sending == rotation.endpoints.all[:1]

    rotation.vault.text = [EAST, WEST]
    await rotation.ask_again()
    assert [endpoint.keys for endpoint in rotation.endpoints.for_sending] == [(A,), (B,)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"error": FileNotFoundError(f"/run/secrets/{A}")}, "failed: FileNotFoundError"),
        ({"answer": None}, "gives none"),
        ({"answer": ""}, "gives none"),
        ({"answer": 5}, "failed: TypeError"),
        ({"answer": "Endpoint=nonsense;AccessKey=x"}, "valid URI"),
    ],
)
async def test_without_a_first_answer_there_is_nothing_and_it_is_asked_again(
    options: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "signalr_upstream")
    rotation = Rotation(**options, upstream_keys=[B])
    endpoints = rotation.endpoints
    needs: list[Callable[[], object]] = [
        lambda: endpoints.all,
        lambda: endpoints.only,
        lambda: endpoints.for_sending,
        lambda: endpoints.verify(signed(B), b"c1"),
        lambda: endpoints.verify_nothing(b"", b"c1"),
        endpoints.require_keys,
    ]

    for need in needs:
        with pytest.raises(ConnectionStringError, match=said) as caught:
            need()
        assert A not in "".join(traceback.format_exception(caught.value))
    assert rotation.vault.asked == 1
    assert not endpoints.is_keyless  # a token alone would be less than was asked
    assert repr(endpoints) == "Endpoints()"
    await rotation.ask_again(ASK_AT_MOST_EVERY)
    assert rotation.vault.asked == 2
    assert caplog.records == []  # who is refused is told

    rotation.vault.error, rotation.vault.text = None, EAST
    rotation.now += ASK_AT_MOST_EVERY
    with pytest.raises(ConnectionStringError):
        _ = endpoints.all
    await endpoints.answered()
    assert endpoints.for_sending[0].keys == (A,)
    assert "has changed" in caplog.text


@pytest.mark.anyio
async def test_an_error_of_the_function_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "signalr_upstream")
    rotation = Rotation()
    rotation.vault.error = OSError(f"cannot read {A}")
    rotation.now += ASK_EVERY

    assert rotation.endpoints.for_sending
    await rotation.endpoints.answered()

    assert (
        "could not be read again (the function that gives the connection string failed: OSError)"
        in caplog.text
    )
    assert A not in caplog.text


@pytest.mark.anyio
async def test_a_refused_token_asks_at_most_once_a_second() -> None:
    rotation = Rotation()
    (used,) = rotation.endpoints.all
    rotation.now += 1

    assert await rotation.endpoints.after_refusal(used) is None
    rotation.vault.text = EAST.replace(A, B)
    assert await rotation.endpoints.after_refusal(used) is None
    assert rotation.vault.asked == 2
    rotation.now += 1
    first, second = await asyncio.gather(
        rotation.endpoints.after_refusal(used), rotation.endpoints.after_refusal(used)
    )

    assert rotation.vault.asked == 3
    assert first is second
    assert first is not None
    assert first.keys == (B,)
    assert await rotation.endpoints.after_refusal(used) is first  # it was refused with the old key


@pytest.mark.anyio
async def test_what_is_fixed_is_not_asked_for() -> None:
    endpoints = Endpoints.load(EAST, environ={})

    assert await endpoints.after_refusal(endpoints.all[0]) is None


def test_a_setting_may_be_a_function_that_gives_several_strings() -> None:
    endpoints = Endpoints.load(lambda: [EAST, EAST.replace(A, B), WEST.replace(B, C)], environ={})

    assert [endpoint.keys for endpoint in endpoints.all] == [(A, B), (C,)]
    assert endpoints.seal_keys == (A, B, C)


def test_an_endpoint_that_is_gone_from_the_configuration_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no endpoint any more"):
        Endpoints.load(EAST, environ={}).at("https://west.service.signalr.net")
