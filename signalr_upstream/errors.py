"""Every error this package raises. A class says who is at fault and knows its HTTP status.

::

    SignalRError                        500  catch it to catch all that this package raises
    ├── ConfigurationError              503  the program's set-up: nothing is served
    │   ├── ConnectionStringError            a connection string that cannot be used
    │   ├── NoKeysError                      nothing to check a signature with
    │   ├── MissingExtraError (ImportError)  a package of one of our extras is not installed
    │   └── RegistrationError                a handler or hub that could never work
    ├── InvalidNameError (ValueError)   400  a hub, group, user or connection name that is not legal
    ├── IdentityError (ValueError)      500  an identity that no client token can be made for
    ├── TokenError                      401  a bearer token that does not prove what it should
    ├── UpstreamError                   400  the caller of an upstream URL
    │   ├── SignatureError              401
    │   ├── NoHandlerError              404
    │   ├── MethodNotAllowedError       405
    │   ├── BodyTimeoutError            408
    │   ├── BodyTooLargeError           413
    │   ├── MediaTypeError              415
    │   ├── OverloadedError             503
    │   └── KeysNotFetchedError         503  a token that cannot be checked yet
    ├── ProtocolError                   400  bytes that are not what the hub protocol says
    │   ├── FrameTooLargeError          413
    │   ├── LengthPrefixError                a length prefix of more than five bytes or 2 GiB
    │   ├── InvalidMessageError              a frame that is not a hub message
    │   ├── TrailingDataError                bytes behind the end of a message
    │   └── HandshakeError                   the first message of a connection
    ├── HubError                        200  what a handler tells its caller
    │   ├── Forbidden                        ``require=`` refused
    │   └── ArgumentsError                   the arguments do not fit the handler
    ├── Redeliver                       503  a handler asks the service to deliver once more
    └── ServiceError                    502  the SignalR service's REST API
        ├── InvalidRequestError              400: the service refuses what was asked
        ├── UnauthorizedError                401: the token
        ├── AccessDeniedError                403: role assignment or network rules
        ├── NotFoundError                    404: no such URL, hub or resource
        ├── TooLargeError                    413: more than 1 MB
        ├── ThrottledError                   429: too many messages or connections
        ├── UnavailableError                 5xx
        ├── CredentialError                  no Entra ID token could be had: nothing was sent
        ├── ConnectError                     nothing was sent: no connection to the service
        ├── DeliveryUnknown                  sent, but what became of it is not known: it may have been delivered
        ├── ClientInvocationError            the client that was invoked answered with an error
        ├── ResultError                      what the client answered is not what was asked for
        └── PartialDelivery                  some targets were reached, others were not

No message holds a key, a token or a request body.
"""

from collections.abc import Mapping


class SignalRError(Exception):
    """Base class: catch it to catch all that this package raises."""

    status_code = 500


class ConfigurationError(SignalRError):
    """The program is set up in a way that cannot work."""

    status_code = 503


class ConnectionStringError(ConfigurationError):
    """A connection string that cannot be used. The text says why and never shows the key."""


class NoKeysError(ConfigurationError):
    """There is no access key, so no upstream call can be checked and none is served."""


class MissingExtraError(ConfigurationError, ModuleNotFoundError):
    """A package of one of our extras is not installed; the text says how to install it.

    Args:
        what: needs it.
        package: what is missing.
        extra: of ours, that brings it.
    """

    def __init__(self, what: str, package: str | None, *, extra: str) -> None:
        super().__init__(f"{what} needs {package}: python -m pip install 'signalr-upstream[{extra}]'")


class RegistrationError(ConfigurationError):
    """A handler or hub that could never work; raised where it is registered."""


class InvalidNameError(SignalRError, ValueError):
    """A hub, group, user, connection or application name that the service does not take.

    Attributes:
        kind: what the name is for ("hub", "group", ...).
        reason: what is wrong with it.
    """

    status_code = 400

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"invalid {kind} name: {reason}")
        self.kind = kind
        self.reason = reason


class IdentityError(SignalRError, ValueError):
    """An identity that no client token can be made for. Names the claim, never shows a value."""


class TokenError(SignalRError):
    """A bearer token that is malformed, expired, for another audience, or not signed with one of our keys."""

    status_code = 401


class UpstreamError(SignalRError):
    """An upstream call that is refused before a handler runs.

    Attributes:
        details: what only the log says of it.
    """

    status_code = 400

    def __init__(self, message: str = "", *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class SignatureError(UpstreamError):
    """The upstream call carries no signature made with one of our keys.

    Attributes:
        reason: for metrics: ``signature_wrong``, ``signature_missing``, ``no_connection_id`` or ``code``.
    """

    status_code = 401

    def __init__(self, message: str, *, reason: str = "signature_wrong") -> None:
        super().__init__(message)
        self.reason = reason


class NoHandlerError(UpstreamError):
    """No handler is registered for this hub, category and event."""

    status_code = 404


class MethodNotAllowedError(UpstreamError):
    """Upstream calls are POST."""

    status_code = 405


class BodyTimeoutError(UpstreamError):
    """The request body did not arrive in time."""

    status_code = 408


class BodyTooLargeError(UpstreamError):
    """The request body is over the limit."""

    status_code = 413


class MediaTypeError(UpstreamError):
    """The body is neither JSON nor MessagePack, or it is compressed."""

    status_code = 415


class OverloadedError(UpstreamError):
    """More calls are running than this worker takes."""

    status_code = 503


class KeysNotFetchedError(UpstreamError):
    """The keys of the issuer of Entra ID tokens could not be fetched yet, or not for a day."""

    status_code = 503


class ProtocolError(SignalRError):
    """Bytes that are not what the SignalR hub protocol says."""

    status_code = 400


class FrameTooLargeError(ProtocolError):
    """A frame is over the limit.

    Attributes:
        limit: the largest frame taken, in bytes.
    """

    status_code = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"a message is larger than {limit} bytes")
        self.limit = limit


class LengthPrefixError(ProtocolError):
    """A MessagePack length prefix has more than five bytes or says more than 2 GiB."""


class InvalidMessageError(ProtocolError):
    """A frame is not a hub message: not JSON or MessagePack, or a field of the wrong type."""


class TrailingDataError(ProtocolError):
    """There are bytes behind the end of a message."""


class HandshakeError(ProtocolError):
    """The handshake is malformed or asks for a protocol that is not spoken here."""


class HubError(SignalRError):
    """Raise it in a handler: its text is what the client's ``invoke()`` is rejected with.

    Any other exception reaches the client as a fixed text, and the log with its traceback.
    """

    status_code = 200

    def __init__(self, message: str = "The call was refused.") -> None:
        super().__init__(message)


class Forbidden(HubError):  # noqa: N818 - the name users write in `except`
    """The caller may not do this; raised for a refusing ``require=``."""

    def __init__(self, message: str = "You are not allowed to do this.") -> None:
        super().__init__(message)


class ArgumentsError(HubError):
    """The arguments of an invocation do not fit its handler. Never holds an argument's value."""


class Redeliver(SignalRError):  # noqa: N818 - an instruction, not a failure
    """Raise it in a handler to answer 503, which asks the service to deliver the call once more."""

    status_code = 503


class ServiceError(SignalRError):
    """The REST API of the SignalR service refused or failed.

    Attributes:
        operation: which call it was, e.g. ``"send_to_group"``.
        status: HTTP status of the answer; None where none came.
        error_code: the service's ``x-ms-error-code``, e.g. ``"Warning.Connection.NotExisted"``.
        retry_after: seconds that the service asks to wait; None where it does not.
    """

    status_code = 502

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        status: int | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.status = status
        self.error_code = error_code
        self.retry_after = retry_after


class InvalidRequestError(ServiceError):
    """400: the service does not take what was asked; its message says what."""


class UnauthorizedError(ServiceError):
    """401: the service does not take our token: wrong key, wrong endpoint or a wrong clock."""


class AccessDeniedError(ServiceError):
    """403: a role assignment is missing, or the network rules of the resource refuse us."""


class NotFoundError(ServiceError):
    """404: the connection is gone, or the endpoint or hub is wrong."""


class TooLargeError(ServiceError):
    """413: the REST API takes at most 1 MB."""


class ThrottledError(ServiceError):
    """429: the resource's quota of messages or connections is used up."""


class UnavailableError(ServiceError):
    """5xx or 408: the service failed."""


class CredentialError(ServiceError):
    """The credential gave no Entra ID token: nothing was sent."""


class ConnectError(ServiceError):
    """No connection to the service could be made: nothing was sent."""


class DeliveryUnknown(ServiceError):  # noqa: N818 - a state, not a failure
    """The request was sent, but what became of it is not known: it may have been delivered.

    No answer came, or one that leaves it open (408, 500, 502 or 504 to a send).
    """


class ClientInvocationError(ServiceError):
    """The client that was invoked answered with an error; the text is the client's."""


class ResultError(ServiceError):
    """What the client answered is not what was asked for."""


class PartialDelivery(ServiceError):  # noqa: N818 - a state, not a failure
    """Several targets: some were reached, some were not.

    Attributes:
        errors: the error of each target that failed.
        delivered: how many targets were reached.
    """

    def __init__(self, operation: str, errors: Mapping[str, ServiceError], delivered: int) -> None:
        super().__init__(f"{len(errors)} of {len(errors) + delivered} targets failed", operation=operation)
        self.errors = dict(errors)
        self.delivered = delivered
