import base64
import hmac
import json
import tracemalloc
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.auth import (
    MAX_CACHED_TOKENS,
    MAX_SIGNATURES,
    SignatureVerifier,
    TokenCache,
    decode_token,
    encode_token,
    read_key_id,
    sign_connection,
    verify_signature,
)
from signalr_upstream.connection_string import EMULATOR_KEY, Endpoint, parse_connection_string
from signalr_upstream.errors import NoKeysError, SignatureError, TokenError

KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
SECOND_KEY = "ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210zyxwvuts"
NOW = 1_700_000_000.0

# azure-sdk-for-net, SignalRTriggerResolverTests.cs: one connection id signed with two keys.
CONNECTION_ID = "0f9c97a2f0bf4706afe87a14e0797b11"
MICROSOFT_KEYS = ("7aab239577fd4f24bc919802fb629f5f", "a5f2815d0d0c4b00bd27e832432f91ab")
MICROSOFT_SIGNATURES = (
    "sha256=7767effcb3946f3e1de039df4b986ef02c110b1469d02c0a06f41b3b727ab561",
    "sha256=d4aefb65547a00a9881fa8ac8bd03d0faf77af9da5205d45c6e57cbda4377760",
)
BOTH = ",".join(MICROSOFT_SIGNATURES)

# The emulator signs with upper-case hex (its recorded upstream requests).
EMULATOR_SIGNATURE = "sha256=8805D739A12D46F22BCB15382A8C1C2BF38AE8F04566017BD613D5EF47CAFE2C"


def endpoint_of(url: str = "https://abc:8443", key: str = KEY) -> Endpoint:
    return parse_connection_string(f"Endpoint={url};AccessKey={key}")


@pytest.mark.parametrize(
    ("header", "keys", "index"),
    [
        (BOTH, MICROSOFT_KEYS, 0),
        (BOTH, MICROSOFT_KEYS[1:], 0),
        (MICROSOFT_SIGNATURES[1], MICROSOFT_KEYS, 1),
        (BOTH, (KEY, MICROSOFT_KEYS[1]), 1),
        (", ".join(MICROSOFT_SIGNATURES), MICROSOFT_KEYS[1:], 0),
        (f" {MICROSOFT_SIGNATURES[0]} ,,x", MICROSOFT_KEYS, 0),
        (MICROSOFT_SIGNATURES[0].upper(), MICROSOFT_KEYS, 0),
        (EMULATOR_SIGNATURE, (EMULATOR_KEY,), 0),
    ],
)
def test_a_signature_of_microsofts_is_found(header: str, keys: tuple[str, ...], index: int) -> None:
    assert verify_signature(header, CONNECTION_ID, keys) == index
    assert SignatureVerifier(keys).verify(header.encode(), CONNECTION_ID.encode()) == index


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        "sha256=",
        "sha256",
        MICROSOFT_SIGNATURES[0].removeprefix("sha256="),
        MICROSOFT_SIGNATURES[0][:-1],
        MICROSOFT_SIGNATURES[0] + "0",
        MICROSOFT_SIGNATURES[0].replace("=", "= "),
        MICROSOFT_SIGNATURES[0].replace("sha256", "sha1"),
        MICROSOFT_SIGNATURES[0].replace("f", "\uff46"),
        MICROSOFT_SIGNATURES[0] + "\x00",
        "\ud800",
        "," * MAX_SIGNATURES + MICROSOFT_SIGNATURES[0],
    ],
)
def test_a_header_without_the_exact_signature_is_refused(header: str) -> None:
    with pytest.raises(SignatureError):
        verify_signature(header, CONNECTION_ID, MICROSOFT_KEYS)


@pytest.mark.parametrize("connection_id", ["", "other", CONNECTION_ID.upper(), CONNECTION_ID + " ", "\ud800"])
def test_a_signature_of_another_connection_is_refused(connection_id: str) -> None:
    with pytest.raises(SignatureError):
        verify_signature(BOTH, connection_id, MICROSOFT_KEYS)


def test_a_signature_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify_signature(BOTH, CONNECTION_ID, [KEY])


@pytest.mark.parametrize(
    "keys", [(), ("",), (KEY, ""), (" " * 40,), ("a",), ("${KEY_KEY_KEY_KEY_KEY_KEY_KEY_KEY}",)]
)
def test_verifying_with_no_key_or_a_guessable_one_is_an_error(keys: tuple[str, ...]) -> None:
    # What anybody could send if the check took an empty key.
    guessed = (*keys, "")[0].encode()
    header = "sha256=" + hmac.digest(guessed, CONNECTION_ID.encode(), "sha256").hex()

    with pytest.raises(ValueError, match="access key"):
        verify_signature(header, CONNECTION_ID, keys)


def test_a_verifier_without_keys_refuses_everything() -> None:
    with pytest.raises(SignatureError):
        SignatureVerifier(()).verify(BOTH.encode(), CONNECTION_ID.encode())


def test_a_guessable_key_makes_no_verifier_signature_or_token() -> None:
    for use in (
        lambda: SignatureVerifier([KEY, "short"]),
        lambda: sign_connection("c", ["short"]),
        lambda: encode_token({}, "short"),
        lambda: decode_token("t", ["short"], now=None, audiences=None),
    ):
        with pytest.raises(ValueError, match="an access key is empty, a placeholder, or shorter"):
            use()


def test_signing_gives_one_lower_case_item_a_key() -> None:
    assert sign_connection(CONNECTION_ID, MICROSOFT_KEYS) == BOTH


@settings(max_examples=100)
@given(header=st.binary(max_size=120), connection_id=st.binary(max_size=40))
def test_no_made_up_header_is_a_signature(header: bytes, connection_id: bytes) -> None:
    with pytest.raises(SignatureError):
        SignatureVerifier([KEY, SECOND_KEY]).verify(header, connection_id)


def test_a_refusal_shows_a_short_harmless_piece_of_the_connection_id() -> None:
    with pytest.raises(SignatureError) as caught:
        SignatureVerifier([KEY]).verify(b"sha256=secret", b"\r\n\xff" + b"x" * 5000)

    text = str(caught.value)
    assert len(text) < 200
    assert "secret" not in text
    assert text.isprintable()


def test_tokens_have_the_bytes_of_the_reference() -> None:
    # Made with PyJWT directly, from the claims that the service's documents ask for.
    token = encode_token(
        {"aud": "https://abc/api/hubs/hub/:send", "iat": 1700000000, "exp": 1700003600},
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    )

    assert token == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJodHRwczovL2FiYy9hcGkvaHVicy9odWIvOnNlbmQiLCJpYXQiOjE3"
        "MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0.VNf_vF_JBcVG70PDc01p6wks0YOQBuZUJiZ4UkLZCkI"
    )


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers(0, 2**40), max_size=4),
    st.none() | st.from_regex(r"[-\w]{1,20}", fullmatch=True, alphabet=st.characters(codec="ascii")),
)
def test_tokens_are_those_that_pyjwt_makes(claims: dict[str, Any], key_id: str | None) -> None:
    payload = msgspec.json.encode(claims)
    headers = None if key_id is None else {"kid": key_id}

    token = encode_token(claims, KEY, key_id=key_id)

    assert token == jwt.PyJWS().encode(payload, KEY, algorithm="HS256", headers=headers)
    assert jwt.PyJWS().decode_complete(token, KEY, algorithms=["HS256"])["payload"] == payload
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", **(headers or {})}


def test_a_token_of_another_implementation_is_taken() -> None:
    token = jwt.encode({"aud": "a", "exp": NOW + 1, "x": "é"}, SECOND_KEY, headers={"kid": "-1992756670"})

    assert decode_token(token, [KEY, SECOND_KEY], now=NOW, audiences=("b", "a"))["x"] == "é"


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"aud": "a", "exp": NOW}, "The token expired 0 seconds ago, at 1700000000.0"),
        (
            {"aud": "a", "exp": NOW + 9, "nbf": NOW + 1},
            "The token is not valid before 1700000001.0, in 1 seconds",
        ),
        ({"aud": "a"}, "The token has no usable expiration"),
        ({"aud": "a", "exp": "2099"}, "The token has no usable expiration"),
        ({"aud": "a", "exp": True}, "The token has no usable expiration"),
        ({"aud": "a", "exp": 10**400}, "The token has no usable expiration"),
        ({"aud": "a", "exp": NOW + 9, "nbf": -(10**400)}, "The token has no usable expiration"),
        ({"aud": "a", "exp": NOW + 9, "nbf": None}, "The token has no usable expiration"),
        ({"aud": "x", "exp": NOW + 9}, "The audience is invalid: expected a or b"),
        ({"aud": ["x", ["a"]], "exp": NOW + 9}, "The audience is invalid: expected a or b"),
        ({"exp": NOW + 9}, "The audience is invalid: expected a or b"),
    ],
)
def test_a_token_for_another_time_or_audience_is_refused(claims: dict[str, Any], text: str) -> None:
    token = encode_token(claims, KEY)

    with pytest.raises(TokenError) as caught:
        decode_token(token, [KEY], now=NOW, audiences=("a", "b"))

    assert str(caught.value).startswith(text)
    assert decode_token(token, [KEY], now=None, audiences=None) == claims


def test_one_of_several_audiences_is_enough() -> None:
    token = encode_token({"aud": ["x", "a"], "exp": NOW + 9}, KEY)

    assert decode_token(token, [KEY], now=NOW, audiences=("a",))["aud"] == ["x", "a"]


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c",
        "\ud800.b.c",
        jwt.api_jws.PyJWS().encode(b"[]", KEY),
        jwt.api_jws.PyJWS().encode(b"\xff", KEY),
        jwt.api_jws.PyJWS().encode(b'{"a":' * 5000, KEY),
        base64.urlsafe_b64encode(b'{"a":' * 5000).decode() + ".e30.AAAA",
    ],
)
def test_what_is_no_hs256_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(TokenError, match="The token is not an HS256 JWT") as caught:
        decode_token(token, [KEY], now=None, audiences=None)

    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "token",
    [
        encode_token({"aud": "a"}, SECOND_KEY),
        f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part({'aud': 'a'})}.",
        jwt.encode({"aud": "a"}, KEY * 2, algorithm="HS512"),
        jwt.encode({"aud": "a"}, KEY * 2, algorithm="HS384"),
    ],
)
def test_a_token_signed_with_an_unknown_key_is_refused(token: str) -> None:
    for keys, said in (([KEY], "the service's key"), ([KEY, KEY], "the service's 2 keys"), ([], "0 keys")):
        with pytest.raises(TokenError, match=f"The signature key was not found: .* {said}"):
            decode_token(token, keys, now=None, audiences=None)


def test_a_long_key_signs_with_hs512_too() -> None:
    # AccessTokenAlgorithm of Microsoft's SDK; Azure's keys have 84 characters.
    token = jwt.encode({"aud": "a"}, KEY * 2, algorithm="HS512")

    assert decode_token(token, [KEY, KEY * 2], now=None, audiences=None) == {"aud": "a"}


def test_a_clock_may_be_wrong_by_the_leeway() -> None:
    def decode(now: float) -> object:
        return decode_token(token, [KEY], now=now, audiences=None, leeway=300)

    token = encode_token({"nbf": NOW, "exp": NOW + 60}, KEY)

    assert decode(NOW - 300) == decode(NOW + 359) == {"nbf": NOW, "exp": NOW + 60}
    with pytest.raises(
        TokenError, match=r"expired 300 seconds ago, at 1700000060\.0; 300 seconds of clock skew"
    ):
        decode(NOW + 360)
    with pytest.raises(TokenError, match=r"not valid before 1700000000\.0, in 301 seconds; 300 seconds"):
        decode(NOW - 301)


@pytest.mark.parametrize(
    ("token", "key_id"),
    [
        (jwt.encode({}, KEY, headers={"kid": "t-1"}), "t-1"),
        (jwt.encode({}, KEY), None),
        (f"{_part({'alg': 'HS256', 'kid': 7})}.e30.AAAA", None),
        (f"{_part([1])}.e30.AAAA", None),
        (base64.urlsafe_b64encode(b'{"a":' * 5000).decode() + ".e30.AAAA", None),
        ("\ud800.b.c", None),
        ("garbage", None),
    ],
)
def test_the_id_of_a_key_is_read_from_any_text(token: str, key_id: str | None) -> None:
    assert read_key_id(token) == key_id


def test_a_rest_token_is_for_scheme_host_and_path_without_port() -> None:
    token = TokenCache().rest_token(endpoint_of(), "/api/hubs/chat/:send", now=NOW + 0.9)

    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, KEY, ["HS256"], options={"verify_exp": False, "verify_aud": False})
    assert list(claims.items()) == [
        ("aud", "https://abc/api/hubs/chat/:send"),
        ("iat", 1_700_000_000),
        ("exp", 1_700_003_600),
    ]


def test_a_rest_token_is_made_once_and_renewed_before_its_last_five_minutes() -> None:
    cache, endpoint = TokenCache(), endpoint_of()
    first = cache.rest_token(endpoint, "/p", now=NOW)

    assert cache.rest_token(endpoint, "/p", now=NOW + 3300) is first
    renewed = cache.rest_token(endpoint, "/p", now=NOW + 3301)
    assert renewed != first
    assert cache.rest_token(endpoint, "/p", now=NOW + 3302) is renewed
    # A clock that was put back makes a new token too: the old one comes from the future.
    assert cache.rest_token(endpoint, "/p", now=NOW) == first


def test_another_path_endpoint_or_key_has_another_token() -> None:
    cache = TokenCache()
    tokens = {
        cache.rest_token(endpoint_of(), "/p", now=NOW),
        cache.rest_token(endpoint_of(), "/q", now=NOW),
        cache.rest_token(endpoint_of("https://other"), "/p", now=NOW),
        cache.rest_token(endpoint_of(key=SECOND_KEY), "/p", now=NOW),
    }

    assert len(tokens) == 4


def test_the_token_used_longest_ago_is_forgotten_first() -> None:
    cache, endpoint = TokenCache(), endpoint_of()
    kept = cache.rest_token(endpoint, "/kept", now=NOW)
    dropped = cache.rest_token(endpoint, "/dropped", now=NOW)
    assert cache.rest_token(endpoint, "/kept", now=NOW) is kept
    for number in range(MAX_CACHED_TOKENS - 1):
        cache.rest_token(endpoint, f"/{number}", now=NOW)

    assert cache.rest_token(endpoint, "/kept", now=NOW) is kept
    assert cache.rest_token(endpoint, "/dropped", now=NOW) is not dropped


def test_tokens_of_long_paths_are_not_kept_for_clients_may_choose_the_names_in_them() -> None:
    cache, endpoint = TokenCache(), endpoint_of()
    cache.rest_token(endpoint, "/p", now=NOW)
    tracemalloc.start()
    try:
        for number in range(200):
            cache.rest_token(endpoint, f"/api/hubs/chat/groups/{number}" + "x" * 10_000, now=NOW)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 1_000_000  # with their tokens these paths are five times as much


def test_an_endpoint_without_keys_has_no_token() -> None:
    with pytest.raises(NoKeysError, match="AccessKey of https://abc:8443 is empty"):
        TokenCache().rest_token(endpoint_of(key=""), "/p", now=NOW)


def test_nothing_here_shows_a_key_or_a_token() -> None:
    cache = TokenCache()
    token = cache.rest_token(endpoint_of(), "/p", now=NOW)

    for holder in (SignatureVerifier([KEY]), cache):
        assert KEY not in repr(holder)
        assert token not in repr(holder)
        assert "redacted" in repr(holder)
