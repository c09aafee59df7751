import json
import logging
import os
import sys

import pytest

from signalr_upstream.cli.logs import HideQuery, JsonFormatter, local_service_log


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord("my.logger", logging.WARNING, "file", 1, message, arguments, exc_info)


def test_a_line_is_one_json_object() -> None:
    line = JsonFormatter().format(record("two\nlines for %s", "Zoë"))

    assert "\n" not in line
    assert json.loads(line) | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "my.logger",
        "process": os.getpid(),
        "message": "two\nlines for Zoë",
    }


def test_an_error_brings_its_traceback() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        caught = logging.LogRecord("a", logging.ERROR, "f", 1, "failed", (), sys.exc_info())

    line = json.loads(JsonFormatter().format(caught))

    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("RuntimeError: broken")


def test_queries_of_paths_are_not_logged() -> None:
    # uvicorn's line for an accepted WebSocket, uvicorn/protocols/websockets/websockets_impl.py.
    accepted = record('%s - "WebSocket %s" [accepted]', "127.0.0.1:5000", "/ws?access_token=secret")
    other = record("%s of %s", {"not": "a path"}, "what? this")

    assert HideQuery().filter(accepted)
    assert HideQuery().filter(other)

    assert accepted.getMessage() == '127.0.0.1:5000 - "WebSocket /ws" [accepted]'
    assert other.getMessage() == "{'not': 'a path'} of what? this"


def test_a_record_with_named_arguments_passes_unchanged() -> None:
    named = record("%(a)s", {"a": "/b?c"})

    assert HideQuery().filter(named)

    assert named.getMessage() == "/b?c"


def test_the_local_services_log_is_written_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("signalr_upstream.local")

    with local_service_log():
        logger.info("settings were read")
        logger.debug("nothing that matters")
    logger.info("too late")

    assert capsys.readouterr().err == "settings were read\n"
