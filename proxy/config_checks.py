"""What single values cannot tell: settings that contradict each other, and settings that are allowed but doubtful.

What lives here: the cross-checks, on valid settings, with the lines of the tree. Problems stop the load, warnings
go to the log and to ``headgate check``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from importlib.util import find_spec
from urllib.parse import urlsplit

from proxy.config_node import Node
from proxy.config_report import Path, Report
from proxy.config_validate import IN_CLEAR, IN_CLEAR_HINT, PolicySpec
from proxy.settings import Backend, Settings, split_address
from proxy.store.urls import has_password

VLLM_KEEPALIVE = 5.0
"""Seconds: uvicorn's default `timeout_keep_alive`, which vLLM's server keeps."""


def cross_check(root: Node, settings: Settings | None, specs: Sequence[PolicySpec], report: Report) -> None:
    """Report problems and warnings about a whole configuration. settings: None when they do not hold."""
    _clear_secrets(root, report)
    if settings is None:
        return
    check = _Check(root, report)
    check.addresses(settings)
    check.limits(settings)
    check.callers(settings)
    for name, backend in settings.backends.items():
        check.backend(("backends", name), backend, settings)
    check.idle(specs)
    if len(specs) == len(settings.policies):
        check.bodies(settings, specs)
    check.store(settings, specs)
    for i, entry in enumerate(settings.policies):
        if entry.mode == "shadow":
            message = f"'{entry.name or entry.use}' runs in shadow: it changes and refuses nothing"
            check.warn(("policies", i, "mode"), message, "write mode: enforce when you trust it")


class _Check:
    def __init__(self, root: Node, report: Report) -> None:
        self.root = root
        self.report = report

    def warn(self, path: Path, message: str, hint: str) -> None:
        node = self.root.at(path)
        if node is not None and node.origin:
            self.report.warn((0, 0), (), message, hint, file=node.origin)
        else:
            self.report.warn(node.place if node is not None else (0, 0), path, message, hint)

    def error(self, path: Path, message: str, hint: str) -> None:
        node = self.root.at(path)
        if node is not None and node.origin:
            self.report.error((0, 0), (), message, hint, file=node.origin)
        else:
            self.report.error(node.place if node is not None else (0, 0), path, message, hint)

    def addresses(self, settings: Settings) -> None:
        if settings.admin == "off":
            return
        host, port = split_address(settings.admin)
        listen_host, listen_port = split_address(settings.listen)
        same_host = host == listen_host or "0.0.0.0" in (host, listen_host)  # noqa: S104
        if port and port == listen_port and same_host:
            self.error(("admin",), "the admin port is the traffic port", "give `admin` a port of its own")
        if not _is_loopback(host):
            self.warn(
                ("admin",),
                "the admin port is open beyond this machine: metrics and policies can be read without a key",
                "write 127.0.0.1, or let a network policy guard it",
            )

    def limits(self, settings: Settings) -> None:
        limits = settings.limits
        if limits.body and limits.inspected_body > limits.body:
            path = ("limits", "inspected_body")
            if self.root.at(path) is None:
                path = ("limits", "body")
            self.warn(path, "`inspected_body` is above `body`: the smaller one holds", "lower `inspected_body`")
        if limits.target > limits.head:
            path = ("limits", "target") if self.root.at(("limits", "target")) else ("limits", "head")
            self.warn(path, "`target` is above `head`, which contains it: `head` holds", "raise `head`")

    def callers(self, settings: Settings) -> None:
        asked = settings.callers
        if asked is None:
            return
        if asked.jwt is not None and find_spec("jwt") is None:
            self.error(("callers", "jwt"), "needs a package that is not installed", 'pip install "headgate[auth]"')
        if asked.pass_through and any(b.key is not None for b in settings.backends.values()):
            path = ("callers", "pass_through")
            self.warn(path, "backends with a `key` get that one, and not the caller's", "remove their keys, or this")
        if asked.jwt is not None and asked.jwt.audience is None and asked.jwt.jwks is not None:
            message = "takes the provider's tokens for any other service, too"
            self.warn(("callers", "jwt"), message, "write the `audience` that is meant for headgate")

    def idle(self, specs: Sequence[PolicySpec]) -> None:
        """Policies that count, and have nothing to count."""
        for i, spec in enumerate(specs):
            if spec.cls.counts and not spec.cls(spec.entry.name, spec.options).phases():
                self.warn(("policies", i), f"'{spec.entry.name}' does nothing", "write `limits`")

    def bodies(self, settings: Settings, specs: Sequence[PolicySpec]) -> None:
        body = settings.limits.body
        for i, spec in enumerate(specs):
            wanted = getattr(spec.options, "max_body", None)
            if body and isinstance(wanted, int) and wanted > body:
                path = ("policies", i, "max_body")
                self.warn(path, "is above `limits.body`: the smaller one holds", "raise `limits.body`, or lower it")

    def store(self, settings: Settings, specs: Sequence[PolicySpec]) -> None:
        store = settings.store_settings
        counting = [spec.entry.name for spec in specs if spec.cls.counts]
        if store.url == "memory" and settings.workers > 1 and counting and not store.approximate:
            at: Path = ("store",) if self.root.at(("store",)) is not None else ("workers",)
            self.error(
                at,
                f"'{counting[0]}' counts in memory, and each of the {settings.workers} workers has a memory of its own:"
                f" limits would be {settings.workers} times what they say",
                "write `store: redis://host:6379/0`, or `store: {url: memory, approximate: true}`: then each worker"
                " grants its share of a limit",
            )
        idle = ("prefix", "on_error", "timeout", "ca") if store.url == "memory" else ("approximate",)
        for where in (("store",), ("store", "url")):
            node = self.root.at(where)
            if node is not None and isinstance(node.value, str) and not node.secret and has_password(node.value):
                self.report.warn(node.place, where, IN_CLEAR, IN_CLEAR_HINT)
        for key in idle:
            path: Path = ("store", key)
            if self.root.at(path) is not None:
                self.warn(path, f"has no effect with {'memory' if store.url == 'memory' else 'Redis'}", "remove it")

    def bounds(self, path: Path, backend: Backend, settings: Settings) -> None:
        """What a backend is given at once, and who waits for it."""
        if backend.max_in_flight > backend.max_connections:
            message = "is above `max_connections`: requests are refused for want of connections before any waits"
            self.warn((*path, "max_in_flight"), message, "raise `max_connections`")
        queue = backend.queue
        if queue is None:
            return
        at = (*path, "queue")
        if not backend.max_in_flight:
            self.warn(at, "has no effect without `max_in_flight`", "write `max_in_flight`, or remove the queue")
        if queue.size >= settings.limits.connections:
            where = (*at, "size") if self.root.at((*at, "size")) is not None else at
            message = "each waiting request holds a client's connection, and `limits.connections` allows no more than that"
            self.warn(where, message, "raise `limits.connections`, or lower `size`")
        if queue.per_caller > queue.size:
            self.warn((*at, "per_caller"), "is above `size`: the smaller one holds", "lower it")
        if queue.priority is None and queue.classes.keys() - {"*"}:
            self.warn((*at, "classes"), "nothing says which request is of which class", "write `priority: label:NAME`")
        if queue.priority is not None and not queue.classes.keys() - {"*"}:
            self.warn((*at, "priority"), "has no effect without `classes`", "write `classes: {NAME: WEIGHT}`")
        if (queue.fair_by == "tenant" or (queue.priority or "").startswith("claim:")) and settings.callers is None:
            key = "fair_by" if queue.fair_by == "tenant" else "priority"
            self.warn((*at, key), "nobody has a name, a tenant or a token without `callers`", "write `callers`")

    def backend(self, path: Path, backend: Backend, settings: Settings) -> None:
        url = urlsplit(backend.url)
        if url.path.endswith("/v1"):
            self.warn(
                (*path, "url"),
                "ends with /v1, and so do the paths of requests: the backend would be asked for /v1/v1/...",
                "remove /v1",
            )
        if backend.keepalive >= VLLM_KEEPALIVE:
            self.warn(
                (*path, "keepalive"),
                "idle connections are kept as long as vLLM keeps them (5 s) or longer: requests can meet a closing one",
                "write 4s, or raise the backend's own keep-alive time above this",
            )
        self.bounds(path, backend, settings)
        if not backend.tls.verify:
            self.warn(
                (*path, "tls", "verify"),
                "the backend's certificate is not checked: anyone on the way can read and change everything",
                "write `ca` with the certificate to trust",
            )
        if url.scheme == "http" and self.root.at((*path, "tls")) is not None:
            self.warn((*path, "tls"), "has no effect on an http:// url", "write https://, or remove it")


def _clear_secrets(root: Node, report: Report) -> None:
    """Keys that are written into the file itself."""
    backends, keys = root.child("backends"), root.at(("callers", "keys"))
    places: list[tuple[Path, str]] = [(("callers", "jwt", "secret"), IN_CLEAR_HINT)]
    if backends is not None and isinstance(backends.value, dict):
        places += [(("backends", name, "key"), IN_CLEAR_HINT) for name in backends.value]
    if keys is not None and isinstance(keys.value, list):
        hint = "write its `sha256`, which `headgate keys hash` prints"
        places += [(("callers", "keys", n, "key"), hint) for n in range(len(keys.value))]
    for path, hint in places:
        node = root.at(path)
        if node is not None and isinstance(node.value, str) and not node.secret:
            report.warn(node.place, path, IN_CLEAR, hint)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
