"""The body of a request, with limits: nobody may send for ever, or more than fits."""

import asyncio

from starlette.requests import Request

from .admission import Refused

BODY_TIMEOUT = 10.0
"""Seconds for a whole body: as the app gives its callers. On this machine it takes milliseconds."""


async def read_body(request: Request, limit: int) -> bytes:
    """All of it.

    Raises:
        Refused: it is larger than ``limit`` bytes, or takes longer than ``BODY_TIMEOUT``.
        ClientDisconnect: the client went before its end.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(413, f"The body is larger than {limit} bytes.", Connection="close")
    except TimeoutError:
        raise Refused(408, f"The body took over {BODY_TIMEOUT:g} seconds.", Connection="close") from None
    return bytes(body)
