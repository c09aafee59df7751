"""The filter of ``:execute``: the examples of Microsoft's documentation of Web PubSub's filter, and its grammar."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.local.admission import Refused
from signalr_upstream.local.rest.filter import Filter, Subject

ANN = Subject("c1", "user-ab-de", {"group1", "vip"})
ANONYMOUS = Subject("c2", None, set())


@pytest.mark.parametrize(
    ("text", "ann", "anonymous"),
    [
        # learn.microsoft.com/azure/azure-web-pubsub/reference-odata-filter, "Supported operations"
        ("length(userId) le 10 and length(userId) gt 3", True, False),
        ("length(userId) gt 10 or length(userId) le 3", False, False),
        ("not endswith(userId, 'milk')", True, False),
        ("userId eq 'user-ab-de'", True, False),
        ("userId eq null", False, True),
        ("userId ne 'user1'", True, True),
        ("userId ne null", True, False),
        ("length(userId) ge 10", True, False),
        ("length(userId) lt 3", False, False),
        ("'group1' in groups", True, False),
        ("userId in ('user1','user-ab-de')", True, False),
        ("userId eq 'user1' or (not (startswith(userId,'user2')))", True, False),
        ("tolower(userId) eq 'user-ab-de'", True, False),
        ("toupper(userId) eq 'USER-AB-DE'", True, False),
        ("trim(concat(' ', userId)) eq 'user-ab-de'", True, False),
        ("substring(userId,5,2) eq 'ab'", True, False),
        ("endswith(userId,'de')", True, False),
        ("startswith(userId,'user')", True, False),
        ("indexof(userId,'-ab-') ge 0", True, False),
        ("indexof(userId,'x') eq -1", True, False),
        ("length(groups) gt 1", True, False),
        ("userId eq 'user1' and connectionId ne '123'", False, False),
        ("userId eq 'user-ab-de' and (not ('group2' in groups))", True, False),
        ("userId eq 'user''1'", False, False),
        ("contains(userId, 'ab')", True, False),
        ("true", True, True),
        ("false", False, False),
        # names are read in any case, values with it
        ("USERID EQ 'user-ab-de' AND 'vip' IN Groups", True, False),
        ("userId eq 'USER-AB-DE'", False, False),
        ("'VIP' in groups", False, False),
        # precedence: and before or
        ("true or true and false", True, True),
        ("(true or true) and false", False, False),
        ("not true or true", True, True),
        # what is unknown is neither true nor false
        ("startswith(userId, 'user') or true", True, True),
        ("not (startswith(userId, 'user') and true)", False, False),
        ("not (length(userId) gt 5)", False, False),
        ("null", False, False),
        ("not null", False, False),
        ("null eq null", True, True),
        ("userId gt 'a' or userId eq null", True, True),
        ("userId in ('a', null)", False, True),
        ("null in groups", False, False),
        ("null in ('a', 1)", False, False),
        # forms
        ("'vip' in (groups)", True, False),
        ("connectionId gt 'c1'", False, True),
        ("(connectionId) in (('c1'))", True, False),
        ("length('ab') in (+2, 3)", True, True),
        ("(length(groups) eq 0) eq true", False, True),
        ("substring(userId, 8) eq 'de' or substring('abc', -1, -1) eq 'x'", True, False),
        (" \t userId\n eq 'user-ab-de' ", True, False),
        ("contains('it''s', '''')", True, True),
        ("(" * 24 + "true" + ")" * 24, True, True),
        (" or ".join(["userId eq 'x'"] * 200), False, False),
    ],
)
def test_who_is_found(text: str, ann: bool, anonymous: bool) -> None:
    found = Filter(text)

    assert (found.matches(ANN), found.matches(ANONYMOUS)) == (ann, anonymous)


@pytest.mark.parametrize(
    ("text", "character", "expected"),
    [
        ("", 1, "at its end"),
        ("userId eq", 10, "at its end"),
        ("userId", 1, "expected true or false, and this is a text"),
        ("userId eq 'ann", 11, "a text in single quotes"),
        ("user eq 'ann'", 1, "at \"user eq 'ann'\" (character 1): expected connectionId, userId, groups"),
        ("userId == 'a'", 8, "a name, a number"),
        ("userId is 'a'", 8, "the end or an operator"),
        ("userId eq 'a' 'b'", 15, "the end or an operator"),
        ("userId eq 1", 11, "expected a text, and this is a number"),
        ("length(userId) eq 'a'", 19, "expected a number, and this is a text"),
        ("length(1) eq 1", 8, "expected a text or groups, and this is a number"),
        ("length(userId eq 'a'", 8, "expected a text or groups, and this is true or false"),
        ("startswith(userId)", 18, "expected ','"),
        ("startswith(userId, 'a', 'b')", 23, "expected ')'"),
        ("substring(userId, 1, 2, 3) eq 'a'", 23, "expected ')'"),
        ("startswith userId", 1, "one of the functions startswith"),
        ("groups eq 'a'", 1, "expected a text or a number or true or false, and this is groups"),
        ("true gt false", 1, "expected a text or a number, and this is true or false"),
        ("'a' in userId", 8, "groups, or a list in parentheses"),
        ("'a' in ()", 9, "expected connectionId"),
        ("'a' in ('b'", 12, "expected ')'"),
        ("'a' in ('b', 1)", 14, "expected a text, and this is a number"),
        ("'a' in (groups, 'b')", 9, "expected a text, and this is groups"),
        ("1 in groups", 1, "expected a text, and this is a number"),
        # documented: `not` binds to length(userId) alone
        ("not length(userId) gt 5", 5, "expected true or false, and this is a number"),
        ("(true", 6, "expected ')'"),
        ("true and 1", 10, "expected true or false, and this is a number"),
        ("1 or true", 1, "expected true or false, and this is a number"),
        ("length(userId) eq 99999999999999999999", 19, "a whole number"),
        ("userId eq 5x", 11, "a name, a number"),
        ("(" * 51 + "true" + ")" * 51, 51, "at most 50"),
        ("not " * 51 + "true", 201, "at most 50"),
    ],
)
def test_a_bad_filter_is_pointed_at(text: str, character: int, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        Filter(text)

    assert refused.value.status_code == 400
    assert f"(character {character})" in str(refused.value)
    assert expected in str(refused.value)


WORDS = st.sampled_from(["userId", "groups", "(", ")", ",", "'a'", "1", "null", "'", "💥"]) | st.sampled_from(
    ["eq", "and", "or", "not", "in", "length", "substring", "contains"]
)


@given(st.lists(WORDS, max_size=15).map(" ".join) | st.text(max_size=30) | st.lists(WORDS).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(Refused):
        found = Filter(text)
        assert found.matches(ANN) in (True, False)
        assert found.matches(ANONYMOUS) in (True, False)
