"""The credentials that a connection string names, with azure-identity played by a module of the test's own."""

import sys
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from signalr_upstream.credentials import NamedCredential


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
                return AccessToken(f"{name} {scopes[0]}", 1)

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
    assert credential.get_token("scope").token == f"{name} scope"
    assert made == [(name, args, options), ("closed", (), {})]


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure", None)

    with pytest.raises(ImportError, match=r"pip install 'signalr-upstream\[identity\]'"):
        NamedCredential("default").get_token("scope")


def test_no_secret_is_shown() -> None:
    credential = NamedCredential("secret", "client", "tenant", "s3cret")

    assert repr(credential) == "<secret credential>"
    assert credential.__rich_repr__() == [("kind", "secret")]
