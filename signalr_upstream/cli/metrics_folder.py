"""The folder in which the workers of ``run`` share what they count for Prometheus.

prometheus_client keeps files of each process there, and leaves to whoever starts the processes to make the folder, to
clear it before they start and to say which of them has ended.

Spec: https://prometheus.github.io/client_python/multiprocess/
"""

import logging
import os
import re
from pathlib import Path
from tempfile import TemporaryFile

from ..errors import ConfigurationError
from ..telemetry import METRICS_FOLDER

_logger = logging.getLogger(__name__)

_FILE = re.compile(r"(?:counter|gauge_[a-z]+|histogram|summary)_([0-9]{1,9})\.db")


def prepare_metrics_folder() -> None:
    """Make the folder, if one is named, and remove what processes that have ended left there.

    To be called before the app is imported, which writes there when it makes its first metric. The files of processes
    that run are left alone, or a second ``run`` would take the first one's.

    Raises:
        ConfigurationError: there can be no such folder.
    """
    name = os.environ.get(METRICS_FOLDER)
    if name is None:
        return
    try:
        os.makedirs(name, exist_ok=True)  # an error for an empty name, which is the current folder to Path
        with TemporaryFile(dir=name):
            pass  # it can be written to
        for file in Path(name).iterdir():
            match = _FILE.fullmatch(file.name)
            if match is not None and not _runs(int(match[1])):
                file.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"{METRICS_FOLDER} has to name a folder for metrics, and {name!r} is none: {exc.strerror}"
        ) from exc


def count_no_more(pid: int) -> None:
    """A worker has ended: what it had under way is no longer under way. What it has counted stays."""
    if METRICS_FOLDER not in os.environ:
        return
    try:
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - an extra
    except ImportError:
        return
    try:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has it so
    except OSError as exc:  # no reason to end the other workers
        _logger.error("metrics still count worker %d: %s", pid, exc)


def _runs(pid: int) -> bool:
    if (
        pid == os.getpid()
    ):  # an earlier process had our number, as in every container: this one has no files yet
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
