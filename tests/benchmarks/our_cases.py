"""The apps of upstream_cases, written with signalr-upstream."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from signalr_upstream import Context, Depends, Hub, UpstreamApp
from tests.benchmarks.bare_cases import Item
from tests.benchmarks.our_app import KEY

CONNECTION_STRING = f"Endpoint=http://localhost;Port=18890;AccessKey={KEY};Version=1.0;"

chat = Hub("chat")


@chat.on("echo")
async def echo(text: str, count: int) -> str:
    return text


@chat.on("twenty")
async def twenty(  # noqa: PLR0917 - that is what is measured
    text: str, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int,
    k: str, x: str, m: str, n: str, o: str, p: float, q: float, r: float, s: bool, t: bool,
) -> str:  # fmt: skip
    return text


@chat.on("items")
async def items(text: str, items: list[Item]) -> str:
    return text


app = UpstreamApp(chat, connection_string=CONNECTION_STRING)

guarded = Hub("chat")


async def current_user(ctx: Context) -> str:
    return ctx.connection_id


@guarded.filter
async def around(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


@guarded.on("echo")
async def echo_guarded(text: str, count: int, user: Annotated[str, Depends(current_user)]) -> str:
    return text


with_dependency_and_filter = UpstreamApp(guarded, connection_string=CONNECTION_STRING)
