"""Where upstream calls are posted, and which paths may be one's."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalr_upstream.protocol.path import DEFAULT_PATTERN, PathPattern, expand_template

CALL = {"hub": "chat", "category": "messages", "event": "send"}


def test_a_template_is_filled_in_with_each_value_escaped_as_one_segment() -> None:
    filled = expand_template(
        "http://localhost:7071/x/{hub}/api/{category}/{event}?code=a{b}",
        hub="a/b",
        category="messages",
        event="é ?#%{hub}..",
    )

    assert filled == "http://localhost:7071/x/a%2Fb/api/messages/%C3%A9%20%3F%23%25%7Bhub%7D..?code=a{b}"


@pytest.mark.parametrize(("event", "segment"), [(".", "%2E"), ("..", "%2E%2E"), (".a.", ".a."), ("", "")])
def test_dots_alone_do_not_lead_to_another_path(event: str, segment: str) -> None:
    filled = expand_template("http://localhost/{hub}/{event}/x", hub="chat", category="messages", event=event)

    assert filled == f"http://localhost/chat/{segment}/x"
    assert PathPattern("/{hub}/{event}/x").agrees(
        f"/chat/{segment}/x".encode(), hub="chat", category="messages", event=event
    )


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{hub}",
        "x/{hub}",
        "//{hub}",
        "/{hub}//{event}",
        "/{hub}/{hub}",
        "/{Hub}",
        "/{name}",
        "/a{hub}",
        "/{hub",
        "/hub}",
        "/{hub}?code=1",
        "/{hub}#x",
    ],
)
def test_a_template_that_makes_no_sense_is_refused(template: str) -> None:
    if template == "":
        PathPattern(template)  # the same as "/": every path will do
    else:
        with pytest.raises(ValueError, match="path"):
            PathPattern(template)


def test_a_trailing_slash_of_the_template_does_not_matter() -> None:
    assert PathPattern("/{hub}/").template == "/{hub}"


@pytest.mark.parametrize(
    ("path", "agrees"),
    [
        ("/chat/messages/send", True),
        ("/prefix/chat/messages/send/", True),
        ("//chat///messages//send", True),
        ("/CHAT/Messages/SEND", True),
        ("/%63hat/messages/send", True),
        ("/chat/messages/sen", False),
        ("/mychat/messages/send", False),
        ("/chat/messages/send/x", False),
        ("/%2563hat/messages/send", False),
        ("", False),
    ],
)
def test_the_last_segments_decide(path: str, agrees: bool) -> None:
    assert PathPattern(DEFAULT_PATTERN).agrees(path.encode(), **CALL) is agrees


@given(st.text(min_size=1), st.text())
def test_what_the_service_expands_always_agrees(event: str, prefix: str) -> None:
    path = quote(prefix) + expand_template(DEFAULT_PATTERN, hub="chat", category="messages", event=event)

    assert PathPattern(DEFAULT_PATTERN).agrees(path.encode(), hub="CHAT", category="messages", event=event)


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        (DEFAULT_PATTERN, "/chat/messages/send", True),
        (DEFAULT_PATTERN, "/x/y//chat/messages/send/", True),
        (DEFAULT_PATTERN, "/messages/send", False),
        (DEFAULT_PATTERN, "/", False),
        ("/{hub}/api/{event}", "/chat/API/send", True),
        ("/{hub}/api/{event}", "/chat/other/send", False),
        ("/web.hook", "/x/web.hook", True),
        ("/web.hook", "/webxhook", False),
        ("/", "/anything", True),
    ],
)
def test_some_paths_could_be_an_upstream_calls_and_others_not(template: str, path: str, fits: bool) -> None:
    assert PathPattern(template).fits(path) is fits


@given(st.binary())
def test_no_path_is_too_odd_to_be_judged(path: bytes) -> None:
    PathPattern(DEFAULT_PATTERN).agrees(path, **CALL)
    PathPattern(DEFAULT_PATTERN).fits(path.decode("latin-1"))
