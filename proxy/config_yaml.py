"""policy.yaml from text to a tree of nodes, each with its line and column.

What lives here: the strict walk. Aliases, anchors, tags, directives, duplicate keys, keys that are not text
and second documents are problems, reported together. What must never live here: what the keys mean, the
environment, files. The parser is PyYAML's, libyaml where it is built in. The walk takes its events and not
its nodes: depth costs no recursion, and explicit tags stay visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from proxy.config_node import Node
from proxy.config_report import Path, Report, shorten
from proxy.config_scalars import is_text, resolve, split_lines

MAX_DEPTH = 32
MAX_VALUES = 200_000

# Without libyaml the pure Python parser reads the same files, about nine times slower.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str, report: Report) -> Node | None:
    """Text to a tree; None when there is none to speak of. Every problem goes to ``report``."""
    return _Walk(text, report).run()


@dataclass(slots=True)
class _Open:
    """A collection that is being read.

    key: in a mapping, the key whose value comes next. key_at: where it stands. keep: False when that key was
    refused; its value is read and thrown away.
    """

    node: Node
    path: Path
    key: str | None = None
    key_at: tuple[int, int] = (0, 0)
    keep: bool = True

    def next_path(self) -> Path:
        if isinstance(self.node.value, list):
            return (*self.path, len(self.node.value))
        return (*self.path, self.key or "")


class _Walk:
    """One pass over the events with a stack of open collections."""

    def __init__(self, text: str, report: Report) -> None:
        self.text = text
        self.report = report
        self.lines: list[str] | None = None
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0
        self.values = 0

    def run(self) -> Node | None:
        try:
            for event in yaml.parse(self.text, Loader=_LOADER):
                if not self.take(event):
                    return None
        except yaml.YAMLError as exc:
            self.syntax(exc)
            return None
        if self.root is None or (self.root.value is None and not self.root.bad):
            hint = 'write at least: backends: {local: {url: "http://127.0.0.1:8000"}}'
            self.report.error((1, 1), (), "is empty", hint)
            return None
        return self.root

    def take(self, event: Any) -> bool:
        """One event; False when reading on makes no sense (reported)."""
        if isinstance(event, yaml.NodeEvent):
            return self.take_node(event)
        if isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            place = _place(event)
            if self.documents > 1:
                self.report.error(place, (), "a second document begins here", "keep one document per file")
                return False
            if event.version or event.tags:
                self.report.error(place, (), "directives (%YAML, %TAG) are not taken", "remove the line")
        return True

    def take_node(self, event: Any) -> bool:
        place = _place(event)
        self.values += 1
        if self.values > MAX_VALUES:
            self.report.error(place, (), f"the file holds more than {MAX_VALUES} values", "shorten it")
            return False
        if len(self.stack) >= MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            self.report.error(place, (), f"is nested more than {MAX_DEPTH} levels deep", "write it flatter")
            return False
        parent = self.stack[-1] if self.stack else None
        if parent is not None and isinstance(parent.node.value, dict) and parent.key is None:
            parent.key_at = place
            parent.key, parent.keep = self.take_key(parent, event, place)
            return True
        path = parent.next_path() if parent is not None else ()
        node = self.take_value(event, place, path)
        if parent is None:
            self.root = node
        elif isinstance(parent.node.value, list):
            parent.node.value.append(node)
        else:
            if parent.keep:
                node.key = parent.key_at
                parent.node.value[parent.key] = node
            parent.key = None
        if isinstance(node.value, dict | list):
            self.stack.append(_Open(node, path))
        return True

    def take_value(self, event: Any, place: tuple[int, int], path: Path) -> Node:
        """A value's node, with its own problems reported."""
        node = Node(*place, None)
        if isinstance(event, yaml.AliasEvent):
            node.bad = True
            self.report.error(place, path, "aliases (*name) are not taken", "write the value out")
            return node
        node.bad = self.refuse_marks(event, place, path)
        if isinstance(event, yaml.MappingStartEvent):
            node.value = {}
        elif isinstance(event, yaml.SequenceStartEvent):
            node.value = []
        else:
            node.text = node.value = event.value
            if event.style in (None, ""):
                try:
                    node.value = resolve(event.value)
                except ValueError as exc:
                    node.bad = True
                    self.report.error(place, path, *exc.args)
        return node

    def refuse_marks(self, event: Any, place: tuple[int, int], path: Path) -> bool:
        """Report an anchor or a tag; True when the value cannot be judged for its tag."""
        if event.anchor is not None:
            self.report.error(place, path, "anchors (&name) are not taken", "remove it, and write values out")
        if event.tag is not None:
            tag = shorten(event.tag.replace("tag:yaml.org,2002:", "!!", 1))
            message = f"tags ({tag}) are not taken"
            self.report.error(place, path, message, "remove it; quotes make text of anything")
        return event.tag is not None

    def take_key(self, parent: _Open, event: Any, place: tuple[int, int]) -> tuple[str, bool]:
        """A mapping's key and whether it can stand: text, given once."""
        if isinstance(event, yaml.AliasEvent):
            self.report.error(place, parent.path, "aliases (*name) are not taken", "write the key out")
            parent.node.bad = True
            return "*", False
        if self.refuse_marks(event, place, parent.path):
            parent.node.bad = True
        if not isinstance(event, yaml.ScalarEvent):
            self.complex_key(parent, event, place)
            return "?", False
        name: str = event.value
        shown = shorten(name)
        if event.style in (None, "") and not is_text(name):
            hint = f'write "{shown}" in quotes' if name else "write a name before the colon"
            self.report.error(place, parent.path, f"a key must be text (got {shown or 'nothing'})", hint)
        elif name == "<<":
            self.report.error(place, parent.path, "merge keys (<<) are not taken", "write the keys out")
            parent.node.bad = True
        elif "${" in name:
            self.report.error(place, parent.path, "${...} is not read in keys", "write the key itself")
        elif name in parent.node.value:
            line = parent.node.value[name].named_at[0]
            path = (*parent.path, name)
            self.report.error(place, path, f"is given twice, first in line {line}", "keep one of the two")
        else:
            return name, True
        return name, False

    def complex_key(self, parent: _Open, event: Any, place: tuple[int, int]) -> None:
        hint = "write a plain name"
        if self.rest_of_line(place).startswith("{"):
            hint = "text that begins with { needs quotes; was a template not filled in?"
        self.report.error(place, parent.path, "a key must be text (got a list or a mapping)", hint)
        parent.node.bad = True
        # The collection is read to its end, as a value that belongs to nobody.
        collection = Node(*place, {} if isinstance(event, yaml.MappingStartEvent) else [], bad=True)
        self.stack.append(_Open(collection, (*parent.path, "?")))

    def rest_of_line(self, place: tuple[int, int]) -> str:
        if self.lines is None:
            self.lines = split_lines(self.text)
        line, column = place
        return self.lines[line - 1][column - 1 :] if 0 < line <= len(self.lines) else ""

    def syntax(self, exc: yaml.YAMLError) -> None:
        """One syntax error in plain words; the parser stops at the first."""
        mark = getattr(exc, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raw = str(getattr(exc, "problem", None) or "cannot be read")
        context = getattr(exc, "context_mark", None)
        if "end of stream" in raw and context is not None:
            place = (context.line + 1, context.column + 1)  # the end of the file is no help
        message, hint = _in_words(raw, self.rest_of_line((place[0], 1)), place[1] - 1)
        if context is not None and context.line + 1 < place[0]:
            message += f" (what it belongs to begins in line {context.line + 1})"
        self.report.error(place, (), message, hint)


_FIT = ("the indentation does not fit the lines above", "line the keys up, two spaces per level")
_SYNTAX = (
    # part of libyaml's or PyYAML's text, what it means, what to write
    ("mapping values", "a colon cannot stand here", "check the indentation; quote text that holds a colon"),
    ("sequence entries", "a list item cannot begin here", "give each '- item' a line of its own"),
    ("end of stream", "a quoted text is not closed", "close the quote"),
    ("unknown escape", "an escape that YAML does not know", "double the backslash, or use single quotes"),
    ("expected key", *_FIT),
    ("expected <block end>", *_FIT),
    ("'-' indicator", *_FIT),
    ("expected ':'", "a key without a colon", "write name: value"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing", "close it; quote odd text"),
    ("node content", "a value is missing", "write the value, or close the brackets"),
    ("cannot start any token", "no plain value may begin with this", "put the value in quotes"),
)


def _in_words(raw: str, line: str, column: int) -> tuple[str, str]:
    """Message and hint for the parser's text ``raw``, which points at ``line`` at ``column`` (from 0)."""
    before, rest = line[:column], line[column:]
    if "a tab" in raw or rest.startswith("\t") or (not before.strip() and "\t" in before):
        return "a tab where YAML wants spaces", "indent with spaces"
    if "expected ',' or" in raw and "${" in line:
        return "${...} needs quotes inside brackets", 'write "${NAME}"'
    for part, message, hint in _SYNTAX:
        if part in raw:
            return message, hint
    return f"is not YAML: {shorten(raw, 120)}", ""


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
