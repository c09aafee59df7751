import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.errors import NotFoundError, ServiceError, TooLargeError, UnauthorizedError
from signalr_upstream.protocol.rest import OPERATIONS
from signalr_upstream.protocol.rest_errors import MAX_TEXT, refusal

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"


def text_of(status: int, body: bytes, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return str(refusal(OPERATIONS["send_to_all"], status, named, body))


# Shapes of bodies: swagger's ErrorDetail, ASP.NET problem details, plain text.
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"code":"InvalidArgument","message":"bad"}', "answered 400: bad ("),
        (b'{"error":{"message":"inner"}}', "answered 400: inner ("),
        (b'{"error":"oauth style"}', "answered 400: oauth style ("),
        (
            b'{"title":"One or more validation errors occurred.","errors":{"ttl":["not an int"],"x":1,"y":[2]}}',
            "answered 400: One or more validation errors occurred. not an int (",
        ),
        (b'{"errors":{"hub":["Invalid hub name."]}}', "answered 400: Invalid hub name. ("),
        (b"User `dev` is not found.", "answered 400: User `dev` is not found. ("),
        (b'"only text"', "answered 400: only text ("),
        (b"<html><center>nginx</center></html>", "answered 400 ("),
        (b"[1]", "answered 400 ("),
        (b'{"x":1}', "answered 400 ("),
        (b"", "answered 400 ("),
    ],
)
def test_the_services_own_words_are_in_the_error(body: bytes, words: str) -> None:
    assert words in text_of(400, body)


def test_the_reason_of_a_401_is_read_from_its_challenge() -> None:
    # Recorded from the emulator.
    challenge = 'Bearer error="invalid_token", error_description="The signature key was not found"'

    error = refusal(OPERATIONS["send_to_all"], 401, {"www-authenticate": challenge}, b"")

    assert isinstance(error, UnauthorizedError)
    assert "401: The signature key was not found (" in str(error)
    assert "clock" in str(error)


def test_a_404_with_and_without_an_error_code_reads_differently() -> None:
    bare = refusal(OPERATIONS["group_exists"], 404, {}, b"")
    coded = refusal(
        OPERATIONS["send_to_connection"], 404, {"x-ms-error-code": "Error.Connection.NotExisted"}, b""
    )

    assert "the endpoint or the hub is wrong" in str(bare)
    assert "Error.Connection.NotExisted (It is not connected" in str(coded)
    assert isinstance(coded, NotFoundError)
    assert (coded.operation, coded.status, coded.error_code) == (
        "send_to_connection",
        404,
        "Error.Connection.NotExisted",
    )


@pytest.mark.parametrize("status", [414, 431])
def test_a_url_that_is_too_long_is_told_as_such(status: int) -> None:
    error = refusal(OPERATIONS["send_to_all"], status, {}, b"")

    assert isinstance(error, TooLargeError)
    assert "Exclude fewer" in str(error)


def test_a_text_of_nothing_but_beginnings_of_tokens_is_read_once() -> None:
    """A client chooses the text of its error: looked through at each `eyJ` anew, this one took hours."""
    assert "eyJeyJ" in text_of(400, b"eyJ" * 350_000)


def test_a_token_that_is_sent_back_is_not_shown() -> None:
    assert TOKEN not in text_of(400, f"bad token {TOKEN}".encode(), x_ms_error_code=TOKEN)
    assert "c2lnbmF0" not in text_of(401, b"", www_authenticate=f'Bearer error_description="{TOKEN}"')


def test_long_words_are_cut_and_control_characters_escaped() -> None:
    text = text_of(500, b"a\r\nInjected: line\x1b[31m" + b"x" * 5000)

    assert "\\r\\nInjected: line\\x1b[31m" in text
    assert text.isprintable()
    assert len(text) < MAX_TEXT + 150


@given(status=st.integers(100, 999), body=st.binary(max_size=200), code=st.none() | st.text(max_size=20))
@settings(max_examples=150)
def test_any_answer_is_one_printable_error(status: int, body: bytes, code: str | None) -> None:
    headers = {} if code is None else {"x-ms-error-code": code}

    error = refusal(OPERATIONS["send_to_all"], status, headers, body)

    assert isinstance(error, ServiceError)
    assert error.status == status
    assert str(error).isprintable()


def test_deep_nesting_in_a_body_is_no_reason_to_fail() -> None:
    assert "answered 500" in text_of(500, b"[" * 100_000)
