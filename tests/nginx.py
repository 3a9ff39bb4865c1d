"""A private nginx with the configuration that deploy/ ships, on free ports.

Needs Debian's `nginx`. Without it a test skips locally and fails where `CI=true`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks_app.management.servers import ChildServer
from tests.processes import ROOT
from tests.web import free_port

SHIPPED = ROOT / "deploy" / "nginx" / "taskmill.conf"
PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"


class Nginx(ChildServer):
    """The shipped configuration with other ports, a certificate of its own and one web process."""

    name = "nginx"

    def __init__(self, home: Path, *, web_port: int) -> None:
        super().__init__(home / "server.log")
        self.home = home
        self.plain_port, self.port = free_port(), free_port()
        self.certificate = home / "fullchain.pem"
        self._changes = {
            "127.0.0.1:8000": f"127.0.0.1:{web_port}",
            "listen 80": f"listen 127.0.0.1:{self.plain_port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "/etc/nginx/tls": str(home),
        }

    @property
    def url(self) -> str:
        """Where clients come in."""
        return f"https://localhost:{self.port}"

    def text(self) -> str:
        """Give the shipped text with what is of this machine changed."""
        text = SHIPPED.read_text("utf-8")
        for shipped, here in self._changes.items():
            assert shipped in text
            text = text.replace(shipped, here)
        return text

    def start(self) -> None:
        """Start and wait until it listens."""
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(self.home / "privkey.pem"), "-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        (self.home / "taskmill.conf").write_text(self.text(), "utf-8")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {self.home}/{kind};" for kind in kinds)
        (self.home / "nginx.conf").write_text(
            ("user root;\n" if os.geteuid() == 0 else "")
            + f"daemon off; pid {self.home}/pid; error_log stderr;\nevents {{}}\n"
            + f"http {{ access_log off; {paths}\ninclude {self.home}/taskmill.conf; }}\n",
            "utf-8",
        )
        self.launch([PROGRAM, "-e", "stderr", "-c", str(self.home / "nginx.conf")])
        self.wait_for_answer(self._ask, OSError)

    def _ask(self) -> None:
        for port in (self.plain_port, self.port):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()


@contextmanager
def running_nginx(home: Path, *, web_port: int) -> Iterator[Nginx]:
    """A proxy for the duration; skips where nginx is missing, fails in CI."""
    if not Path(PROGRAM).exists():
        reason = "nginx is not installed (apt-get install nginx)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = Nginx(home, web_port=web_port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
