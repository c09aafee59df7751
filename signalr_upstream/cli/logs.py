"""The log lines of a served app: text for a terminal, JSON for a log collector."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ..telemetry import LOG_FIELDS


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, process (its number), message and, for an error, its traceback.

    About a call also its event, connection, duration (seconds) and outcome, and why it was not believed.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in LOG_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class HideQuery(logging.Filter):
    """Cut the query off the paths that uvicorn logs: a WebSocket's holds its access token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.split("?", 1)[0] if isinstance(arg, str) and arg.startswith("/") else arg
                for arg in record.args
            )
        return True


@contextmanager
def local_service_log() -> Iterator[None]:
    """Write what the local service reports to standard error: failed calls to the app, settings that it has read."""
    logger = logging.getLogger("signalr_upstream.local")
    handler = logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def log_config(form: str, level: str) -> dict[str, Any]:
    """The ``logging.config`` dictionary: everything to standard error, in one form.

    Args:
        form: ``"json"`` or ``"text"``.
        level: name of the lowest level that is written.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"hide_query": {"()": HideQuery}},
        "formatters": {
            "json": {"()": JsonFormatter},
            "text": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": form, "filters": ["hide_query"]}
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            # A line for every send, at INFO, costs as much as the send.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
        },
    }
