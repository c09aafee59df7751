"""What an orchestrator asks an app: ``/healthz``, whether it lives, and ``/readyz``, whether to send it calls."""

from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .errors import ConfigurationError


class Probed(Protocol):
    """The app that is asked."""

    draining: bool

    def check_keys(self) -> None: ...


def _healthz(request: Request) -> Response:
    return PlainTextResponse("ok")


def _readyz(request: Request) -> Response:
    app: Probed = request.app
    if app.draining:
        return PlainTextResponse("draining", 503)
    try:
        app.check_keys()
    except ConfigurationError as error:
        return PlainTextResponse(str(error), 503)
    return PlainTextResponse("ready")


HEALTH_ROUTES = (Route("/healthz", _healthz), Route("/readyz", _readyz))
