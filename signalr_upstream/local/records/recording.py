"""Note an HTTP exchange in the journal as it passes through: what was asked, and what was answered."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.types import Message, Receive, Scope, Send

from .entries import Answer, RestCall
from .journal import Journal

Serve = Callable[[Receive, Send], Awaitable[None]]


async def record(journal: Journal, scope: Scope, receive: Receive, send: Send, serve: Serve) -> None:
    """Let ``serve`` answer the request of ``scope``, and note both."""
    asked = bytearray()
    answered = bytearray()
    head: Message | None = None

    async def noting_receive() -> Message:
        message = await receive()
        asked.extend(message.get("body", b""))
        return message

    async def noting_send(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            head = message
        else:
            answered.extend(message.get("body", b""))
        await send(message)

    number, start = journal.next_number(), journal.clock.time()
    try:
        await serve(noting_receive, noting_send)
    finally:
        answer: Answer | None = None
        if head is not None:
            answer = journal.answer(head["status"], list(head["headers"]), bytes(answered))
        journal.rest_called(
            RestCall(
                request=journal.request(scope["method"], target(scope), scope["headers"], bytes(asked)),
                answer=answer,
                start=start,
                seconds=journal.clock.time() - start,
                number=number,
            )
        )


def target(scope: Scope) -> str:
    """Path and query of a request, as they were sent; it may hold secrets."""
    sent: bytes = scope.get("raw_path") or quote(scope["path"]).encode()  # ASGI leaves it to the server
    if scope["query_string"]:
        sent += b"?" + scope["query_string"]
    return sent.decode("latin-1")
