"""Addresses of Redis servers as policy.yaml writes them.

What lives here: their reading, as text. What must never live here: connections. No message holds a piece of the
address: it may carry a password.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

FORMS = (
    "write redis://host:6379/0, rediss:// for TLS, unix:///path, redis+sentinel://host1,host2/service/0 or "
    "redis+cluster://host1,host2"
)
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?)(?::(?P<port>[0-9]{1,5}))?")
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}


class Address(NamedTuple):
    """hosts: (name, port), in their order; of the sentinels, or of some nodes of the cluster. path: of a Unix socket.
    service: the master's name at the sentinels."""

    kind: Literal["single", "unix", "sentinel", "cluster"]
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    db: int
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"<Address {self.shown}>"

    @property
    def shown(self) -> str:
        """The address without user and password."""
        if self.kind == "unix":
            return f"unix://{self.path}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        tail = "".join(f"/{part}" for part in (self.service, str(self.db) if self.db else "") if part)
        return f"{scheme}://{hosts}{tail}"


def parse_store_url(text: str) -> Address:
    """Read one; ValueError, which does not hold the text, when it has none of the forms."""
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(FORMS) from None
    if url.scheme not in _SCHEMES or url.query or url.fragment or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError(FORMS)
    login, _, hosts = url.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    given = (unquote(user) or None, unquote(password) if colon else None)
    if url.scheme == "unix":
        if hosts or not url.path.startswith("/") or len(url.path) < 2:
            raise ValueError("write unix:///absolute/path/of/the/socket")
        return Address("unix", False, (), unquote(url.path), "", 0, *given)
    base, _, flavour = url.scheme.partition("+")
    kind: Literal["single", "sentinel", "cluster"] = (
        "sentinel" if flavour == "sentinel" else "cluster" if flavour == "cluster" else "single"
    )
    parts = [part for part in url.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("name the service after the sentinels: redis+sentinel://host1,host2/service/0")
        service = unquote(parts.pop(0))
    if len(parts) > 1 or (parts and not re.fullmatch(r"[0-9]{1,4}", parts[0])):
        raise ValueError("the database is a number: redis://host:6379/0")
    db = int(parts[0]) if parts else 0
    if kind == "cluster" and db:
        raise ValueError("a Redis Cluster has only database 0")
    found = tuple(_host(one, _PORTS[kind]) for one in hosts.split(","))
    if kind == "single" and len(found) > 1:
        raise ValueError("several hosts are a Sentinel or a Cluster: write redis+sentinel:// or redis+cluster://")
    return Address(kind, base == "rediss", found, "", service, db, *given)


def has_password(url: str) -> bool:
    """The address carries a password."""
    try:
        return parse_store_url(url).password is not None
    except ValueError:
        return False


def _host(text: str, port: int) -> tuple[str, int]:
    m = _HOST.fullmatch(text)
    if m is None or not 0 < int(m["port"] or port) <= 65535:
        raise ValueError(FORMS)
    return m["host"].strip("[]"), int(m["port"] or port)
