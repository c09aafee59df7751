"""No key, token or secret of the output client is in an error, a log line or a ``repr``, whatever goes wrong."""

import asyncio
import gc
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest

from signalr_upstream import Hub, Identity, ServiceClient, SignalRError, UpstreamApp
from signalr_upstream.auth import encode_token
from signalr_upstream.client import HubClient
from signalr_upstream.errors import ConnectError, DeliveryUnknown
from signalr_upstream.transports.transport import Answer

pytestmark = pytest.mark.anyio

KEY = "CanaryOfTheAccessKey0123456789ABCDEFGHIJKLMN"
SECOND_KEY = "CanaryOfTheSecondKey0123456789ABCDEFGHIJKLMN"
TEMPORARY_KEY = "CanaryOfTheTemporaryKey0123456789ABCDEFGHIJ"
SEAL_KEY = "CanaryOfTheSealKey0123456789ABCDEFGHIJKLMNOP"
CLIENT_SECRET = "CanaryOfTheClientSecret"
ENTRA_TOKEN = encode_token({"aud": "CanaryOfTheEntraToken"}, KEY)
HOST = "canary-host.example"
CANARIES = (
    KEY,
    SECOND_KEY,
    TEMPORARY_KEY,
    SEAL_KEY,
    CLIENT_SECRET,
    ENTRA_TOKEN,
    "eyJ",
    f"://{HOST}/api",
    "canary-user",
)

KEYED = f"Endpoint=https://{HOST};AccessKey={KEY};Version=1.0;"
KEYLESS = f"Endpoint=https://{HOST};Version=1.0;"


class AccessToken(NamedTuple):
    token: str
    expires_on: float


class Credential:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def get_token(self, *scopes: str) -> AccessToken:
        if self._error is not None:
            raise self._error
        return AccessToken(ENTRA_TOKEN, time.time() + 3600)


class Echo:
    """A service, or something on the way to it, that says everything back to who asks."""

    def __init__(self, status: int | Exception) -> None:
        self.status = status

    async def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Answer:
        if isinstance(self.status, Exception):
            raise self.status
        said = {
            "message": " ".join(f"{name}: {value}" for name, value in headers),
            "AccessKey": TEMPORARY_KEY,
        }
        challenge = dict(headers)["Authorization"]
        answer = [(b"www-authenticate", f'Bearer error_description="{challenge}"'.encode())]
        return Answer(self.status, answer, json.dumps(said).encode())

    async def aclose(self) -> None:
        """Nothing is open."""


CALLS: list[Callable[[HubClient], Awaitable[Any]]] = [
    lambda hub: hub.clients.all.send("told"),
    lambda hub: hub.clients.users(["canary-user", "canary-user-2"]).send("told"),
    lambda hub: hub.users.in_group("canary-user", group="g"),
    lambda hub: hub.clients.connection("canary-user").invoke("ask"),
    lambda hub: hub.generate_token("canary-user"),
    lambda hub: hub.client_access(Identity("canary-user", claims={"role": ["x" * 9000]})),
    lambda hub: hub.client_access(Identity("canary-user")),
    lambda hub: anext(aiter(hub.groups.connections("g"))),
]


@pytest.mark.parametrize(
    "status",
    [200, 302, 400, 401, 403, 404, 413, 429, 500, 503, ConnectError("no way"), DeliveryUnknown("gone")],
)
@pytest.mark.parametrize("entra", [False, True])
async def test_what_goes_wrong_shows_no_secret(
    status: int | Exception, entra: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options: dict[str, Any] = {"credential": Credential()} if entra else {}
    client = ServiceClient(
        KEYLESS if entra else [KEYED, KEYED.replace(KEY, SECOND_KEY)],
        transport=Echo(status),
        seal_key=SEAL_KEY,
        **options,
    )
    failures = []

    for call in CALLS:
        try:
            await call(client.hub("chat"))
        except SignalRError as error:
            failures.append(error)

    assert len(failures) >= 3
    texts = [caplog.text]
    for failure in failures:
        texts += [repr(failure), *traceback.format_exception(failure)]
        texts += [repr(each) + str(each) for each in getattr(failure, "errors", {}).values()]
    _assert_clean("\n".join(texts))
    _assert_clean(_reprs_within(client))


async def test_a_credential_that_fails_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = RuntimeError(f"refused: {CLIENT_SECRET} {ENTRA_TOKEN}")
    client = ServiceClient(KEYLESS, credential=Credential(told), transport=Echo(200), seal_key=SEAL_KEY)

    with pytest.raises(SignalRError) as caught:
        await client.hub("chat").clients.all.send("told")

    await asyncio.sleep(0)
    _assert_clean(caplog.text + str(caught.value) + repr(caught.value))


def test_a_connection_string_that_cannot_be_used_shows_no_secret() -> None:
    for broken in (
        f"Endpoint=ftp://{HOST};AccessKey={KEY}",
        f"Endpoint=https://{HOST};AccessKey={KEY};AccessKey={SECOND_KEY}",
        f"Endpoint=https://{HOST};AccessKey={KEY};Version=9",
        f"Endpoint=https://{HOST};AuthType=azure.app;ClientId=c;ClientSecret={CLIENT_SECRET}",
        f"AccessKey={KEY};Endpoint",
    ):
        with pytest.raises(SignalRError) as caught:
            ServiceClient(broken)
        _assert_clean(str(caught.value) + repr(caught.value))


def test_what_there_is_shows_no_secret_when_it_is_printed() -> None:
    secret = f"Endpoint=https://{HOST};AuthType=azure.app;ClientId=c;TenantId=t;ClientSecret={CLIENT_SECRET}"
    chat = Hub("chat")
    app = UpstreamApp(chat, connection_string=[KEYED, secret], upstream_keys=[SECOND_KEY], seal_key=SEAL_KEY)
    client = ServiceClient(secret, seal_key=SEAL_KEY)
    shown = [app, app.connection, app.hub(chat), chat, client, client.endpoints, *client.endpoints.all]
    shown += [each.credential for each in client.endpoints.all]

    _assert_clean("\n".join(repr(each) for each in shown) + _reprs_within(app, client))


def _reprs_within(*roots: object) -> str:
    """What everything of the package that these objects hold would print."""
    waiting, seen = list(roots), dict[int, str]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        ours = type(each).__module__.startswith("signalr_upstream.")
        seen[id(each)] = repr(each) if ours else ""
        waiting += gc.get_referents(each)
    assert any(seen.values())
    return "\n".join(seen.values())


def _assert_clean(text: str) -> None:
    for canary in CANARIES:
        place = text.find(canary)
        assert place < 0, text[max(0, place - 100) : place + 20]
