"""The app under load: handlers of every temper, and a record of what its process holds."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp
from signalr_upstream.errors import ServiceError
from tests.loads import LIMIT
from tests.loads.vitals import Recorder

chat = Hub("chat")
events: Counter[str] = Counter()


@chat.on("echo")
async def echo(text: str) -> str:
    return text


@chat.on("refuse")
async def refuse(text: str) -> str:
    raise HubError(f"not {text}")


@chat.on("fail")
async def fail(text: str) -> str:
    raise RuntimeError(text)


@chat.on("wait")
async def wait(text: str) -> str:
    await asyncio.sleep(0.2)
    return text


@chat.on("block")
def block(text: str) -> str:
    time.sleep(0.05)
    return text


@chat.on("hang", timeout=LIMIT)
async def hang(text: str) -> str:
    await asyncio.Event().wait()
    return text


@chat.on("overstay", timeout=LIMIT)
def overstay(text: str) -> str:
    time.sleep(2 * LIMIT)  # its thread outlives the call
    return text


@chat.on("relay", timeout=60.0)
async def relay(ctx: Context, text: str) -> str:
    """What became of one send."""
    try:
        await ctx.clients.group("lobby").send("newMessage", text)
    except ServiceError as error:
        return type(error).__name__
    return "sent"


@chat.on("connected")
@chat.on("disconnected")
async def count(ctx: Context) -> None:
    events[ctx.event] += 1


@chat.negotiate
async def who(request: Request) -> Identity:
    return Identity(request.query_params["user"])


async def process(request: Request) -> JSONResponse:
    """Which worker this connection has come to, and what it has been told of clients."""
    return JSONResponse({"pid": os.getpid(), **events})


@contextlib.asynccontextmanager
async def record(_: UpstreamApp) -> AsyncIterator[None]:
    with Recorder(os.environ["LOADS_FOLDER"], every=float(os.environ["LOADS_EVERY"])) as recorder:
        task = asyncio.create_task(recorder.run())
        yield
        task.cancel()


app = UpstreamApp(chat, routes=[Route("/process", process)], lifespan=record)
