"""``${NAME}``, ``${NAME:-default}`` and ``file:/path`` in the values of policy.yaml.

What lives here: their replacement in a tree that has been read already, so that what comes in is text and
never YAML. What must never live here: printing what came in. A value is marked with its expression, and that
is what messages show.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.config_node import Node
from proxy.config_report import Path, Report, is_sensitive, shorten

MAX_SECRET_BYTES = 65_536

_EXPRESSION = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<text>[^{}]*))?\}|(?P<odd>\$\{)")
# One slash: file:///etc/passwd is a URL, and someone's pattern to look for.
_FILE = re.compile(r"file:(?P<path>/(?!/).*)", re.DOTALL)
_RELATIVE_FILE = re.compile(r"file:[^/\s]\S*")
_HOW = "write ${NAME} or ${NAME:-default}; $${ stands for ${ itself"


@dataclass(slots=True)
class Outside:
    """What came from outside the file. texts: the secret values. files: the paths of files that were read."""

    texts: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def expand(root: Node, env: Mapping[str, str], report: Report) -> Outside:
    """Replace every expression in the tree's text values, in place. Problems and warnings go to the report."""
    outside = Outside()
    _visit(root, (), _Expander(env, report, outside))
    outside.texts = list(dict.fromkeys(outside.texts))
    return outside


def _visit(node: Node, path: Path, expander: _Expander) -> None:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _visit(child, (*path, key), expander)
    elif isinstance(node.value, list):
        for i, child in enumerate(node.value):
            _visit(child, (*path, i), expander)
    elif isinstance(node.value, str) and not node.bad:
        expander.scalar(node, path)


class _Expander:
    def __init__(self, env: Mapping[str, str], report: Report, outside: Outside) -> None:
        self.env = env
        self.report = report
        self.outside = outside

    def scalar(self, node: Node, path: Path) -> None:
        written: str = node.value
        file = _FILE.fullmatch(written)
        text = written
        if "${" in written:
            text = self.variables(node, path, file["path"] if file else written)
            if file:
                text = "file:" + text
        if node.bad:
            return
        if file:
            self.read(node, path, text.removeprefix("file:"), shorten(written, 80))
        elif is_sensitive(path) and _RELATIVE_FILE.fullmatch(written):
            self.fail(node, path, "a file is named by its absolute path", "write file:/run/secrets/name")
        else:
            node.value = text

    def variables(self, node: Node, path: Path, text: str) -> str:
        expressions: list[str] = []

        def one(found: re.Match[str]) -> str:
            if found["odd"]:
                self.fail(node, path, "${ begins a variable that does not end", _HOW)
                return ""
            if not found["name"] or node.bad:
                return "${"
            expressions.append(f"${{{found['name']}{':-...' if found['default'] else ''}}}")
            return self.variable(node, path, found)

        result = _EXPRESSION.sub(one, text)
        if expressions:
            node.secret = shorten("".join(expressions), 80)
        return result

    def variable(self, node: Node, path: Path, found: re.Match[str]) -> str:
        name, default = found["name"], found["text"]
        value = self.env.get(name)
        if not value and default is not None:
            if default:  # an empty default says "may be missing"; nobody needs to hear of it
                self.report.warn(
                    node.place, path, f"{name} is not set: its default is used", "set it, or write the value"
                )
            return str(default)
        if value is None:
            hint = f"set it, or write ${{{name}:-default}}"
            self.fail(node, path, f"the environment variable {name} is not set", hint)
        elif not value:
            hint = f"set it, or write ${{{name}:-}} where empty is meant"
            self.fail(node, path, f"the environment variable {name} is empty", hint)
        elif not _is_text(value):
            self.fail(node, path, f"the environment variable {name} is not UTF-8", "set it to plain text")
        self.outside.texts.append(value or "")
        return value or ""

    def read(self, node: Node, path: Path, name: str, shown: str) -> None:
        """Put the content of a secret's file in place, without the line break at its end."""
        node.secret = shown
        self.outside.files.append(name)
        try:
            data = _read_regular(name)
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(node, path, f"{shown} is not UTF-8", "a secret's file holds its text alone")
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            self.fail(node, path, f"{shown} cannot be read: {reason}", "check the path and who may read it")
        else:
            node.value = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
            self.outside.texts.append(node.value)
            if not node.value:
                self.fail(node, path, f"{shown} is empty", "write the secret into it")

    def fail(self, node: Node, path: Path, message: str, hint: str) -> None:
        node.bad = True
        self.report.error(node.place, path, message, hint, file=node.origin)


def _read_regular(name: str) -> bytes:
    """A regular file's bytes; OSError, or ValueError when it is something else or too large for a secret."""
    if not stat.S_ISREG(os.stat(name).st_mode):  # a FIFO or a terminal would wait for ever
        raise ValueError("it is not a plain file")
    with open(name, "rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"it is larger than {MAX_SECRET_BYTES // 1024} KiB")
    return data


def _is_text(value: str) -> bool:
    """False for what the system could not decode (surrogates) and for NUL."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value
