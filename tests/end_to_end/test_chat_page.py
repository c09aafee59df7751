"""The page of the chat example in Chromium: two windows, one JSON and one MessagePack."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .chat_page import say, sign_in
from .clients import Browser, Window
from .conftest import EXAMPLE
from .processes import dev, wait_until


@pytest.fixture
def ann(browser: Browser, chat_url: str) -> Iterator[Window]:
    window = sign_in(browser, chat_url, "Ann", "JSON")
    yield window
    window.do("close")


@pytest.fixture
def bob(browser: Browser, chat_url: str, ann: Window) -> Iterator[Window]:
    window = sign_in(browser, chat_url, "Bob", "MessagePack")
    ann.see("list", "People", "Bob")
    window.see("list", "People", "Ann")
    yield window
    window.do("close")


def test_two_windows_chat_across_json_and_messagepack(ann: Window, bob: Window) -> None:
    assert (ann.do("last_frame"), bob.do("last_frame")) == ("text", "binary")
    ann.see("list", "Messages", "Bob joined")

    say(ann, "Hello Bob <b>😀</b>")
    bob.see("list", "Messages", "Hello Bob <b>😀</b>")
    say(bob, "/shout hello ann")
    ann.see("list", "Messages", "HELLO ANN")

    for window in (ann, bob):
        window.see("list", "Messages", "✓ sent", exact=False)
    assert sorted(ann.read("list", "People")) == ["Ann (you)", "Bob"]
    assert sorted(bob.read("list", "People")) == ["Ann", "Bob (you)"]


def test_a_refusal_is_shown_and_the_text_stays_to_be_changed(ann: Window) -> None:
    say(ann, "/dance")
    ann.see("alert", "", "There is no command /dance. The one there is: /shout.")
    assert ann.do("value", "textbox", "Message") == "/dance"

    say(ann, "/shout better")
    ann.see("list", "Messages", "BETTER")
    ann.do("see_gone", "alert")
    assert ann.do("value", "textbox", "Message") == ""


def test_people_join_and_leave_rooms(ann: Window, bob: Window) -> None:
    for window in (ann, bob):
        window.do("fill", "textbox", "Room to join", value="tea")
        window.do("click", "button", "Join")
        window.see("list", "Rooms", "tea")
    ann.see("list", "Messages", "Bob joined")
    say(bob, "in the tea room")
    ann.see("list", "Messages", "in the tea room")
    ann.do("click", "button", "lobby")
    ann.see_gone("list", "Messages", "in the tea room")

    ann.do("click", "button", "tea")
    ann.see("list", "People", "Bob")
    bob.do("click", "button", "Leave tea")
    bob.see_gone("list", "Rooms", "tea")
    ann.see("list", "Messages", "Bob left")
    ann.see_gone("list", "People", "Bob")


def test_a_message_to_one_person_is_marked_as_such(ann: Window, bob: Window) -> None:
    ann.do("click", "button", "Bob")
    say(ann, "between us")

    bob.see("list", "Messages", "Ann, to you alone")
    bob.see("list", "Messages", "between us")
    ann.see("list", "Messages", "you, to Bob alone")
    ann.do("click", "button", "Bob only ×")
    say(ann, "for everybody")
    bob.see("list", "Messages", "for everybody")


def test_who_closes_the_window_is_seen_to_leave(browser: Browser, chat_url: str, ann: Window) -> None:
    cid = sign_in(browser, chat_url, "Cid", "JSON")
    ann.see("list", "People", "Cid")

    cid.do("close")

    ann.see("list", "Messages", "Cid left")
    ann.see_gone("list", "People", "Cid")


def test_the_protocol_can_be_changed_while_one_is_there(ann: Window, bob: Window) -> None:
    ann.do("select", "combobox", "Protocol", value="messagepack")
    wait_until(lambda: ann.do("last_frame") == "binary", "Ann speaks MessagePack")

    say(ann, "Can you read this?")
    bob.see("list", "Messages", "Can you read this?")
    ann.see("list", "Messages", "Can you read this?")


def test_a_name_that_negotiate_refuses_leads_back_to_the_first_page(browser: Browser, chat_url: str) -> None:
    window = browser.open(chat_url)
    window.do("fill", "textbox", "Your name", value="\N{ZERO WIDTH SPACE}")
    window.do("click", "button", "Enter")

    window.see("alert", "", "The server did not accept this name.")

    window.do("fill", "textbox", "Your name", value="Ann")
    window.do("click", "button", "Enter")
    window.see("status", "", "connected")
    window.do("close")


def test_the_page_says_what_to_install_when_the_client_is_missing(tmp_path: Path) -> None:
    copy = tmp_path / "chat"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))

    with dev("app:app", folder=copy, log=tmp_path / "server.log") as server:
        answer = httpx.get(server.url)

    assert answer.status_code == 503
    assert "run `npm ci` in examples/chat" in answer.text


# The last ones: who polls and closes the window is seen for some seconds more.
@pytest.mark.parametrize(
    ("protocol", "without", "reader"),
    [
        ("JSON", ["WebSocket"], "eventsource"),
        ("JSON", ["WebSocket", "EventSource"], "fetch"),
        ("MessagePack", ["WebSocket"], "fetch"),
    ],
)
def test_a_browser_without_websockets_chats_too(
    browser: Browser, chat_url: str, ann: Window, *, protocol: str, without: list[str], reader: str
) -> None:
    name = f"Cid, {protocol} by {reader}"
    cid = sign_in(browser, chat_url, name, protocol, without=without)
    ann.see("list", "People", name)

    say(ann, "Hello Cid")
    cid.see("list", "Messages", "Hello Cid")
    say(cid, "/shout hello ann")
    ann.see("list", "Messages", "HELLO ANN")

    # what the page reads from is of another origin: the service's
    assert (cid.do("reader"), cid.do("last_frame")) == (reader, None)
    cid.do("close")
