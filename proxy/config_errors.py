"""pydantic's errors as problems of policy.yaml, in plain words: what is wrong, what was found, what to write.

What lives here: the table of messages and the way from pydantic's location to the line and column. What must
never live here: reading or deciding. Nothing of pydantic's own (class names, links, inputs) shows, and no value
that came from outside the file or stands under a sensitive key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from proxy.config_fields import field_of, fields_at, home_of, is_private
from proxy.config_node import Node
from proxy.config_report import Path, Report, nearest, suggest
from proxy.config_words import LITERALS, PHRASES, TYPES, choices, cure, instance, options, own_words, phrase


@dataclass(slots=True)
class _Found:
    """One error on its way. path: the place in the file. union: where pydantic tried alternatives; branch: which.

    on_key: the key is wrong, not the value.
    """

    kind: str
    path: Path
    text: str
    details: Mapping[str, Any]
    union: Path | None = None
    branch: str = ""
    on_key: bool = False


@dataclass(slots=True)
class Explainer:
    """Turns the errors of one validation into problems.

    root: the tree that was validated, whose paths begin with ``base``. model: the record it was validated
    against. also: further keys that may stand at the top, for near names. secrets: texts that must not show.
    """

    report: Report
    root: Node
    model: type[BaseModel]
    base: Path = ()
    also: Sequence[str] = ()
    secrets: Sequence[str] = ()

    def explain(self, errors: Iterable[ErrorDetails]) -> None:
        """Report every error, unless a problem has been reported at its place already."""
        found = [self._locate(error) for error in errors]
        groups: dict[tuple[Path, str], list[_Found]] = {}
        for one in _without_lost_branches(found):
            if not self._said_already(one.path):
                what = "key" if one.on_key or one.kind == "extra_forbidden" else "value"
                groups.setdefault((one.path, what), []).append(one)
        for group in groups.values():
            self._tell(group)

    def _locate(self, error: ErrorDetails) -> _Found:
        """pydantic's location names union members, too; what is no key of the tree is one of those."""
        parts, kind = error["loc"], error["type"]
        found = _Found(kind, (), error["msg"], error.get("ctx", {}))
        node: Node | None = self.root
        for i, part in enumerate(parts):
            child = node.child(part) if node is not None else None
            last = i == len(parts) - 1
            if child is not None or (last and kind == "missing"):
                node = child
                found.path = (*found.path, part)
            elif part == "[key]":
                found.on_key = True
            elif found.union is None:
                found.union, found.branch = found.path, str(part)
        return found

    def _said_already(self, path: Path) -> bool:
        node: Node | None = self.root
        for part in path:
            if node is None or node.bad:
                break
            node = node.child(part)
        return node is not None and node.bad

    def _tell(self, group: list[_Found]) -> None:
        first = group[0]
        if first.kind == "missing":
            self._missing(first)
        elif first.kind == "extra_forbidden":
            self._unknown_key(first)
        elif first.on_key:
            self._wrong_key(group)
        else:
            self._wrong_value(group)

    def _missing(self, error: _Found) -> None:
        mapping = self.root.at(error.path[:-1]) or self.root
        info = field_of(self.model, error.path)
        self._error(mapping, mapping.named_at, error.path, "is missing", instance(error.path, info))

    def _unknown_key(self, error: _Found) -> None:
        node = self.root.at(error.path) or self.root
        parent, name = error.path[:-1], str(error.path[-1])
        known = [*fields_at(self.model, parent), *(self.also if not parent else ())]
        hint = suggest(name, known, "the keys here are")
        home = home_of(self.model, name)
        if home is not None:
            hint = f"it belongs under {home}"
        elif nearest(name, known) is None and not parent and name in _WRAPPERS and self.also:
            hint = f"write the options beside `use`, without `{name}`"
        self._error(node, node.named_at, error.path, "is not a known key", hint)

    def _wrong_key(self, group: list[_Found]) -> None:
        path = group[0].path
        node = self.root.at(path) or self.root
        key = Node(*node.named_at, str(path[-1]), text=str(path[-1]))
        message, hint = self._words(group, key, sensitive=False)
        self._error(node, node.named_at, path, f"as a key: {message}", hint)

    def _wrong_value(self, group: list[_Found]) -> None:
        path = group[0].path
        node = self.root.at(path) or self.root
        info = field_of(self.model, path)
        sensitive = is_private(self.model, path)
        if node.value is None and not node.secret:
            self._error(node, node.named_at, path, "is empty", "write a value, or remove the key")
            return
        message, hint = self._words(group, node, sensitive)
        if not hint and not node.secret and not sensitive and message.startswith("must"):
            hint = instance(path, info)
        if isinstance(node.value, dict | list) and not _only_types(group):
            self._error(node, node.named_at, path, message, hint)
        else:
            self._error(node, node.place, path, f"{message} (got {node.shown(sensitive)})", hint)

    def _words(self, group: list[_Found], node: Node, sensitive: bool) -> tuple[str, str]:
        """Message and hint for what is wrong with one value; several errors are the alternatives of a union."""
        phrases: list[str] = []
        sentences: list[str] = []
        hint = ""
        for error in group:
            if error.kind in LITERALS:
                phrases.append(choices(error.details))
                if isinstance(node.value, str) and node.value == error.details.get("expected"):
                    hint = f"write {node.value}, without quotes"
                near = nearest(str(node.value), options(error.details)) if not (node.secret or sensitive) else None
                hint = hint or (f"did you mean '{near}'?" if near else "")
            elif error.kind in PHRASES:
                phrases.append(phrase(error.kind, error.details))
                hint = hint or cure(error.kind, node, sensitive)
            elif isinstance(error.details.get("known"), list):
                sentences.append(error.text)
                if not (node.secret or sensitive):
                    hint = hint or suggest(str(node.value), error.details["known"], "known")
            else:
                sentences.append(self._own_words(error))
        phrases = list(dict.fromkeys(phrases))
        if not sentences:
            return ("must be " + " or ".join(phrases)).replace("must be not", "must not be"), hint
        return ", or ".join([*dict.fromkeys(sentences), *phrases]), hint

    def _own_words(self, error: _Found) -> str:
        """A validator's own message; a general one when it repeats a piece of a secret."""
        cause = error.details.get("error")
        text = str(cause) if isinstance(cause, Exception) and str(cause) else own_words(error.text)
        for secret in self.secrets:
            secret = re.sub(r"^\w+://", "", secret)  # a scheme gives nothing away, and messages name some
            if len(secret) < 4:
                pieces = [secret] if len(secret) > 1 else []
            else:
                pieces = [secret[i : i + 4] for i in range(min(len(secret) - 3, 4096))]
            if any(piece in text for piece in pieces):
                return "has a value that cannot be used here"
        return text

    def _error(self, node: Node, place: tuple[int, int], path: Path, message: str, hint: str) -> None:
        if node.origin:
            self.report.error((0, 0), (), message, hint, file=node.origin)
        else:
            self.report.error(place, self.base + path, message, hint)


_WRAPPERS = frozenset(("options", "config", "settings", "params", "parameters", "with", "args"))


def _without_lost_branches(found: list[_Found]) -> list[_Found]:
    """Of each union, the errors worth telling.

    An alternative whose own members are wrong was meant, not those of another type; of several such the one with
    the fewest errors. Where no alternative fits, all are told, as one.
    """
    unions: dict[Path, dict[str, list[_Found]]] = {}
    for one in found:
        if one.union is not None:
            unions.setdefault(one.union, {}).setdefault(one.branch, []).append(one)
    kept = [one for one in found if one.union is None]
    for point, branches in unions.items():
        inside = [errors for errors in branches.values() if any(e.path != point for e in errors)]
        chosen = [min(inside, key=len)] if inside else list(branches.values())
        errors = [e for branch in chosen for e in branch]
        right_type = [e for e in errors if e.kind not in TYPES]
        kept.extend(right_type if any(e.kind not in LITERALS for e in right_type) else errors)
    return kept


def _only_types(group: list[_Found]) -> bool:
    return all(error.kind in TYPES or error.kind in LITERALS for error in group)
