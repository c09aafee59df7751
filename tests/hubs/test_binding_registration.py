"""A signature that cannot be served fails where it is registered, naming what and where."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest

from signalr_upstream import Context, Hub
from signalr_upstream.errors import ConfigurationError, RegistrationError


class Plain:
    """A class that msgspec knows nothing about."""


async def unannotated_context(ctx, text: str) -> None:  # type: ignore[no-untyped-def]
    ...


async def keywords(ctx: Context, **options: str) -> None: ...


async def keyword_only(ctx: Context, *, text: str) -> None: ...


async def plain_class(ctx: Context, value: Plain) -> None: ...


async def nested_plain_class(ctx: Context, values: dict[str, list[Plain | None]]) -> None: ...


async def rest_of_plain_class(ctx: Context, *values: Plain) -> None: ...


async def function_type(ctx: Context, value: Callable[[], None]) -> None: ...


async def ambiguous(ctx: Context, value: bytes | str) -> None: ...


async def unresolved(ctx: Context, value: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def optional_context(ctx: Context | None, text: str) -> None: ...


async def many_contexts(*contexts: Context) -> None: ...


async def named_contexts(**contexts: Context) -> None: ...


def plain_generator(ctx: Context) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (unannotated_context, "annotate `ctx` with Context"),
        (keywords, "`options` can never be filled"),
        (keyword_only, "`text` can never be filled"),
        (plain_class, "the type of `value` cannot be decoded: Plain is no builtin"),
        (nested_plain_class, "the type of `values` cannot be decoded: Plain is no builtin"),
        (rest_of_plain_class, "the type of `values` cannot be decoded"),
        (function_type, "the type of `value` cannot be decoded"),
        (ambiguous, "the type of `value` cannot be decoded"),
        (unresolved, "NoSuchName"),
        (optional_context, "the type of `ctx` cannot be decoded"),
        (many_contexts, "there is one context"),
        (named_contexts, "there is one context"),
        (plain_generator, "it is a generator; a stream is an async one"),
    ],
)
def test_a_signature_that_can_never_be_served_is_refused_with_its_place(
    handler: Callable[..., Any], reason: str
) -> None:
    line = inspect.getsourcelines(handler)[1]

    with pytest.raises(RegistrationError) as refused:
        Hub("chat").on("go")(handler)

    assert reason in str(refused.value)
    assert f"{handler.__name__} ({__file__}:{line})" in str(refused.value)


@pytest.mark.parametrize("handler", [Plain(), functools.partial(keyword_only, text="x"), 5])
def test_what_is_no_function_is_refused_too(handler: Any) -> None:
    with pytest.raises(RegistrationError, match="cannot be a handler"):
        Hub("chat").on("go")(handler)


async def with_argument(ctx: Context, text: str) -> None: ...


async def context_behind_a_default(text: str = "", ctx: Context = None) -> None: ...  # type: ignore[assignment]


async def with_defaults(ctx: Context, text: str = "", *rest: int, flag: bool = False) -> None: ...


async def generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("event", ["connected", "disconnected"])
def test_nobody_waits_for_the_items_of_a_connection_event(event: str) -> None:
    with pytest.raises(RegistrationError, match="it is a generator, and nobody waits"):
        Hub("chat").on(event)(generator)


@pytest.mark.parametrize("event", ["connected", "disconnected"])
def test_connection_events_have_no_arguments_to_fill_parameters_with(event: str) -> None:
    with pytest.raises(
        RegistrationError, match="`text` can never be filled: this event carries no arguments"
    ):
        Hub("chat").on(event)(with_argument)
    with pytest.raises(RegistrationError, match="put `ctx` first"):
        Hub("chat").on(event)(context_behind_a_default)
    Hub("chat").on(event)(with_defaults)
    Hub("chat").on("go")(context_behind_a_default)


@pytest.mark.parametrize(
    ("event", "category", "reason"),
    [
        ("", None, "needs a name"),
        ("go", "streams", "none of connections and messages"),
        ("joined", "connections", "connected and disconnected, not 'joined'"),
    ],
)
def test_an_event_that_never_comes_is_refused(event: str, category: str | None, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        Hub("chat").on(event, category=category)


def test_one_event_has_one_handler_and_both_places_are_named() -> None:
    hub = Hub("chat")

    @hub.on("send")
    async def one(ctx: Context) -> None: ...

    with pytest.raises(RegistrationError) as refused:

        @hub.on("SEND")
        async def two(ctx: Context) -> None: ...

    assert str(refused.value).count(f"{__file__}:") == 2
    assert isinstance(refused.value, ConfigurationError)
    assert [handler.function for handler in hub.handlers] == [one]


def test_registering_gives_the_function_back_unchanged() -> None:
    hub = Hub("chat")

    async def handler(ctx: Context, text: Annotated[str, "the text"]) -> None: ...

    assert hub.on("send")(handler) is handler
    assert hub.on("shout")(handler) is handler
    assert repr(hub) == "<Hub 'chat' with 2 handlers>"
    assert repr(hub.handlers[0]).startswith(f"<Handler messages/send at {__file__}:")
