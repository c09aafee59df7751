"""A handler's parameters get the invocation's arguments, converted, in both protocols."""

import dataclasses
import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from msgspec import Meta, Raw, Struct

from signalr_upstream import Context

from ..support import call_headers, completion, invoke, invoke_msgpack, post, serve

pytestmark = pytest.mark.anyio

UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Point(Struct):
    x: int
    y: int = 0


@dataclasses.dataclass
class Person:
    name: str
    age: int = 18


class Movie(TypedDict):
    title: str


class Pair(NamedTuple):
    left: int
    right: str


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Cat(Struct, tag="cat"):
    lives: int


class Dog(Struct, tag="dog"):
    name: str


class Tree(Struct):
    children: "list[Tree]" = []


async def bound(annotation: Any, value: object, *, binary: bool = False) -> Any:
    """What a handler with one parameter of this type gets for ``value``."""
    seen: list[Any] = []

    async def go(ctx: Context, value: Any) -> None:
        seen.append(value)

    go.__annotations__["value"] = annotation
    call = invoke_msgpack if binary else invoke
    answer = await call(serve(go), "go", value)
    assert seen, answer
    return seen[0]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        (str, "é\U0001f600", "é\U0001f600"),
        (bool, True, True),
        (None, None, None),
        (list[int], [1, 2], [1, 2]),
        (set[str], ["a"], {"a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, list[float]], {"a": [1.5]}, {"a": [1.5]}),
        (Any, {"a": [1, None]}, {"a": [1, None]}),
        (object, [1], [1]),
        (list[object], [1, "a"], [1, "a"]),
        (int | None, None, None),
        (int | str, "a", "a"),
        (Literal["a", 1], 1, 1),
        (Point, {"x": 1, "unknown": 2}, Point(1)),
        (list[Point], [{"x": 1, "y": 2}], [Point(1, 2)]),
        (Person, {"name": "Ann"}, Person("Ann")),
        (Movie, {"title": "Heat"}, {"title": "Heat"}),
        (Pair, [1, "a"], Pair(1, "a")),
        (Color, "blue", Color.BLUE),
        (Level, 1, Level.LOW),
        (Cat | Dog, {"type": "dog", "name": "Rex"}, Dog("Rex")),
        (Tree, {"children": [{}]}, Tree([Tree()])),
        (
            datetime.datetime,
            "2024-02-29T12:34:56Z",
            datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=datetime.UTC),
        ),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (datetime.timedelta, "PT1S", datetime.timedelta(seconds=1)),
        (uuid.UUID, str(UUID), UUID),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (Annotated[int, Meta(ge=0)], 0, 0),
        (Annotated[str, Meta(max_length=3)] | None, "abc", "abc"),
    ],
)
async def test_an_argument_is_converted_to_its_annotation(
    annotation: Any, value: object, expected: object, *, binary: bool
) -> None:
    converted = await bound(annotation, value, binary=binary)

    assert converted == expected
    assert type(converted) is type(expected)


async def test_bytes_are_base64_in_json_and_binary_in_messagepack() -> None:
    assert await bound(bytes, "AP8=") == b"\x00\xff"
    assert await bound(bytes, b"\x00\xff", binary=True) == b"\x00\xff"


async def test_messagepack_times_are_its_own_extension_too() -> None:
    moment = datetime.datetime(2024, 2, 29, 12, 34, 56, 789_000, tzinfo=datetime.UTC)

    assert await bound(datetime.datetime, moment, binary=True) == moment


async def test_raw_is_the_exact_bytes_of_the_argument() -> None:
    seen: list[bytes] = []

    async def go(ctx: Context, value: Raw) -> None:
        seen.append(bytes(value))

    body = b'{"type":1,"invocationId":"1","target":"go","arguments":[ {"a" : 1.50} ]}'
    completion(await post(serve(go), call_headers("go"), body))
    await invoke_msgpack(serve(go), "go", {"a": 1})

    assert seen == [b'{"a" : 1.50}', b"\x81\xa1a\x01"]


# --- shapes of signatures ---


@pytest.mark.parametrize("call", [invoke, invoke_msgpack])
async def test_defaults_positions_and_the_rest_are_pythons_own(call: Callable[..., Any]) -> None:
    default: list[int] = []

    async def no_context() -> str:
        return "none"

    async def context_last(a: int, b: str, ctx: Context) -> list[Any]:
        return [a, b, ctx.event]

    async def twice(one: Context, a: int, two: Context) -> list[Any]:
        return [a, one is two]

    async def keyword(a: int, *, ctx: Context, also: Context, flag: bool = True) -> list[Any]:
        return [a, ctx is also, flag]

    async def defaults(ctx: Context, a: int, b: str = "b", c: list[int] = default) -> list[Any]:
        return [a, b, c, c is default]

    async def only_defaults(ctx: Context, a: int = 1, /) -> list[Any]:
        return [a]

    async def rest(ctx: Context, a: int, *others: int) -> list[Any]:
        return [a, others]

    async def untyped_rest(a, b=2, *others):  # type: ignore[no-untyped-def]
        return [a, b, others]

    def from_future(ctx: "Context", a: "int") -> list[Any]:
        return [a]

    expected: list[tuple[Callable[..., Any], list[Any], Any]] = [
        (no_context, [], "none"),
        (context_last, [1, "x"], [1, "x", "go"]),
        (twice, [1], [1, True]),
        (keyword, [1], [1, True, True]),
        (defaults, [1], [1, "b", [], True]),
        (defaults, [1, "x"], [1, "x", [], True]),
        (defaults, [1, "x", [2]], [1, "x", [2], False]),
        (only_defaults, [], [1]),
        (only_defaults, [5], [5]),
        (rest, [1], [1, []]),
        (rest, [1, 2, 3], [1, [2, 3]]),
        (untyped_rest, [1], [1, 2, []]),
        (untyped_rest, ["x", None, {"a": 1}, 4], ["x", None, [{"a": 1}, 4]]),
        (from_future, [1], [1]),
    ]
    for handler, arguments, result in expected:
        answer = await call(serve(handler), "go", *arguments)
        told = answer["result"] if isinstance(answer, dict) else answer[4]
        assert told == result, handler.__name__


async def test_a_parameter_may_have_any_name() -> None:
    async def go(ctx: Context, self: int, _x: int, index: int, type: str = "t") -> list[Any]:
        return [self, _x, index, type]

    assert (await invoke(serve(go), "go", 1, 2, 3))["result"] == [1, 2, 3, "t"]


async def test_methods_and_decorated_functions_are_handlers() -> None:
    import functools

    class Service:
        async def go(self, ctx: Context, a: int) -> int:
            return a + 1

        @staticmethod
        def twice(ctx: Context, a: int) -> int:
            return a * 2

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    assert (await invoke(serve(Service().go), "go", 1))["result"] == 2
    assert (await invoke(serve(Service().twice), "go", 4))["result"] == 8
    assert (await invoke(serve(logged(Service().go)), "go", 1))["result"] == 2
    assert "argument 1 `a`" in (await invoke(serve(logged(Service().go)), "go", "x"))["error"]


# --- arguments that do not fit ---


async def go_two(ctx: Context, room: str, count: int) -> None:
    raise AssertionError("the handler ran")


async def go_defaults(ctx: Context, room: str, count: int = 1) -> None:
    raise AssertionError("the handler ran")


async def go_rest(ctx: Context, room: str, *numbers: int) -> None:
    raise AssertionError("the handler ran")


async def go_point(ctx: Context, point: Point) -> None:
    raise AssertionError("the handler ran")


async def go_points(ctx: Context, *points: Point) -> None:
    raise AssertionError("the handler ran")


async def go_nothing(ctx: Context) -> None:
    raise AssertionError("the handler ran")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("handler", "arguments", "told"),
    [
        (go_two, [], "expected 2 arguments, got 0"),
        (go_two, ["a"], "expected 2 arguments, got 1"),
        (go_two, ["a", 1, 2], "expected 2 arguments, got 3"),
        (go_two, [1, 1], "argument 1 `room`: expected str, got int"),
        (go_two, ["a", "b"], "argument 2 `count`: expected int, got str"),
        (go_defaults, [], "expected 1 to 2 arguments, got 0"),
        (go_defaults, ["a", 1, 2], "expected 1 to 2 arguments, got 3"),
        (go_defaults, ["a", "b"], "argument 2 `count`: expected int, got str"),
        (go_rest, [], "expected at least 1 arguments, got 0"),
        (go_rest, [1], "argument 1 `room`: expected str, got int"),
        (go_rest, ["a", 1, "b"], "argument 3: expected int, got str"),
        (go_point, [{"x": "1"}], "argument 1 `point`: expected int, got str (at x)"),
        (go_point, [{}], "argument 1 `point`: missing required field `x`"),
        (go_points, [{"x": 1}, {"x": "1"}], "argument 2: expected int, got str (at x)"),
        (go_nothing, [1], "expected 0 arguments, got 1"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_by_position_and_name(
    handler: Callable[..., Any], arguments: list[Any], told: str, *, binary: bool
) -> None:
    answer = await (invoke_msgpack if binary else invoke)(serve(handler), "go", *arguments)

    assert (answer[4] if isinstance(answer, list) else answer["error"]) == told


SECRET = "hunter2"


class Careful(Struct):
    name: str

    def __post_init__(self) -> None:
        raise ValueError(f"{self.name} is taken")


class Order(Struct):
    state: Literal["open", "closed"] = "open"
    sizes: dict[str, Literal["s", "l"]] | list[Literal["s", "l"]] = []


class Strict(Struct, forbid_unknown_fields=True):
    x: int = 0


@pytest.mark.parametrize(
    ("annotation", "value", "told"),
    [
        (Color, SECRET, 'not one of the allowed values: "red", "blue"'),
        (Literal["a", 1], SECRET, 'not one of the allowed values: 1, "a"'),
        (Literal[tuple(range(11))], 11, "not one of the allowed values: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."),
        (Order, {"state": SECRET}, 'not one of the allowed values: "closed", "open" (at state)'),
        (list[Order], [{"sizes": [SECRET]}], 'not one of the allowed values: "l", "s" (at [0].sizes[0])'),
        (tuple[Color, Literal["a"]], [SECRET, "a"], "not one of the allowed values (at [0])"),
        (uuid.UUID, SECRET, "invalid UUID"),
        (datetime.datetime, SECRET, "invalid RFC3339 encoded datetime"),
        (bytes, SECRET, "invalid base64 encoded string"),
        (decimal.Decimal, SECRET, "not accepted"),
        (Cat | Dog, {"type": SECRET}, "not accepted (at type)"),
        (Careful, {"name": SECRET}, "not accepted"),
        (Strict, {SECRET: 1}, "not accepted"),
        (dict[str, int], {SECRET: SECRET}, "expected int, got str (at [...])"),
        (Annotated[int, Meta(ge=10)], 7, "expected int >= 10"),
        (Annotated[str, Meta(pattern="^x")], SECRET, "expected str matching regex '^x'"),
    ],
)
async def test_what_is_told_never_holds_the_value(
    annotation: Any, value: object, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def go(ctx: Context, value: Any) -> None:
        raise AssertionError("the handler ran")

    go.__annotations__["value"] = annotation

    answer = await invoke(serve(go), "go", value)

    assert answer["error"] == f"argument 1 `value`: {told}"
    assert SECRET not in answer["error"] + caplog.text


async def test_an_exception_in_a_types_own_code_is_one_of_the_handlers() -> None:
    class Broken(Struct):
        x: int

        def __post_init__(self) -> None:
            raise KeyError(SECRET)

    async def go(ctx: Context, value: Any) -> None:
        raise AssertionError("the handler ran")

    go.__annotations__["value"] = Broken

    assert SECRET not in (await invoke(serve(go), "go", {"x": 1}))["error"]


def test_what_msgspec_could_say_and_nobody_has_seen_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from signalr_upstream.hubs.binding import Binding

    def decode(arguments: Raw) -> tuple[Any, ...]:
        raise msgspec.ValidationError(f"something new about {SECRET}")

    binding = Binding(go_two)
    monkeypatch.setattr(binding, "_decode_json", decode)
    with pytest.raises(Exception, match=r"^the arguments do not fit the handler$"):
        binding.bind(object.__new__(Context), Raw(b'["a",1]'), binary=False)


def test_a_handler_of_any_arguments_reads_very_many_at_once() -> None:
    """One by one, a million of them would hold up everybody else for seconds."""
    from signalr_upstream.hubs.binding import Binding

    async def anything(*values: Any) -> None: ...

    binding = Binding(anything)
    calls: list[str] = []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    try:
        args, _ = binding.bind(object.__new__(Context), Raw(b"[" + b"1," * 199_999 + b"1]"), binary=False)
    finally:
        sys.setprofile(None)

    assert args == (1,) * 200_000
    assert len(calls) < 100
