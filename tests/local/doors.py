"""The doors of a local service without a socket: tokens for it, and requests to its ASGI app."""

from typing import Any

import httpx

from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

KEY = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
SECOND = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"
NOW = 1_700_000_000.0
SEND = "/api/hubs/chat/:send?api-version=2024-12-01"
MESSAGE = {"target": "t", "arguments": [1]}


def make(**options: Any) -> LocalService:
    settings: dict[str, Any] = {"keys": [KEY, SECOND], "clock": ManualClock(NOW)} | options
    return LocalService(**settings)


def http(service: LocalService, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(service.asgi), base_url="http://localhost:8888", headers=headers
    )


def token(path: str = "/api/hubs/chat/:send", *, key: str = KEY, **claims: Any) -> str:
    return encode_token({"aud": f"http://localhost{path}", "exp": NOW + 60} | claims, key)


def client_token(hub: str = "chat", **claims: Any) -> str:
    return token(f"/client/?hub={hub}", **claims)


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


async def call(
    service: LocalService,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    kind: str = "application/json",
    version: str = "2024-12-01",
    accept: str = "*/*",
) -> httpx.Response:
    """One REST call with a good token. ``target`` may have a query; the version is added to it."""
    path, _, query = target.partition("?")
    query += f"&api-version={version}" if version else ""
    audience = token(path, exp=service.clock.time() + 60)
    return await http(service, **bearer(audience), **{"Content-Type": kind, "Accept": accept}).request(
        method, f"{path}?{query.lstrip('&')}", content=body
    )
