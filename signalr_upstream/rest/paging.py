"""The connections of a group, page by page."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ..connection_string import Endpoint
from ..errors import ServiceError
from ..protocol import rest
from ..protocol.rest_paths import Resource
from ..transports.transport import Answer
from .delivery import Request
from .hub_calls import HubCalls

MAX_PAGE = 200


class GroupConnection(Struct, frozen=True, rename="camel"):
    """A connection of a group; ``user_id`` is None for an anonymous one."""

    connection_id: str
    user_id: str | None = None


class _Page(Struct, rename="camel"):
    value: list[GroupConnection]
    next_link: str | None = None


_decode = msgspec.json.Decoder(_Page).decode


def group_connections(
    calls: HubCalls, group: str, *, top: int | None, page_size: int
) -> AsyncIterator[GroupConnection]:
    """See ``Groups.connections``."""
    if not 1 <= page_size <= MAX_PAGE or (top is not None and top < 1):
        raise ValueError(f"page_size is 1 to {MAX_PAGE}, and top 1 or more")
    query = [("maxpagesize", str(page_size))]
    if top is not None:
        query.append(("top", str(top)))
    return _all_pages(calls, calls.prepare(rest.GROUP_CONNECTIONS, (group,), query=query), top)


async def _all_pages(calls: HubCalls, first: Request, left: int | None) -> AsyncIterator[GroupConnection]:
    for endpoint in calls.concerned(first):
        request = first
        while True:
            page = _page(await calls.make(endpoint, request))
            for connection in page.value:
                if left is not None:
                    if not left:
                        return
                    left -= 1
                yield connection
            if not page.next_link:
                break
            request = msgspec.structs.replace(
                request,
                resource=Resource(request.resource.path, _next_query(page.next_link, endpoint, request)),
            )


def _page(answer: Answer) -> _Page:
    try:
        return _decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ServiceError(
            "group_connections: the answer is no page of connections (does a proxy answer for the service?)",
            operation="group_connections",
            status=answer.status,
        ) from None


def _next_query(link: str, endpoint: Endpoint, request: Request) -> str:
    """The query of the next page. Our token goes with it, so a link to anywhere else is not followed; nor is one to the
    page that it stands on, which would never end."""
    try:
        url = urlsplit(link)
        own = {urlsplit(base).hostname for base in (endpoint.url, endpoint.server_url)}
        follows = (
            url.hostname in own
            and url.path.endswith(request.resource.path)
            and f"?{url.query}" != request.resource.query
            and url.query.isascii()
            and url.query.isprintable()
        )
    except ValueError:
        follows = False
    if not follows or " " in url.query:
        raise ServiceError(
            "group_connections: the next page is said to be somewhere else, or this one, and is not asked for",
            operation="group_connections",
        )
    return f"?{url.query}"
