import pytest

from signalr_upstream.auth import sign_connection
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.endpoints import Endpoints
from signalr_upstream.errors import NoKeysError, SignatureError

A, B, C = "a" * 44, "b" * 44, "c" * 44
EAST = f"Endpoint=https://east.service.signalr.net;AccessKey={A};"
WEST = f"Endpoint=https://west.service.signalr.net;AccessKey={B};"


def signed(key: str) -> bytes:
    return sign_connection("c1", [key]).encode()


def test_the_key_that_signed_names_the_endpoint() -> None:
    endpoints = Endpoints.load([EAST, WEST], environ={})

    assert endpoints.first.url == "https://east.service.signalr.net"
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
    assert endpoints.verify(signed(B), b"c1") is endpoints.first


def test_a_key_that_two_endpoints_share_names_neither() -> None:
    endpoints = Endpoints.load([EAST, WEST.replace(B, A)], environ={})

    assert endpoints.verify(signed(A), b"c1") is None


def test_an_upstream_key_verifies_and_names_an_only_endpoint() -> None:
    one = Endpoints.load(EAST, environ={}, upstream_keys=[C])
    two = Endpoints.load([EAST, WEST], environ={}, upstream_keys=[C, A])

    assert one.verify(signed(C), b"c1") is one.first
    assert two.verify(signed(C), b"c1") is None
    assert two.verify(signed(A), b"c1") is two.first


def test_upstream_keys_alone_are_enough_to_serve() -> None:
    endpoints = Endpoints.load(environ={}, upstream_keys=[C])

    endpoints.require_keys()
    assert endpoints.verify(signed(C), b"c1") is None
    with pytest.raises(NoKeysError, match="connection string"):
        _ = endpoints.first


@pytest.mark.parametrize("key", ["", "${KEY}", "short"])
def test_with_no_real_key_nothing_is_verified(key: str) -> None:
    endpoints = Endpoints.load(f"Endpoint=https://east;AccessKey={key};", environ={}, upstream_keys=[key])

    with pytest.raises(NoKeysError, match="AccessKey of https://east"):
        endpoints.require_keys()
    with pytest.raises(NoKeysError):
        endpoints.verify(b"sha256=" + b"0" * 64, b"c1")


def test_the_environment_is_read_where_no_setting_is_given() -> None:
    environ = {"AzureSignalRConnectionString": EAST, "OtherConnection": WEST}

    assert Endpoints.load(environ=environ).first.url == "https://east.service.signalr.net"
    assert (
        Endpoints.load(environ=environ, name="OtherConnection").first.url
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
        assert endpoints.verify(signed(EMULATOR_KEY), b"c1") is endpoints.first
    else:
        with pytest.raises(SignatureError):
            endpoints.verify(signed(EMULATOR_KEY), b"c1")


def test_the_emulators_public_key_alone_is_no_key() -> None:
    with pytest.raises(NoKeysError):
        Endpoints.load(environ={}, upstream_keys=[EMULATOR_KEY]).require_keys()
