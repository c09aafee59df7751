"""The server of the benchmarks that send: answers 202 to whatever comes, from C, so that it is never the bottleneck."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.upstream import BASELINES, free_port, wait_for_port


@contextmanager
def running_202() -> Iterator[None]:
    """Compile and run it; ``SERVICE`` in the environment is its base URL."""
    port = free_port()
    os.environ["SERVICE"] = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "server202"
        subprocess.run(["gcc", "-O2", "-o", program, BASELINES / "server202.c", "-lpthread"], check=True)
        process = subprocess.Popen([program, str(port)], stdout=subprocess.DEVNULL)
        try:
            wait_for_port(port, process)
            yield
        finally:
            process.kill()
            process.wait()
