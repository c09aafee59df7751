"""The credentials that a connection string names, with azure-identity played by a module of the test's own."""

import sys
from types import ModuleType
from typing import Any, NamedTuple

import httpx
import pytest

from signalr_upstream import Identity, ServiceClient
from signalr_upstream.credentials import NamedCredential

from .support import KEY, RestService


class AccessToken(NamedTuple):
    token: str
    expires_on: int


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What was made of azure-identity, with its arguments."""
    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def make(name: str) -> Any:
        class Credential:
            def __init__(self, *args: Any, **options: Any) -> None:
                made.append((name, args, options))

            def __enter__(self) -> "Credential":
                return self

            def __exit__(self, *error: object) -> None:
                made.append(("closed", (), {}))

            def get_token(self, *scopes: str) -> AccessToken:
                return AccessToken(f"{name}:{scopes[0]}", 1)

        return Credential

    azure, identity = ModuleType("azure"), ModuleType("azure.identity")
    for name in (
        "DefaultAzureCredential",
        "ManagedIdentityCredential",
        "ClientSecretCredential",
        "CertificateCredential",
    ):
        setattr(identity, name, make(name))
    azure.identity = identity  # type: ignore[attr-defined]  # as importing a submodule does
    monkeypatch.setitem(sys.modules, "azure", azure)
    monkeypatch.setitem(sys.modules, "azure.identity", identity)
    return made


@pytest.mark.parametrize(
    ("credential", "name", "args", "options"),
    [
        (NamedCredential("default"), "DefaultAzureCredential", (), {"managed_identity_client_id": None}),
        (NamedCredential("managed", "c"), "ManagedIdentityCredential", (), {"client_id": "c"}),
        (NamedCredential("secret", "c", "t", "s"), "ClientSecretCredential", ("t", "c", "s"), {}),
        (NamedCredential("certificate", "c", "t", "p"), "CertificateCredential", ("t", "c", "p"), {}),
    ],
)
def test_each_kind_is_made_of_azure_identity_and_closed(
    made: list[Any], credential: NamedCredential, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    assert credential.get_token("scope").token == f"{name}:scope"
    assert made == [(name, args, options), ("closed", (), {})]


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure", None)

    with pytest.raises(ImportError, match=r"pip install 'signalr-upstream\[identity\]'"):
        NamedCredential("default").get_token("scope")


def test_no_secret_is_shown() -> None:
    credential = NamedCredential("secret", "client", "tenant", "s3cret")

    assert repr(credential) == "<secret credential>"
    assert credential.__rich_repr__() == [("kind", "secret")]


@pytest.mark.anyio
async def test_a_secret_that_changes_is_used_from_then_on(
    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_EVERY", 0.0)
    monkeypatch.setattr(
        "signalr_upstream.rest.access_keys.LIFETIME", 0.0
    )  # so that each is fetched with a token
    secret = "old"

    def ask() -> str:
        return (
            "Endpoint=https://chat.service.signalr.net;AuthType=azure.app;"
            f"ClientId=c;TenantId=t;ClientSecret={secret};Version=1.0;"
        )

    service = RestService(lambda _: httpx.Response(200, json={"AccessKey": KEY, "KeyId": "k"}))
    client = ServiceClient(ask, seal_key="s" * 44, http_client=service.client)
    hub = client.hub("chat")
    await hub.clients.all.send("hello")
    await hub.client_access(Identity("ann"))
    secret = "new"
    await hub.clients.all.send("hello")
    await client.endpoints.answered()
    made.clear()

    await hub.clients.all.send("hello")
    await hub.client_access(Identity("ann"))

    with_new_secret: tuple[str, tuple[Any, ...], dict[str, Any]] = (
        "ClientSecretCredential",
        ("t", "c", "new"),
        {},
    )
    assert made == [with_new_secret, ("closed", (), {})] * 2
