"""A file of API keys: read and checked as policy.yaml is, with the same errors.

What must never live here: what a key allows (``proxy/callers``); printing one.
"""

from __future__ import annotations

import os

from proxy.callers.settings import CallerKeys
from proxy.config_report import Report
from proxy.config_scalars import decode
from proxy.config_secrets import expand
from proxy.config_validate import record
from proxy.config_yaml import parse

__all__ = ["read_keys"]

MAX_BYTES = 10_000_000


def read_keys(path: str) -> CallerKeys:
    """The rows of a file. Raises OSError when it cannot be read, and ValueError with every problem, its line and the fix; no
    message holds a key."""
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: more than {MAX_BYTES} bytes")
    report = Report(path)
    text = decode(content, report)
    root = parse(text, report) if text is not None else None
    keys = None
    if root is not None:
        outside = expand(root, os.environ, report)
        keys = record(CallerKeys, root, report, outside.texts)
        report.finish(text or "", outside.texts)
    if keys is None or report.problems:
        raise ValueError("; ".join(f"{p.where}: {p.text}" for p in report.problems) or f"{path}: empty")
    return keys
