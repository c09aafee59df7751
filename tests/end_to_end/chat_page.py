"""What people do on the page of the chat example."""

from collections.abc import Sequence

from .clients import Browser, Window


def sign_in(browser: Browser, url: str, name: str, protocol: str, *, without: Sequence[str] = ()) -> Window:
    """A window in which somebody has entered the chat."""
    window = browser.open(url, without=without)
    window.do("fill", "textbox", "Your name", value=name)
    window.do("check", "radio", protocol)
    window.do("click", "button", "Enter")
    window.see("status", "", "connected")
    return window


def say(window: Window, text: str) -> None:
    """Write a message and send it."""
    window.do("fill", "textbox", "Message", value=text)
    window.do("click", "button", "Send")
