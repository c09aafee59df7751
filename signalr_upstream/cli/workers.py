"""Several worker processes on one port: start, replace what dies, end together."""

import logging
import logging.config
import os
import signal
import socket
import time
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from types import FrameType

from uvicorn.config import STARTUP_FAILURE

from ..app import UpstreamApp
from .logs import log_config
from .metrics_folder import count_no_more
from .serving import Serving, serve

_logger = logging.getLogger(__name__)

# A worker that dies is replaced at once, but not faster than once in this many seconds.
RESTART_PAUSE = 1.0

# Seconds beyond the longest orderly end until a worker is killed.
END_MARGIN = 2.0

_spawn = get_context("spawn")


class Workers:
    """The parent of ``count`` worker processes, which all accept from one listening socket."""

    def __init__(self, serving: Serving, count: int) -> None:
        self._serving = serving
        self._count = count
        self._stopping = False
        self._restarted = 0.0  # when a worker was replaced last
        self._processes: list[SpawnProcess] = []

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status: 0 after an orderly end."""
        logging.config.dictConfig(log_config(self._serving.log_format, self._serving.log_level))
        self._warn()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            listener = self._listen()
        except OSError as exc:
            _logger.error("cannot listen on %s:%d: %s", self._serving.host, self._serving.port, exc.strerror)
            return STARTUP_FAILURE
        with listener:
            self._processes = [self._start(listener) for _ in range(self._count)]
            status = self._watch(listener)
        self._end()
        return status

    def _warn(self) -> None:
        observers = [observer for app in UpstreamApp.instances() for observer in app.telemetry]
        for text in sorted({observer.warning_for_workers() for observer in observers} - {""}):
            _logger.warning("with %d workers %s", self._count, text)

    def _listen(self) -> socket.socket:
        host = self._serving.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, self._serving.port), family=family, backlog=2048)
        _logger.info("%d workers listen on %s:%d", self._count, host, listener.getsockname()[1])
        return listener

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, listener: socket.socket) -> SpawnProcess:
        process = _spawn.Process(target=_work, args=(self._serving, listener, os.getpid()))
        process.start()
        return process

    def _watch(self, listener: socket.socket) -> int:
        while not self._stopping:
            connection.wait([process.sentinel for process in self._processes], timeout=0.2)
            for index, process in enumerate(self._processes):
                if self._stopping or process.exitcode is None:
                    continue
                if process.exitcode == STARTUP_FAILURE:
                    # Another try would end the same way.
                    _logger.error("a worker could not start: ending")
                    return STARTUP_FAILURE
                _report_end(process, process.exitcode)
                time.sleep(max(0.0, self._restarted + RESTART_PAUSE - time.monotonic()))
                self._restarted = time.monotonic()
                self._processes[index] = self._start(listener)
        return 0

    def _end(self) -> None:
        deadline = time.monotonic() + self._serving.longest_end + END_MARGIN
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                _logger.error("worker %d does not end: killing it", process.pid)
                process.kill()


def _report_end(process: SpawnProcess, status: int) -> None:
    """Say how a worker has ended, in the log and to those who count."""
    assert process.pid is not None  # noqa: S101 - it has been started
    how = f"ended with status {status}"
    if status < 0:
        hint = ", by the system if it was short of memory" if -status == signal.SIGKILL else ""
        how = f"was ended by signal {-status} ({signal.strsignal(-status)}{hint})"
    _logger.error("worker %d %s: replacing it", process.pid, how)
    count_no_more(process.pid)


def _work(serving: Serving, listener: socket.socket, parent: int) -> None:
    raise SystemExit(serve(serving, [listener], parent=parent))
