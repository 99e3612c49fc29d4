"""The tree that policy.yaml is read into: values that know where they stand.

Plain data, no reading and no judging. Imports nothing of the project but the words of reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.config_report import Path, shorten, without_credentials


@dataclass(slots=True)
class Node:
    """One value. value: a dict or list of nodes, or a str, int, float, bool or None.

    line, column: where it begins, from 1; 0 when it is in no file. key: where its key stands, for a value of
    a mapping. text: the scalar as written. secret: the expression, when the value came from the environment
    or a file; such a value is never shown. bad: a problem has been reported, nothing else need be said about
    it. origin: the command line option that gave it.
    """

    line: int
    column: int
    value: Any
    text: str = ""
    key: tuple[int, int] | None = None
    secret: str = ""
    bad: bool = False
    origin: str = ""

    @property
    def place(self) -> tuple[int, int]:
        return self.line, self.column

    @property
    def named_at(self) -> tuple[int, int]:
        """Where a reader looks for it: its key, or its beginning."""
        return self.key or self.place

    def plain(self) -> Any:
        """The value as plain Python: dict, list, str, int, float, bool, None."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The value of a key or index, or None."""
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(part)
            return found
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            item: Node = self.value[part]
            return item
        return None

    def at(self, path: Path) -> Node | None:
        """The node at a path below this one, or None."""
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node

    def shown(self, sensitive: bool = False) -> str:
        """The scalar for a message: quoted text, a secret's expression, or what it is."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        if self.secret:
            return self.secret
        if sensitive:
            return "a value that is not shown"
        if isinstance(self.value, str):
            return f"'{shorten(without_credentials(self.value))}'"
        return shorten(self.text) if self.text else "nothing"
