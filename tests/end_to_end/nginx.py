"""nginx in front of apps, set up as docs/deploy.md shows."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from .processes import HERE, Process, free_port, wait_until

FRAME = """
daemon off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types *;
{shown}
}}
"""


def shown_blocks() -> str:
    """Those of docs/deploy.md."""
    text = (HERE.parent.parent / "docs" / "deploy.md").read_text()
    (blocks,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(blocks)


class Nginx(Process):
    """nginx on a port of its own.

    Args:
        ports: where the app runs; more than one: instances of it.
        path: what nginx puts in the place of ``location``; empty: it hands on the whole URL.
        location: the prefix of the URLs that it serves.
    """

    lifetime = 3600.0

    def __init__(
        self, ports: Sequence[int], *, folder: Path, path: str = "", location: str = "/signalr/"
    ) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "nginx is missing: apt-get install nginx-light"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        shown = shown_blocks().replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        shown = shown.replace("http://app;", f"http://app{path};").replace("/signalr/", location)
        (server,) = re.findall(r"^ *server 127\.0\.0\.1:8080.*\n", shown, re.MULTILINE)
        shown = shown.replace(server, "".join(server.replace("8080", str(port)) for port in ports))
        settings = folder / "nginx.conf"
        settings.write_text(FRAME.format(folder=folder, shown=shown))
        super().__init__([program, "-e", "stderr", "-p", folder, "-c", settings], log=folder / "nginx.log")
        wait_until(self._answers, "nginx answers")

    def _answers(self) -> bool:
        try:
            httpx.get(self.url)
        except httpx.TransportError:
            return False
        return True
