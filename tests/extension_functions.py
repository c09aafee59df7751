"""The .NET functions behind the exchanges of Microsoft's Functions extension, as handlers of ours.

Names, parameters and results are those listed in the recording's notes. Where .NET has several kinds of one thing, the
annotation is the strictest that says the same: ``int`` is bounded to 32 bits, and only what was nullable takes None.
"""

import datetime
import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from signalr_upstream import Context, Forbidden, Hub, HubError

Seen = list[tuple[Context, tuple[Any, ...]]]
"""What each call looked like to its handler: the context, and the values of the parameters."""

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Char = Annotated[str, Meta(min_length=1, max_length=1)]


class Poco(Struct):
    name: str | None = None
    age: Int32 = 0
    when: datetime.datetime = datetime.datetime(1, 1, 1)
    child: "Poco | None" = None
    nums: list[int] | None = None


class Color(enum.IntEnum):
    RED = 0
    GREEN = 5


# Parameter type of t_<name>, and the CLR type that the function answers with.
TYPES: dict[str, tuple[Any, str]] = {
    "string": (str | None, "String"),
    "int": (Int32, "Int32"),
    "long": (Int64, "Int64"),
    "ulong": (Annotated[int, Meta(ge=0)], "UInt64"),
    "byte": (Byte, "Byte"),
    "double": (float, "Double"),
    "float": (float, "Single"),
    "bool": (bool, "Boolean"),
    "decimal": (Decimal, "Decimal"),
    "datetime": (datetime.datetime, "DateTime"),
    "dto": (datetime.datetime, "DateTimeOffset"),
    "guid": (UUID, "Guid"),
    "object": (Any, ""),
    "jobject": (dict[str, Any] | None, "JObject"),
    "jarray": (list[Any] | None, "JArray"),
    "jtoken": (dict[str, Any] | list[Any] | None, ""),
    "poco": (Poco | None, "Poco"),
    "intarr": (list[Int32] | None, "Int32[]"),
    "objarr": (list[Any] | None, "Object[]"),
    "listpoco": (list[Poco] | None, "List`1"),
    "bytes": (bytes | None, "Byte[]"),
    "nint": (Int32 | None, "Int32"),
    "dict": (dict[str, Any] | None, "Dictionary`2"),
    "enum": (Color, "Color"),
    "char": (Char, "Char"),
    "timespan": (datetime.timedelta, "TimeSpan"),
}

_UTC = datetime.UTC
_cycle: dict[str, Any] = {}
_cycle["self"] = _cycle

# Results of r_<name>.
RESULTS: dict[str, Any] = {
    "string": "é😀<b>&'\"\\/\x1e\u2028 end",
    "empty": "",
    "null": None,
    "int": -7,
    "long": 2**63 - 1,
    "double": 0.1 + 0.2,
    "doublewhole": 3.0,
    "nan": float("nan"),
    "decimal": Decimal("1.50"),
    "bool": True,
    "datetime": datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, _UTC),
    "dto": datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    "guid": UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
    "timespan": datetime.timedelta(seconds=90),
    "enum": Color.GREEN,
    "bytes": b"\x00\x01\xfe\xff",
    "poco": Poco("Zoë", 3, datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=_UTC), Poco("kid", 0), [1, 2]),
    "list": [1, "two", None, 3.5, True],
    "dict": {"Key One": 1, "b": "x"},
    "jobject": {"a": 1},
    "taskstring": "later",
    "taskint": 42,
    "taskpoco": Poco("t"),
    "void": None,
    "task": None,
    "cycle": _cycle,
}

# What x_<name> throws: only a HubException is meant for the caller.
ERRORS: dict[str, Exception] = {
    "plain": RuntimeError("boom"),
    "inner": RuntimeError("outer text"),
    "newline": RuntimeError("line one\r\nX-Injected: yes\nline three"),
    "unicode": RuntimeError('日本語 😀 "quoted" <tag>'),
    "empty": RuntimeError(""),
    "hub": HubError("hub says no"),
    "agg": ExceptionGroup("One or more errors occurred.", [RuntimeError("one"), RuntimeError("two")]),
    "async": RuntimeError("async boom"),
    "cancel": TimeoutError("The operation was canceled."),
}


def is_admin(ctx: Context) -> bool:
    """The .NET filter: it believes the service's list of claims, which ``role("admin")`` never does."""
    if "role: admin" in ctx.claims_raw.split(","):
        return True
    raise Forbidden(f"filter refuses {ctx.user_id}")


def extension_hubs(seen: Seen) -> list[Hub]:
    """The hubs of the recorded host. Their handlers note in ``seen`` what they saw."""
    chat = Hub("chat")
    _messages(chat, seen)
    for name, (annotation, clr_type) in TYPES.items():
        chat.on(f"t_{name}")(_typed(seen, annotation, clr_type))
    for name, result in RESULTS.items():
        chat.on(f"r_{name}")(_returning(seen, result))
    for name, error in ERRORS.items():
        chat.on(f"x_{name}")(_raising(seen, error))
    deny, returning, filtered = Hub("deny"), Hub("rethub"), Hub("filterhub")
    for event in ("connected", "disconnected"):
        chat.on(event)(_returning(seen, None))
        deny.on(event)(_raising(seen, RuntimeError("denied")))
    returning.on("connected")(_returning(seen, "a string"))
    filtered.on("connected", require=is_admin)(_returning(seen, None))
    return [chat, deny, returning, filtered, _other(seen), _class_form(seen)]


def _messages(chat: Hub, seen: Seen) -> None:
    @chat.on("echo")
    async def echo(ctx: Context, a: str | None, n: Int32) -> str:
        seen.append((ctx, (a, n)))
        return f"{a} {n}"

    @chat.on("two")
    async def two(ctx: Context, a: str | None, b: Int32) -> str:
        seen.append((ctx, (a, b)))
        return f"{a or ''}|{b}"

    @chat.on("namesonly")
    async def names_only(ctx: Context, *values: Any) -> str:
        seen.append((ctx, values))
        return "ok"

    @chat.on("noargs")
    async def noargs(ctx: Context, *values: Any) -> str:
        seen.append((ctx, values))
        return f"noargs:{len(values)}"

    @chat.on("paramattr")
    async def paramattr(ctx: Context, x: str, y: Int32) -> str:
        seen.append((ctx, (x, y)))
        return f"{x}{y}"

    @chat.on("many")
    async def many(  # noqa: PLR0917 - as the .NET function
        ctx: Context, a: str | None, b: Int32, c: float, d: bool, e: Poco | None, f: str | None
    ) -> str:
        seen.append((ctx, (a, b, c, d, e, f)))
        return "many"

    @chat.on("asjobject")
    async def asjobject(ctx: Context, a: str) -> str:
        seen.append((ctx, (a,)))
        return "ok"

    @chat.on("CamelEvent")
    async def camel_event(ctx: Context, value: str) -> str:
        seen.append((ctx, (value,)))
        return value

    @chat.on("filtered", require=is_admin)
    async def filtered(ctx: Context, a: str) -> str:
        seen.append((ctx, (a,)))
        return f"admin {a}"


def _other(seen: Seen) -> Hub:
    other = Hub("other", connection="OtherConnection")

    @other.on("echo")
    async def echo(ctx: Context, a: str) -> str:
        seen.append((ctx, (a,)))
        return a

    return other


def _class_form(seen: Seen) -> Hub:
    """``class ChatHub : ServerlessHub``."""
    hub = Hub("ChatHub")
    for event in ("connected", "disconnected"):
        hub.on(event)(_returning(seen, None))

    @hub.on("Broadcast")
    async def broadcast(ctx: Context, message: str, times: Int32) -> str:
        seen.append((ctx, (message, times)))
        return f"{message}{times}"

    @hub.on("Ignore")
    async def ignore(ctx: Context, a: str) -> str:
        seen.append((ctx, (a,)))
        return a

    @hub.on("Admin", require=is_admin)
    async def admin(ctx: Context) -> str:
        seen.append((ctx, ()))
        return "hello admin"

    return hub


def _typed(seen: Seen, annotation: Any, clr_type: str) -> Callable[..., Any]:
    async def function(ctx: Context, v: Any) -> str:
        seen.append((ctx, (v,)))
        if v is None:
            return "null"
        return clr_type or _clr_name(v, is_json=ctx.headers["content-type"] == "application/json")

    function.__annotations__["v"] = annotation
    return function


def _returning(seen: Seen, result: Any) -> Callable[..., Any]:
    async def function(ctx: Context) -> Any:
        seen.append((ctx, ()))
        return result

    return function


def _raising(seen: Seen, error: Exception) -> Callable[..., Any]:
    async def function(ctx: Context) -> None:
        seen.append((ctx, ()))
        raise error

    return function


def _clr_name(value: Any, *, is_json: bool) -> str:
    match value:
        case bool():
            return "Boolean"
        case int():
            return "Int64" if -(2**63) <= value < 2**63 else "BigInteger"
        case list():
            return "JArray" if is_json else "Object[]"
        case dict():
            return "JObject" if is_json else "Dictionary`2"
        case datetime.datetime():
            return "DateTime"
        case msgspec.msgpack.Ext():
            return "Ext"
    return {float: "Double", str: "String", bytes: "Byte[]"}[type(value)]
