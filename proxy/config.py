"""policy.yaml, the environment and the command line to one validated Config; or every problem at once.

What lives here: the steps in order (read, parse, override, expand, validate, cross-check) and what they yield.
What must never live here: sockets, clocks, building anything. Loading changes nothing: a reload that fails leaves
no trace. It may read files, so a running proxy calls it off its event loop.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import policies
from policies.contract import Policy
from proxy import config_yaml
from proxy.config_checks import cross_check
from proxy.config_node import Node
from proxy.config_report import ConfigError, Problem, Report
from proxy.config_scalars import MAX_BYTES, decode
from proxy.config_secrets import Outside, expand
from proxy.config_validate import PolicySpec, validate
from proxy.settings import Settings

__all__ = [
    "DEFAULT_FILE",
    "Config",
    "ConfigError",
    "Overrides",
    "PolicySpec",
    "Problem",
    "catalogue",
    "fingerprint",
    "load",
]

DEFAULT_FILE = "policy.yaml"
Catalogue = Mapping[str, Callable[[], type[Policy]]]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says over the file; None leaves the file's word.

    backend: base URL, replaces the url of the file's first backend. listen, admin: HOST:PORT (admin also
    ``off``). workers: processes. log: json, text or off. drain_timeout: a duration such as 30s.
    """

    backend: str | None = None
    listen: str | None = None
    admin: str | None = None
    workers: int | None = None
    log: str | None = None
    drain_timeout: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration.

    settings: everything but the policies' options. policies: in their order. hash: SHA-256 in hex over the file's
    text, in which secrets stand as expressions, and the overrides. source: the file's path, or None for the
    plain relay. files: the secrets' files that were read. warnings: what is doubtful, for the log.
    """

    settings: Settings
    policies: list[PolicySpec] = field(repr=False)
    hash: str
    source: str | None
    files: tuple[str, ...]
    warnings: list[Problem]
    contents: tuple[tuple[str, str], ...] = ()
    """The files that policies read, and the SHA-256 of what was in them."""

    def same_as(self, other: Config) -> bool:
        """Nothing has changed: neither the file nor what came from outside it."""
        mine = self.hash, self.settings, self.policies, self.contents
        return mine == (other.hash, other.settings, other.policies, other.contents)

    @property
    def short_hash(self) -> str:
        """The first twelve digits, for people."""
        return self.hash[:12]


def catalogue() -> Catalogue:
    """Every policy that ``use:`` may name, loaded when asked for."""
    return {use: partial(policies.load, use) for use in sorted(policies.CATALOGUE)}


def load(
    path: str | None,
    *,
    text: bytes | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Overrides | None = None,
    known: Catalogue | None = None,
) -> Config:
    """Read and validate; raises ConfigError with every problem, and nothing else.

    path: the policy file. None means the plain relay when ``overrides.backend`` is given, else ``policy.yaml`` in
    the working directory. text: the file's bytes, when the caller has them; path then only names them. env:
    where ``${NAME}`` is looked up (os.environ). known: the policies that may be named (those of the catalogue).
    """
    env = os.environ if env is None else env
    overrides = overrides or Overrides()
    source = path if path is not None or text is not None else _default_source(overrides)
    report = Report(source or (DEFAULT_FILE if text is not None else "command line"))
    content = _content(source, text, report)
    try:
        config = _load(source, content, env, overrides, catalogue() if known is None else known, report)
    except RecursionError:  # a validator of a policy's own that does not bound its depth
        report.error((0, 0), (), "is too deeply nested to be checked")
        config = None
    if config is None:
        raise ConfigError(report.problems, report.warnings)
    return config


def fingerprint(path: str, *others: str) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when the file, or one of the secrets' files, does: real path, inode, mtime in ns, size of each.

    Cheap enough for every second. The real path is looked up anew each time: Kubernetes swaps a ConfigMap by
    pointing a symbolic link elsewhere. A file that is not there has zeros.
    """
    return tuple(_stamp(name) for name in (path, *others))


def _stamp(name: str) -> tuple[str, int, int, int]:
    try:
        real = os.path.realpath(name)
        found = os.stat(real)
    except (OSError, ValueError):
        return name, 0, 0, 0
    return real, found.st_ino, found.st_mtime_ns, found.st_size


def _default_source(overrides: Overrides) -> str | None:
    if overrides.backend is not None:
        return None
    if os.path.exists(DEFAULT_FILE):
        return DEFAULT_FILE
    hint = "write `headgate serve --policy FILE`, or `headgate serve --backend http://127.0.0.1:8000` for a plain relay"
    message = "there is no policy.yaml in this directory, and neither --policy nor --backend was given"
    raise ConfigError([Problem("headgate", 0, 0, "", message, hint)], unreadable=True)


def _content(source: str | None, text: bytes | None, report: Report) -> bytes | None:
    """The file's bytes; None without a file. ConfigError when it cannot be read."""
    if text is not None or source is None:
        return text
    try:
        with open(source, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        report.error((0, 0), (), f"cannot be read: {reason}", "check the path and the permissions")
        raise ConfigError(report.problems, unreadable=True) from None


def _load(
    source: str | None,
    content: bytes | None,
    env: Mapping[str, str],
    overrides: Overrides,
    known: Catalogue,
    report: Report,
) -> Config | None:
    text = "" if content is None else decode(content, report)
    root = _plain_relay() if content is None else config_yaml.parse(text, report) if text is not None else None
    settings: Settings | None = None
    specs: list[PolicySpec] = []
    outside = Outside()
    if root is not None:
        _override(root, overrides)
        outside = expand(root, env, report)
        settings, specs = validate(root, known, outside.texts, report)
        cross_check(root, settings, specs, report)
    if content is None and os.path.exists(DEFAULT_FILE):
        report.warn(
            (0, 0),
            (),
            "the policy.yaml here is not used: --backend alone is the plain relay",
            "add --policy policy.yaml to use it",
            file="--backend",
        )
    report.finish(text or "", outside.texts)
    if settings is None or report.problems:
        return None
    read = dict.fromkeys(name for spec in specs for name in spec.options.files())
    contents = tuple((name, _digest(name)) for name in read)
    files = (*outside.files, *read)
    return Config(settings, specs, _hash(content, overrides), source, files, report.warnings, contents)


def _digest(name: str) -> str:
    try:
        with open(name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # gone since the policy has read it: the next look will tell
        return ""


def _hash(content: bytes | None, overrides: Overrides) -> str:
    given = {k: v for k, v in asdict(overrides).items() if v is not None}
    return hashlib.sha256((content or b"") + b"\0" + json.dumps(given, sort_keys=True).encode()).hexdigest()


def _plain_relay() -> Node:
    """The tree of no file at all: nothing is read from replies, no policy runs."""
    return Node(0, 0, {"version": Node(0, 0, 1), "usage": Node(0, 0, False)})


def _override(root: Node, overrides: Overrides) -> None:
    """Put the command line's words into the tree; the rest of a broken tree is left for validation to tell."""
    if not isinstance(root.value, dict):
        return
    for key, value in (
        ("listen", overrides.listen),
        ("admin", overrides.admin),
        ("workers", overrides.workers),
        ("drain_timeout", overrides.drain_timeout),
    ):
        _put(root, key, value, "--" + key.replace("_", "-"))
    if overrides.log is not None:
        _put(_mapping(root, "log"), "format", overrides.log, "--log")
    if overrides.backend is not None:
        backends = _mapping(root, "backends")
        first = next(iter(backends.value), "default") if isinstance(backends.value, dict) else "default"
        _put(_mapping(backends, first), "url", overrides.backend, "--backend")


def _put(parent: Node, key: str, value: Any, origin: str) -> None:
    if value is not None and isinstance(parent.value, dict):
        parent.value[key] = Node(0, 0, value, text=str(value), origin=origin)


def _mapping(parent: Node, key: str) -> Node:
    """The mapping under a key, made when it is not there; whatever else stands there stays."""
    found = parent.child(key)
    if found is None:
        found = Node(0, 0, {})
        if isinstance(parent.value, dict):
            parent.value[key] = found
    return found
