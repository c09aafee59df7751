"""What Microsoft's Management SDK sends (``vectors/select_rest_requests.py``) is taken by a strict service.

Each recorded request is made with the claims of the SDK, its ``kid`` and its audience. A 404 with the error code that
the SDK takes for "no" counts as taken, for nobody is connected.
"""

import re
from collections import Counter
from collections.abc import Callable

import httpx
import jwt
import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

from ...recorded import Row
from ...test_client_recorded import recorded_requests

pytestmark = pytest.mark.anyio

KEY = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
NOW = 1_700_000_000


def has_dots(row: Row) -> bool:
    return bool(re.search(r"/\.\.?(/|$)", row["name"]))


def has_refused_hub(row: Row) -> bool:
    name: str = row["hub"]
    return not has_dots(row) and not re.fullmatch("[A-Za-z][A-Za-z0-9_`,.\\[\\]]{0,127}", name)


def is_glued(row: Row) -> bool:
    return bool(re.match(r"conn/(path|query in endpoint|ServerEndpoint path)", row["name"]))


# How many, the statuses, why, and which.
REFUSED: list[tuple[int, set[int], str, Callable[[Row], bool]]] = [
    (27, {401, 404, 405}, "of a name . or .. the SDK makes another path, and not another audience", has_dots),
    (24, {400, 404}, "hub names outside the service's pattern", has_refused_hub),
    (10, {400}, "groups of white space", lambda row: row["name"].endswith(("/ ", "/\t", "/\n"))),
    (9, {404}, "the SDK glues the path of an endpoint on", is_glued),
    (2, {400}, "nested deeper than 64 levels", lambda row: row["name"].startswith("args/00/nest ")),
    (1, {400}, "a target of white space", lambda row: row["name"] == "target/\u2028/0"),
]


def audience(row: Row) -> str:
    target: str = row["request"].partition(" ")[2]
    return row["aud"] or "http://localhost" + re.sub(r"&(excluded|ttl|reason)=.*", "", target)


async def send(http: httpx.AsyncClient, row: Row) -> httpx.Response:
    method, target = row["request"].split(" ")
    claims = {"nameid": "machine_1", "nbf": NOW, "exp": NOW + 3600, "iat": NOW, "aud": audience(row)}
    token = jwt.encode(claims, KEY, headers={"kid": "-1992756670"})
    headers = {"Host": "localhost:18888", "Authorization": f"Bearer {token}"}
    if method == "POST":
        headers["Content-Type"] = "application/json; charset=utf-8"
    request = httpx.Request(
        method, "http://localhost:18888", headers=headers, content=row["body"] if method == "POST" else b""
    )
    request.url = request.url.copy_with(raw_path=target.encode())
    return await http.send(request)


async def test_recorded_requests_are_taken() -> None:
    service = LocalService(keys=[KEY], host="service.example.com", clock=ManualClock(NOW))
    _, rows = recorded_requests()
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.asgi)) as http:
        for row in rows:
            if row["request"] is None:
                counts["excluded: the SDK sends nothing"] += 1
                continue
            response = await send(http, row)
            if response.is_success or "x-ms-error-code" in response.headers:
                counts["taken"] += 1
                continue
            reasons = [
                why for _, statuses, why, fits in REFUSED if fits(row) and response.status_code in statuses
            ]
            assert len(reasons) == 1, f"{row['name']}: {response.status_code} {response.text}; {reasons}"
            counts[reasons[0]] += 1
    await service.aclose()

    print(f"recorded requests of the Management SDK: {dict(counts)}")
    assert counts == {
        "taken": 734,
        "excluded: the SDK sends nothing": 83,
        **{why: count for count, _, why, _ in REFUSED},
    }
