"""What the notes on Microsoft's extension call odd and no other test looks at; see docs/functions.md for all of it."""

import datetime
import enum
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from signalr_upstream import Context, Hub, UpstreamApp

from .support import (
    CONNECTION_STRING,
    call_headers,
    completion,
    detail,
    disconnect,
    invocation,
    invoke,
    invoke_msgpack,
    post,
    serve,
)

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "functions.md"


def test_every_oddity_has_a_row_and_every_row_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| `(test_\w+)` \|$", DOCUMENT.read_text(), re.MULTILINE)
    files = [*TESTS.glob("test_*.py"), *TESTS.glob("*/test_*.py")]
    tests = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}

    assert [int(number) for number, _ in rows] == [*range(1, 40)]
    assert {name for _, name in rows} <= tests


async def test_ids_and_errors_that_look_like_dates_stay_as_they_are() -> None:
    moment = "2024-02-29T12:34:56Z"
    errors: list[str | None] = []
    hub = Hub("chat")

    @hub.on("go")
    async def go(ctx: Context) -> None:
        pass

    @hub.on("disconnected")
    async def left(ctx: Context) -> None:
        errors.append(ctx.error)

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    answer = completion(await post(app, call_headers("go"), invocation("go", invocation_id=moment)))
    await disconnect(app, b'{"Type":11,"Error":"2024-02-29T12:34:56Z"}')

    assert answer["invocationId"] == moment
    assert errors == [moment]


async def test_a_null_where_a_number_is_wanted_is_told() -> None:
    async def go(ctx: Context, number: int) -> None:
        raise AssertionError("the handler ran")

    assert (await invoke(serve(go), "go", None))["error"] == "argument 1 `number`: expected int, got null"


@pytest.mark.parametrize(("hub", "event"), [("ch\u00adat", "go"), ("chat", "g\u200do")])
async def test_invisible_characters_make_another_name(hub: str, event: str) -> None:
    async def go(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    answer = await post(serve(go), call_headers(event, hub=hub), invocation(event))

    assert detail(answer, 404)


async def test_a_result_is_what_its_type_says_in_both_protocols() -> None:
    class Colour(enum.Enum):
        RED = "red"

    class Answer(msgspec.Struct, rename="camel"):
        made_at: datetime.datetime
        colour: Colour
        data: bytes

    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    moment = datetime.datetime(2024, 2, 29, 9, tzinfo=tokyo)

    async def go(ctx: Context) -> Answer:
        return Answer(moment, Colour.RED, b"\xff")

    in_json = (await invoke(serve(go), "go"))["result"]
    in_messagepack = (await invoke_msgpack(serve(go), "go"))[4]

    assert in_json == {"madeAt": "2024-02-29T09:00:00+09:00", "colour": "red", "data": "/w=="}
    assert in_messagepack == {"madeAt": moment, "colour": "red", "data": b"\xff"}


async def test_a_result_that_refers_to_itself_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    circle: list[Any] = []
    circle.append(circle)

    async def go(ctx: Context) -> object:
        return circle

    assert (await invoke(serve(go), "go"))["error"] == "The call failed on the server."
    assert (await invoke_msgpack(serve(go), "go"))[3:] == [1, "The call failed on the server."]
    assert caplog.text.count("RecursionError") >= 2


async def test_headers_are_as_they_came() -> None:
    seen: dict[str, str] = {}

    async def go(ctx: Context) -> None:
        seen.update(ctx.headers)

    given = {"User-Agent": "Foo/1.0 (comment) Bar", "Accept": "a/b;q=0.5", "Content-Language": "de"}

    await post(serve(go), call_headers("go") | given | {"Authorization": "Bearer x"}, invocation("go"))

    assert {name: seen[name.lower()] for name in given} == given
    assert seen["content-type"] == "application/json"
    assert not {"authorization", "x-asrs-signature"} & seen.keys()
