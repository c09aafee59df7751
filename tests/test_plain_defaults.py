"""Dataclasses with plain defaults, which msgspec leaves to the class: they go out as if Python had made them."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar

import httpx
import msgspec
import pytest

from signalr_upstream import Context, Hub, ServiceClient, UpstreamApp
from signalr_upstream.plain_defaults import filler_of
from signalr_upstream.testing import HubTester

from .support import CONNECTION_STRING, RestService, invoke, invoke_msgpack, serve

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@dataclass
class Line:
    dish: str
    count: int = 1


@dataclass(frozen=True)
class Frozen:
    dish: str
    count: int = 1


@dataclass
class Derived(Line):
    tags: list[str] = field(default_factory=list)
    spicy: bool = False


@dataclass
class Box(Generic[T]):
    item: T
    size: str = "large"


@dataclass(slots=True)
class Slots:
    line: Line
    count: int = 1


class Pair(NamedTuple):
    line: Line
    table: int = 2


class Typed(TypedDict):
    line: Line


class Order(msgspec.Struct):
    lines: list[Line]
    first: Line | None = None
    note: str = ""


@dataclass
class Node:
    name: str
    children: list["Node"] = field(default_factory=list)
    weight: int = 1
    parent: "Node | None" = None

    def __post_init__(self) -> None:
        for child in self.children:
            child.parent = self


SOUP = {"dish": "soup"}
WHOLE = {"dish": "soup", "count": 1}


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (Line, SOUP, WHOLE),
        (Line, {"dish": "soup", "count": 3}, {"dish": "soup", "count": 3}),
        (Frozen, SOUP, WHOLE),
        (Derived, SOUP, {**WHOLE, "tags": [], "spicy": False}),
        (Box[Line], {"item": SOUP}, {"item": WHOLE, "size": "large"}),
        (Box[int] | None, {"item": 1}, {"item": 1, "size": "large"}),
        (
            tuple[Box[int], Box[Line]],
            [{"item": 1}, {"item": SOUP}],
            [{"item": 1, "size": "large"}, {"item": WHOLE, "size": "large"}],
        ),
        (Slots, {"line": SOUP}, {"line": WHOLE, "count": 1}),
        (Pair, [SOUP], [WHOLE, 2]),
        (Typed, {"line": SOUP}, {"line": WHOLE}),
        (Order, {"lines": [SOUP, SOUP]}, {"lines": [WHOLE, WHOLE], "first": None, "note": ""}),
        (Order, {"lines": [], "first": SOUP}, {"lines": [], "first": WHOLE, "note": ""}),
        (list[Line | None], [SOUP, None], [WHOLE, None]),
        (dict[str, list[Line]], {"a": [SOUP]}, {"a": [WHOLE]}),
        (tuple[int, Line], [1, SOUP], [1, WHOLE]),
        (frozenset[Frozen], [SOUP], [WHOLE]),
        (Annotated[Line, {"without": "a hash"}], SOUP, WHOLE),
    ],
)
async def test_a_field_that_was_left_out_is_sent_on_with_its_default(
    annotation: Any, given: Any, expected: Any
) -> None:
    async def go(value: annotation) -> Any:
        return value

    async def with_default(text: str, value: annotation = None) -> Any:
        return value

    async def with_rest(text: str, *values: annotation) -> Any:
        return values[0]

    for handler, arguments in ((go, [given]), (with_default, ["x", given]), (with_rest, ["x", given])):
        assert (await invoke(serve(handler), "go", *arguments))["result"] == expected
        assert (await invoke_msgpack(serve(handler), "go", *arguments))[4] == expected


async def test_a_tree_whose_nodes_know_their_parents_is_walked_once() -> None:
    async def go(root: Node) -> list[object]:
        assert root.children[0].parent is root
        return [vars(node)["weight"] for node in (root, *root.children)]

    tree = {"name": "a", "children": [{"name": "b", "weight": 2}, {"name": "c"}]}
    assert (await invoke(serve(go), "go", tree))["result"] == [1, 2, 1]


async def test_what_is_sent_to_others_is_whole_too() -> None:
    service = RestService()

    async def go(ctx: Context, line: Line) -> None:
        await ctx.clients.all.send("ordered", line)

    await invoke(serve(go, http_client=service.client), "go", SOUP)

    assert msgspec.json.decode(service.requests[0].content)["arguments"] == [WHOLE]


async def test_so_is_what_a_client_has_answered() -> None:
    service = RestService(lambda _: httpx.Response(200, json={"result": [SOUP]}))
    async with ServiceClient(CONNECTION_STRING, http_client=service.client) as client:
        lines = await client.hub("chat").clients.connection("c1").invoke("order", result_type=list[Line])

    assert msgspec.to_builtins(lines) == [WHOLE]


async def test_so_is_a_typed_result_in_a_test() -> None:
    hub = Hub("chat")

    @hub.on("go")
    async def go(ctx: Context) -> Any:
        return SOUP

    async with HubTester(UpstreamApp(hub, connection_string=CONNECTION_STRING)) as tester:
        line = await tester.invoke("go", result_type=Line)

    assert msgspec.to_builtins(line) == WHOLE


@dataclass(slots=True)
class Whole:
    tags: list[str] = field(default_factory=list)
    count: int = 1


@dataclass
class Factory:
    whole: Whole
    tags: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("annotation", "is_concerned"),
    [
        (Order | None, True),
        (Box[int], True),
        (Typed, True),
        (Any, False),
        (list[str], False),
        (Whole, False),
        (dict[str, Factory], False),
    ],
)
def test_nothing_is_done_for_annotations_without_such_a_dataclass(
    annotation: Any, is_concerned: bool
) -> None:
    assert (filler_of(annotation) is not None) == is_concerned
