import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signalr_upstream.auth import decode_token
from signalr_upstream.claims import (
    MAX_CACHED_SEALS,
    MAX_CANDIDATES,
    MAX_LIFETIME,
    SEAL_CLAIM,
    SEAL_LABEL,
    Claims,
    ClientAccess,
    Identity,
    Unsealer,
    client_access,
    seal,
)
from signalr_upstream.connection_string import EMULATOR_KEY, parse_connection_string
from signalr_upstream.errors import IdentityError, InvalidNameError, NoKeysError

KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
SECOND_KEY = "ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210zyxwvuts"
SEAL_KEY = "a key for seals only, with no other use at all"
NOW = 1_700_000_000.0
ENDPOINT = parse_connection_string(f"Endpoint=https://abc:8443;AccessKey={KEY}")

# Seals that were really issued: to ann when she was an administrator, and to somebody else who is one.
ANNS_OLD_SEAL = seal("ann", {"role": "admin"}, KEY)
BOBS_SEAL = seal("bob", {"role": "admin"}, KEY)
ANONYMOUS_SEAL = seal(None, {"role": "admin"}, KEY)
FORGED_SEAL = seal("ann", {"role": "admin"}, SECOND_KEY)


def token_claims(access: ClientAccess) -> dict[str, Any]:
    return decode_token(access.access_token, [KEY], now=NOW, audiences=None)


def claims_header(access: ClientAccess) -> str:
    """What the service makes of a token: `type: value`, joined with ", ", unescaped, in the token's order."""
    pairs = [
        (name, value)
        for name, values in token_claims(access).items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return ", ".join(f"{name}: {value}" for name, value in pairs)


def access_of(identity: Identity, **options: Any) -> ClientAccess:
    return client_access(identity, **{"endpoint": ENDPOINT, "hub": "chat", "now": NOW, **options})


# ---- the token ----


def test_the_token_has_microsofts_claims_in_microsofts_order_and_the_seal() -> None:
    identity = Identity(
        "ann", claims={"role": ["admin", "user"], "name": "Ann", "exp": "x", "none": []}, lifetime=60.5
    )
    access = access_of(identity, now=NOW + 0.9)

    assert access.url == "https://abc:8443/client/?hub=chat"
    claims = token_claims(access)
    assert list(claims) == ["asrs.s.uid", "role", "name", "asrs.u.exp", "su", "nbf", "exp", "iat", "aud"]
    assert claims["role"] == ["admin", "user"]
    assert claims["name"] == "Ann"
    assert (claims["nbf"], claims["iat"], claims["exp"]) == (NOW, NOW, NOW + 61)
    assert claims["aud"] == "https://abc/client/?hub=chat"


def test_client_endpoint_changes_the_url_and_not_the_audience() -> None:
    endpoint = parse_connection_string(
        f"Endpoint=http://localhost;ClientEndpoint=https://remote/x/;AccessKey={KEY}"
    )
    access = access_of(Identity.anonymous(), endpoint=endpoint, hub="signalrBench", application="App")

    assert access.url == "https://remote/x/client/?hub=app_signalrbench"
    assert token_claims(access)["aud"] == "http://localhost/client/?hub=app_signalrbench"


def test_a_hub_name_is_escaped_in_the_url_and_plain_in_the_audience() -> None:
    access = access_of(Identity.anonymous(), hub="a,b[`]")

    assert access.url == "https://abc:8443/client/?hub=a%2Cb%5B%60%5D"
    assert token_claims(access)["aud"] == "https://abc/client/?hub=a,b[`]"


@pytest.mark.parametrize(
    "names", [{"hub": ""}, {"hub": "a&hub=b"}, {"hub": "../x"}, {"hub": "a b"}, {"application": "a#b"}]
)
def test_a_name_that_would_change_the_url_or_the_audience_is_refused(names: dict[str, str]) -> None:
    with pytest.raises(InvalidNameError):
        access_of(Identity.anonymous(), **names)


def test_a_second_sub_and_the_services_own_names_are_renamed() -> None:
    claims = token_claims(access_of(Identity("ann", claims={"sub": ["a", "b", "c"], "iss": ["x", "y"]})))

    assert claims["sub"] == "a"
    assert claims["asrs.u.sub"] == ["b", "c"]
    assert claims["asrs.u.iss"] == ["x", "y"]


def test_negotiate_answers_exactly_two_members() -> None:
    access = ClientAccess("https://abc/client/?hub=chat", "token")

    assert access.encode() == b'{"url":"https://abc/client/?hub=chat","accessToken":"token"}'


def test_an_endpoint_without_keys_gives_no_access() -> None:
    endpoint = parse_connection_string("Endpoint=https://abc;AccessKey=;")

    with pytest.raises(NoKeysError, match="is empty"):
        access_of(Identity("ann"), endpoint=endpoint, seal_key=SEAL_KEY)


def test_a_token_that_the_service_would_not_take_names_its_longest_claim() -> None:
    identity = Identity(
        "ann", claims={"short": "s", "long": ["secretvalue" * 100, "y" * 1000], "mid": "m" * 900}
    )

    with pytest.raises(
        IdentityError, match=r"over 4096; the longest claim is 'long' with 2100 characters"
    ) as caught:
        access_of(identity)
    assert "secretvalue" not in str(caught.value)
    with pytest.raises(IdentityError, match="over 4096; the user id is too long"):
        access_of(Identity("u" * 2000))


# ---- the identity ----


@pytest.mark.parametrize(
    ("user_id", "text"),
    [
        ("", "the user id is empty"),
        (None, "the user id is empty"),
        (0, r"the user id has to be text, not int: write str\(\.\.\.\)$"),
        (b"ann", "the user id has to be text, not bytes$"),
        ("a\r\nb", "the user id has control characters"),
        ("a\0", "the user id has control characters"),
        ("a\ud800", "the user id has control characters"),
    ],
)
def test_a_user_id_that_is_none_is_refused(user_id: Any, text: str) -> None:
    with pytest.raises(IdentityError, match=text):
        Identity(user_id)


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"asrs.s.uid": "evil"}, "the claim 'asrs.s.uid' is reserved"),
        ({"ASRS.u.aud": "evil"}, "the claim 'ASRS.u.aud' is reserved"),
        ({"su": "evil"}, "the claim 'su' is reserved"),
        ({"SU": "evil"}, "the claim 'SU' is reserved"),
        ({"": "evil"}, "'' is no name for a claim"),
        ({" ": "evil"}, "' ' is no name for a claim"),
        ({"a\nb": "evil"}, r"'a\\nb' is no name for a claim"),
        ({5: "evil"}, "5 is no name for a claim"),
        ({"name": "evil\x7f"}, "the claim 'name' has control characters"),
        ({"name": ["x", "evil\n"]}, "the claim 'name' has control characters"),
        ({"name": 5}, "the claim 'name' is neither text nor a sequence of texts: got int"),
        ({"name": ["x", None]}, "the claim 'name' is neither text nor a sequence of texts: got NoneType"),
        ({"name": {"evil"}}, "the claim 'name' is neither text nor a sequence of texts: got set"),
        ({"name": b"evil"}, "the claim 'name' is neither text nor a sequence of texts: got int"),
    ],
)
def test_a_claim_that_cannot_be_issued_is_refused_by_its_name(claims: Any, text: str) -> None:
    with pytest.raises(IdentityError, match=text) as caught:
        Identity("ann", claims=claims)

    assert "evil" not in str(caught.value)
    with pytest.raises(IdentityError):
        seal("ann", claims, KEY)


@pytest.mark.parametrize("lifetime", [0, -1, float("nan"), float("inf"), MAX_LIFETIME + 1])
def test_a_lifetime_that_is_no_time_is_refused(lifetime: float) -> None:
    with pytest.raises(IdentityError, match="the lifetime is not between"):
        Identity("ann", lifetime=lifetime)


def test_anonymous_has_no_user_id_and_cannot_get_one_through_a_claim() -> None:
    identity = Identity.anonymous(claims={"name": "guest"}, lifetime=60)

    assert identity.user_id is None
    claims = token_claims(access_of(identity))
    assert list(claims)[:2] == ["name", "su"]
    assert claims["exp"] == NOW + 60
    for name in ("sub", "nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"):
        with pytest.raises(IdentityError, match=r"would take the claim .* as the user id"):
            Identity.anonymous(claims={name: "ann"})


def test_claims_changed_after_the_identity_was_made_do_not_count() -> None:
    roles = ["user"]
    identity = Identity("ann", claims={"role": roles})
    roles.append("admin")

    assert token_claims(access_of(identity))["role"] == "user"


# ---- the seal ----


def test_a_seal_is_base64url_json_and_an_hmac_under_a_derived_key() -> None:
    packed, signature = seal("ann", {"role": ["a", "b"], "name": "\u00e9"}, KEY).split(".")

    def decode(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    derived = hmac.digest(KEY.encode(), SEAL_LABEL, "sha256")
    assert json.loads(decode(packed)) == ["ann", {"role": ["a", "b"], "name": ["\u00e9"]}]
    assert decode(signature) == hmac.digest(derived, packed.encode(), "sha256")


@pytest.mark.parametrize(
    "identity", [Identity("ann", claims={"role": ["a, b", "c"], "n": []}), Identity("ann")]
)
def test_claims_come_back_as_they_were_issued(identity: Identity) -> None:
    claims = Unsealer([KEY]).unseal(claims_header(access_of(identity)), "ann")

    assert dict(claims) == dict(identity.claims)


def test_anonymous_claims_come_back_where_there_is_no_user_id() -> None:
    header = claims_header(access_of(Identity.anonymous(claims={"room": "1"})))

    assert Unsealer([KEY]).unseal(header, None) == {"room": ("1",)}
    assert Unsealer([KEY]).unseal(header, "ann") == {}
    assert Unsealer([KEY]).unseal(header, "") == {}


def test_a_seal_opens_with_any_configured_key_and_with_no_other() -> None:
    header = claims_header(access_of(Identity("ann", claims={"role": "admin"})))
    own = claims_header(access_of(Identity("ann", claims={"role": "admin"}), seal_key=SEAL_KEY))

    assert Unsealer([SECOND_KEY, KEY]).unseal(header, "ann") == {"role": ("admin",)}
    assert Unsealer([SECOND_KEY]).unseal(header, "ann") == {}
    assert Unsealer([]).unseal(header, "ann") == {}
    assert Unsealer([SEAL_KEY]).unseal(own, "ann") == {"role": ("admin",)}
    assert Unsealer([KEY]).unseal(own, "ann") == {}


def test_a_guessable_key_seals_and_opens_nothing() -> None:
    for use in (
        lambda: Unsealer([KEY, ""]),
        lambda: seal("ann", {}, "short"),
        lambda: access_of(Identity("ann"), seal_key="${SEAL_KEY_SEAL_KEY_SEAL_KEY_SEAL_KEY}"),
    ):
        with pytest.raises(ValueError, match="a seal key is empty, a placeholder, or shorter"):
            use()


@pytest.mark.parametrize("user_id", ["bob", "Ann", "ann ", "", None])
def test_a_seal_of_another_user_gives_nothing_also_when_it_was_opened_before(user_id: str | None) -> None:
    unsealer = Unsealer([KEY])
    header = f"role: user, su: {ANNS_OLD_SEAL}"
    assert unsealer.unseal(header, "ann") == {"role": ("admin",)}

    assert unsealer.unseal(header, user_id) == {}


def test_a_changed_seal_gives_nothing() -> None:
    unsealer = Unsealer([KEY])
    for index, character in enumerate(ANNS_OLD_SEAL):
        changed = ANNS_OLD_SEAL[:index] + ("A" if character != "A" else "B") + ANNS_OLD_SEAL[index + 1 :]
        assert unsealer.unseal(f"su: {changed}", "ann") == {}, index


def test_the_parts_of_two_seals_do_not_fit_together() -> None:
    mine = seal("ann", {"role": "user"}, KEY)
    mixed = ANNS_OLD_SEAL.split(".")[0] + "." + mine.split(".")[1]

    assert Unsealer([KEY]).unseal(f"su: {mixed}", "ann") == {}


def test_a_seal_and_an_upstream_signature_cannot_stand_for_each_other() -> None:
    # The upstream signature is an HMAC of the connection id with the access key itself.
    packed = ANNS_OLD_SEAL.split(".")[0]
    direct = base64.urlsafe_b64encode(hmac.digest(KEY.encode(), packed.encode(), "sha256")).rstrip(b"=")

    assert Unsealer([KEY]).unseal(f"su: {packed}.{direct.decode()}", "ann") == {}
    assert b"\0" in SEAL_LABEL


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"{}", b'["ann"]', b'["ann",{},1]', b'["ann",{"a":1}]', b"[" * 9000]
)
def test_signed_content_of_another_form_gives_nothing(content: bytes) -> None:
    packed = base64.urlsafe_b64encode(content).rstrip(b"=") or b"A"
    derived = hmac.digest(KEY.encode(), SEAL_LABEL, "sha256")
    signature = base64.urlsafe_b64encode(hmac.digest(derived, packed, "sha256")).rstrip(b"=")

    assert Unsealer([KEY]).unseal(f"su: {packed.decode()}.{signature.decode()}", "ann") == {}


def test_the_old_seal_of_the_same_user_does_not_win_over_the_new_one() -> None:
    header = claims_header(access_of(Identity("ann", claims={"name": f"Ann, su: {ANNS_OLD_SEAL}"})))

    assert Unsealer([KEY]).unseal(header, "ann") == {}


def test_a_seal_repeated_or_beside_worthless_ones_still_counts() -> None:
    header = f"su: {ANNS_OLD_SEAL}, su: {ANNS_OLD_SEAL},su:{FORGED_SEAL} , su: {BOBS_SEAL}, su: x.y, aud: z"

    assert Unsealer([KEY]).unseal(header, "ann") == {"role": ("admin",)}


def test_a_header_full_of_seals_is_not_worth_the_work() -> None:
    garbage = [f"su: a.{number}" for number in range(MAX_CANDIDATES - 1)]
    header = ", ".join([*garbage, f"su: {ANNS_OLD_SEAL}"])

    assert Unsealer([KEY]).unseal(header, "ann") == {"role": ("admin",)}
    assert Unsealer([KEY]).unseal(header + ", su: one.more", "ann") == {}


@pytest.mark.parametrize("header", ["", "su: ", "su", f"xsu: {ANNS_OLD_SEAL}", f"a: su: {ANNS_OLD_SEAL}"])
def test_a_header_without_a_seal_claim_gives_nothing(header: str) -> None:
    assert Unsealer([KEY]).unseal(header, "ann") == {}


def test_more_users_than_are_remembered_are_all_served() -> None:
    unsealer = Unsealer([KEY])
    headers = {
        f"u{number}": f"su: {seal(f'u{number}', {'n': str(number)}, KEY)}"
        for number in range(MAX_CACHED_SEALS + 2)
    }
    for _ in range(2):
        for number, (user_id, header) in enumerate(headers.items()):
            assert unsealer.unseal(header, user_id) == {"n": (str(number),)}


_HOSTILE = st.lists(
    st.sampled_from(
        [
            ", role: admin",
            f", su: {ANNS_OLD_SEAL}",
            f",su:{ANNS_OLD_SEAL}",
            f", su: {BOBS_SEAL}",
            f", su: {ANONYMOUS_SEAL}",
            f", su: {FORGED_SEAL}",
            ", su: ",
            ", su:",
            ", asrs.s.uid: bob",
            "ann",
            "bob",
            "admin",
            ",",
            " ",
            ": ",
            ".",
            ANNS_OLD_SEAL,
        ]
    )
    | st.text(max_size=4),
    max_size=6,
).map("".join)


@settings(max_examples=400)
@given(name=_HOSTILE, user_id=st.none() | st.sampled_from(["ann", "bob"]) | _HOSTILE, other=_HOSTILE)
@example(name=f"x, su: {ANNS_OLD_SEAL}", user_id="ann", other="")
@example(name=f"x, su: {BOBS_SEAL}", user_id="ann", other=", role: admin")
@example(name=f"x, su: {ANONYMOUS_SEAL}", user_id=None, other="")
@example(name="x", user_id=f"ann, su: {ANNS_OLD_SEAL}", other="")
@example(name="x, role: admin", user_id="ann", other="")
def test_no_claim_value_and_no_user_id_gives_a_role_that_was_not_issued(
    name: str, user_id: str | None, other: str
) -> None:
    claims = {"name": name, "other": [other, name], "role": "user"}
    try:
        access = access_of(
            Identity.anonymous(claims=claims) if user_id is None else Identity(user_id, claims=claims)
        )
    except IdentityError:  # control characters, an empty user id, or too long
        return

    found = Unsealer([KEY]).unseal(claims_header(access), user_id)

    assert "admin" not in found.get("role", ())
    # Either what was issued, or, where an old seal of the same user was smuggled in, nothing.
    assert found in ({}, {"name": (name,), "other": (other, name), "role": ("user",)})
    old_seals = {ANNS_OLD_SEAL, BOBS_SEAL, ANONYMOUS_SEAL}
    if not any(old in name + other + (user_id or "") for old in old_seals):
        assert found


@settings(max_examples=200)
@given(_HOSTILE, st.none() | st.just("ann"))
@example(f", su: {FORGED_SEAL}", "ann")
@example(f", su: {BOBS_SEAL}", "ann")
def test_no_header_gives_claims_without_a_seal_of_that_user(header: str, user_id: str | None) -> None:
    own = ANNS_OLD_SEAL if user_id else ANONYMOUS_SEAL

    assert Unsealer([KEY]).unseal(header.replace(own, ""), user_id) == {}


# ---- claims, and what is shown of it all ----


def test_claims_are_a_mapping_of_tuples() -> None:
    claims = Claims({"role": ("a", "b")})

    assert claims["role"] == ("a", "b")
    assert (list(claims), len(claims), claims.get("x", ())) == (["role"], 1, ())
    assert len(Claims()) == 0


def test_nothing_here_shows_a_value_a_user_id_a_token_or_a_key() -> None:
    identity = Identity("ann-the-user", claims={"role": "secretvalue"})
    access = access_of(identity, seal_key=SEAL_KEY)
    unsealer = Unsealer([KEY])
    secrets = (
        "ann-the-user",
        "secretvalue",
        KEY,
        SEAL_KEY,
        access.access_token,
        token_claims(access)[SEAL_CLAIM],
    )

    for holder in (identity, access, unsealer, Claims({"role": ("secretvalue",)})):
        for text in (repr(holder), str(holder), repr([holder]), f"{holder}"):
            assert not any(secret in text for secret in secrets)
    assert repr(identity) == "Identity(user_id=<redacted>, claims=<role>, lifetime=3600.0)"
    assert "user_id=None" in repr(Identity.anonymous())
    assert access.url in repr(access)
    assert access.access_token not in repr(access.__rich_repr__())
    assert EMULATOR_KEY not in repr(ENDPOINT)


# --- options of an identity ---


def payload_of(identity: Identity, **options: Any) -> dict[str, Any]:
    token: dict[str, Any] = jwt.decode(
        access_of(identity, **options).access_token, options={"verify_signature": False}
    )
    return token


def test_the_token_ends_with_the_login_behind_it() -> None:
    assert payload_of(Identity("ann", lifetime=60, expires_at=NOW + 3600))["exp"] == NOW + 60
    assert payload_of(Identity("ann", lifetime=3600, expires_at=NOW + 60.9))["exp"] == NOW + 60


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1, NOW + 0.5])
def test_a_login_that_has_ended_gets_no_token(expires_at: float) -> None:
    with pytest.raises(IdentityError, match="has ended"):
        access_of(Identity("ann", expires_at=expires_at))


@pytest.mark.parametrize("expires_at", [0, -1, float("nan"), float("inf"), 10**15])
def test_what_is_no_time_is_refused(expires_at: float) -> None:
    with pytest.raises(IdentityError, match="no time in Unix seconds"):
        Identity("ann", expires_at=expires_at)


# The spellings of Microsoft's SDK: rest-and-management.md, 3.2.
def test_the_services_own_claims_are_spelt_as_microsofts_sdk_spells_them() -> None:
    everything = Identity(
        "ann", expires_at=NOW + 60, close_on_expiration=True, detailed_errors=True, diagnostic=True
    )

    named = [(name, value) for name, value in payload_of(everything).items() if name.startswith("asrs.")]

    assert named == [
        ("asrs.s.uid", "ann"),
        ("asrs.s.dc", "true"),
        ("asrs.s.derror", "True"),
        ("asrs.s.coae", "true"),
        ("asrs.s.aeo", "1700000060"),
    ]


def test_without_a_login_of_its_own_a_connection_is_closed_when_the_token_ends() -> None:
    payload = payload_of(Identity.anonymous(lifetime=60, close_on_expiration=True))

    assert (payload["asrs.s.coae"], payload["asrs.s.aeo"]) == ("true", "1700000060")


def test_a_temporary_key_is_named_in_the_tokens_header() -> None:
    access = access_of(Identity("ann"), signing_key=SECOND_KEY, key_id="t-1")

    assert jwt.get_unverified_header(access.access_token) == {"alg": "HS256", "typ": "JWT", "kid": "t-1"}
    jwt.decode(
        access.access_token,
        SECOND_KEY,
        algorithms=["HS256"],
        options={"verify_aud": False, "verify_iat": False, "verify_exp": False, "verify_nbf": False},
    )


def test_seals_follow_keys_that_change() -> None:
    keys = [KEY]
    unsealer = Unsealer(lambda: keys)
    header = claims_header(access_of(Identity("ann", claims={"role": ["admin"]})))
    assert unsealer.unseal(header, "ann") == {"role": ("admin",)}

    keys[:] = [SECOND_KEY]

    assert unsealer.unseal(header, "ann") == {}


# --- tokens of others ---


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ("", {}),
        ("nothing", {}),
        ("role: admin", {"role": ("admin",)}),
        ("role: admin, role: user, name: Ann", {"role": ("admin", "user"), "name": ("Ann",)}),
        ("name: Doe, Jane, role: user", {"name": ("Doe, Jane",), "role": ("user",)}),
        ("name: a: b, empty: ", {"name": ("a: b",), "empty": ("",)}),
        (
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier: ann",
            {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": ("ann",)},
        ),
        # The attack that the docstring of Hub shows: it is why nobody gets this without asking.
        ("name: Doe, role: admin", {"name": ("Doe",), "role": ("admin",)}),
    ],
)
def test_raw_claims_are_believed_where_that_is_asked_for(
    header: str, claims: dict[str, tuple[str, ...]]
) -> None:
    assert Unsealer([KEY], trust_raw_claims=True).unseal(header, "ann") == claims
    assert Unsealer([KEY]).unseal(header, "ann") == {}


def test_a_seal_or_what_looks_like_one_is_never_read_as_raw_claims() -> None:
    trusting = Unsealer([KEY], trust_raw_claims=True)
    issued = access_of(Identity("ann", claims={"name": "Doe, role: admin"}))

    assert trusting.unseal(claims_header(issued), "ann") == {"name": ("Doe, role: admin",)}
    assert trusting.unseal(claims_header(issued), "bob") == {}
    assert trusting.unseal(f"role: admin, {SEAL_CLAIM}: {FORGED_SEAL}", "ann") == {}


def test_absurdly_many_raw_claims_are_read_in_no_time() -> None:
    trusting = Unsealer([KEY], trust_raw_claims=True)

    assert len(trusting.unseal(", ".join(f"{number}: x" for number in range(50_000)), "ann")) == 50_000
    assert trusting.unseal(":" * 200_000, "ann") == {}
    assert trusting.unseal(", " * 100_000, "ann") == {}
