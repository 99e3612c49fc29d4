"""nginx and HAProxy on the loopback interface, with the configuration that the project ships, in front of headgate.

The listening socket is made here and handed down, so no port is guessed, and connections wait while they start.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kits.process import ROOT, Process, process

CONFIG = ROOT / "deploy/nginx/headgate.conf"


def program(name: str) -> str:
    """The path of a server. Skips the test without it, or fails when HEADGATE_REQUIRE_SERVICES=1."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("HEADGATE_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{name} is not installed, and HEADGATE_REQUIRE_SERVICES=1")
        pytest.skip(f"{name} is not installed")
    return found


@dataclass
class Running:
    """A server on ``port`` of 127.0.0.1."""

    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(512)
        yield sock


def site(port: int, upstreams: Sequence[int]) -> str:
    """The shipped nginx file, on another port and with these headgates; all else as it stands."""
    text = CONFIG.read_text()
    servers = "".join(f"server 127.0.0.1:{p};" for p in upstreams)
    for pattern, put in ((r"server 127\.0\.0\.1:8080;", servers), (r"listen 80;", f"listen 127.0.0.1:{port};")):
        text, changed = re.subn(pattern, put, text)
        assert changed == 1, f"{CONFIG} has changed: {pattern}"
    return text


_NGINX = """
daemon off; worker_processes 1; pid {at}/nginx.pid; error_log stderr warn; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    include {at}/headgate.conf;
}}
"""


@contextlib.asynccontextmanager
async def nginx(at: Path, *upstreams: int) -> AsyncIterator[Running]:
    """nginx before headgates on these ports. at: an empty directory for what it writes."""
    binary = program("nginx")
    with listening() as sock:
        port = sock.getsockname()[1]
        (at / "headgate.conf").write_text(site(port, upstreams))
        user = "user root;" if os.geteuid() == 0 else ""
        (at / "nginx.conf").write_text(_NGINX.format(at=at, user=user))
        argv = (binary, "-p", str(at), "-c", str(at / "nginx.conf"), "-e", "stderr")
        # NGINX: descriptors of listening sockets, as nginx hands them to its own successor (nginx.org, control.html)
        async with process(*argv, env={"NGINX": f"{sock.fileno()};"}, pass_fds=[sock.fileno()]) as made:
            yield Running(port, made)


_HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout tunnel 3600s
    option http-no-delay
    option abortonclose
frontend clients
    bind fd@{fd}
    default_backend headgate
backend headgate
    balance leastconn
    option forwardfor
{servers}
"""


@contextlib.asynccontextmanager
async def haproxy(at: Path, *upstreams: int) -> AsyncIterator[Running]:
    """HAProxy before headgates. abortonclose: a client that leaves stops the backend; it works only where the frontend
    has it too, so it stands in `defaults`. http-no-delay: without it every piece of a stream waits 200 ms."""
    binary = program("haproxy")
    with listening() as sock:
        servers = "\n".join(f"    server gate{i} 127.0.0.1:{p}" for i, p in enumerate(upstreams))
        (at / "haproxy.cfg").write_text(_HAPROXY.format(fd=sock.fileno(), servers=servers))
        async with process(binary, "-db", "-f", str(at / "haproxy.cfg"), pass_fds=[sock.fileno()]) as made:
            yield Running(sock.getsockname()[1], made)
