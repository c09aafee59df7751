"""The Entra ID credential that a connection string asks for with ``AuthType=``.

Spec: https://learn.microsoft.com/azure/azure-signalr/concept-connection-string
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .errors import ConnectionStringError, MissingExtraError


class NamedCredential(Struct, frozen=True):
    """A credential of azure-identity, which is made with the first token.

    Attributes:
        kind: "default", "managed", "secret" or "certificate".
        secret: the client's secret, or the path of its certificate.
    """

    kind: str
    client_id: str | None = None
    tenant_id: str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} credential>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.kind)]

    def get_token(self, *scopes: str) -> Any:
        """A token of the credential; runs in a thread, since it may wait.

        Raises:
            ImportError: azure-identity is not installed.
        """
        try:
            import azure.identity as identity  # noqa: PLC0415, PLR0402 - an extra, and slow; "from" needs its stubs
        except ImportError as error:
            raise MissingExtraError("AuthType=", "azure-identity", extra="identity") from error
        match self.kind:
            case "managed":
                credential: Any = identity.ManagedIdentityCredential(client_id=self.client_id)
            case "secret":
                credential = identity.ClientSecretCredential(self.tenant_id, self.client_id, self.secret)
            case "certificate":
                credential = identity.CertificateCredential(self.tenant_id, self.client_id, self.secret)
            case _:
                credential = identity.DefaultAzureCredential(managed_identity_client_id=self.client_id)
        with credential:
            return credential.get_token(*scopes)


def credential_of(properties: Mapping[str, str]) -> NamedCredential | None:
    """What the properties of a connection string ask for; None for an access key.

    Args:
        properties: names in lower case.

    Raises:
        ConnectionStringError: a property is missing.
    """
    kind = properties.get("authtype", "").lower()
    client_id, tenant_id = properties.get("clientid"), properties.get("tenantid")
    certificate = properties.get("clientcert") or properties.get("clientcertpath")
    secret = properties.get("clientsecret")
    match kind:
        case "azure":
            return NamedCredential("default", client_id)
        case "azure.msi":
            return NamedCredential("managed", client_id)
        case "aad" if not (client_id and tenant_id):
            return NamedCredential("managed", client_id)
        case "azure.app" | "aad":
            for name, value in (
                ("clientId", client_id),
                ("tenantId", tenant_id),
                ("clientSecret or clientCert", secret or certificate),
            ):
                if not value:
                    raise ConnectionStringError(f"Connection string missing required properties {name}.")
            if secret:
                return NamedCredential("secret", client_id, tenant_id, secret)
            return NamedCredential("certificate", client_id, tenant_id, certificate)
    return None
