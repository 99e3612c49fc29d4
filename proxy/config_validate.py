"""The tree against the records: Settings, and each policy's own options by the class that its ``use`` names.

What lives here: validation, all of it even when the first part fails. What must never live here: reading files or
YAML. Values are not coerced: 3 is no text, "3" no number. Only what came from the environment or a file, where all
is text, may become the number or the truth value that its key takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policies.contract import Policy, PolicyOptions
from policies.entry import PolicyEntry
from proxy.config_errors import Explainer
from proxy.config_fields import field_of, is_private
from proxy.config_node import Node
from proxy.config_report import MAX_PROBLEMS, Path, Report, is_sensitive, suggest
from proxy.config_scalars import resolve
from proxy.settings import Settings

ENTRY_KEYS = tuple(PolicyEntry.model_fields)
IN_CLEAR = "a secret stands in the file in clear"
IN_CLEAR_HINT = "write ${NAME} or file:/path"
_FROM_TEXT = frozenset(("int_type", "float_type", "bool_type"))
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy of the file, valid. entry: its common keys, ``name`` filled in. options: its own, validated.

    line: where it begins. shown: its options as they may be shown to people (secrets as expressions, keys in
    clear as ``***``).
    """

    entry: PolicyEntry
    cls: type[Policy]
    options: PolicyOptions = field(repr=False)
    line: int
    shown: Mapping[str, Any]


def validate(
    root: Node, known: Mapping[str, Callable[[], type[Policy]]], secrets: Sequence[str], report: Report
) -> tuple[Settings | None, list[PolicySpec]]:
    """Check the whole tree. Settings are None when they do not hold; every problem goes to ``report``."""
    listed = root.child("policies")
    entries: list[Node] = listed.value if listed is not None and isinstance(listed.value, list) else []
    for i, entry in enumerate(entries):
        _policy_as_key(entry, ("policies", i), known, report)
    settings = record(Settings, _without_options(root, entries), report, secrets)
    backends = root.child("backends")
    context: dict[str, Any] = {}
    if backends is not None and isinstance(backends.value, dict) and not backends.bad:
        context["backends"] = list(backends.value)
    _unique_names(entries, report)
    specs: list[PolicySpec] = []
    for i, entry in enumerate(entries):
        found = _options(entry, ("policies", i), known, context, secrets, report)
        if found is not None and settings is not None:
            common = settings.policies[i]
            common = common.model_copy(update={"name": common.name or common.use})
            specs.append(PolicySpec(common, found[0], found[1], entry.line, found[2]))
    if settings is not None and len(specs) == len(entries):
        settings = settings.model_copy(update={"policies": [spec.entry for spec in specs]})
    return settings, specs


def _without_options(root: Node, entries: list[Node]) -> Node:
    """The tree as Settings sees it: policies with their common keys alone."""
    if not entries or not isinstance(root.value, dict):
        return root
    cut = [_part(e, lambda key: key in ENTRY_KEYS) if isinstance(e.value, dict) else e for e in entries]
    old = root.value["policies"]
    listed = Node(old.line, old.column, cut, key=old.key, bad=old.bad)
    return Node(root.line, root.column, {**root.value, "policies": listed}, bad=root.bad)


def _part(node: Node, wanted: Callable[[str], bool]) -> Node:
    value = {k: v for k, v in node.value.items() if wanted(k)}
    return Node(node.line, node.column, value, key=node.key, bad=node.bad)


def _options(
    entry: Node,
    path: Path,
    known: Mapping[str, Callable[[], type[Policy]]],
    context: dict[str, Any],
    secrets: Sequence[str],
    report: Report,
) -> tuple[type[Policy], PolicyOptions, Mapping[str, Any]] | None:
    """The class that ``use`` names and the options it takes; None (reported) when there are none."""
    use = entry.child("use")
    if entry.bad or not isinstance(entry.value, dict):
        return None
    if use is None or use.bad or not isinstance(use.value, str):
        return None
    if use.secret:
        report.error(use.place, (*path, "use"), "takes no ${...}", "write the policy's name")
        return None
    cls = _load_class(use, path, known, report)
    if cls is None:
        return None
    own = _part(entry, lambda key: key not in ENTRY_KEYS)
    options = record(cls.Options, own, report, secrets, base=path, also=ENTRY_KEYS, context=context)
    if options is None:
        return None
    _clear_secrets(own, path, (), cls.Options, report)
    return cls, options, _shown(own, (), cls.Options)


def _policy_as_key(entry: Node, path: Path, known: Mapping[str, Any], report: Report) -> None:
    """``- headers: {...}`` is a likely slip: say how it is written, instead of what is missing."""
    named: dict[str, Node] = {}
    if isinstance(entry.value, dict) and "use" not in entry.value:
        named = {key: child for key, child in entry.value.items() if key in known}
    elif isinstance(entry.value, str) and entry.value in known and not entry.secret:
        named = {entry.value: entry}
    for key, child in named.items() if not entry.bad else ():
        report.error(child.named_at, path, f"a policy is named by `use` (got '{key}')", f"write `- use: {key}`")
        entry.bad = True


def _load_class(
    use: Node, path: Path, known: Mapping[str, Callable[[], type[Policy]]], report: Report
) -> type[Policy] | None:
    name: str = use.value
    if name not in known:
        message = f"there is no policy of this name (got {use.shown()})"
        report.error(use.place, (*path, "use"), message, suggest(name, known, "there are"))
        return None
    try:
        return known[name]()
    except Exception as exc:  # a policy of someone else's may fail in any way when it is imported
        what = f"cannot be loaded: {type(exc).__name__}"
        if isinstance(exc, ImportError) and exc.name:
            what = f"needs the Python package {exc.name}, which is not installed"
        report.error(use.place, (*path, "use"), what, "install what it needs, or remove the policy")
        return None


def _unique_names(entries: list[Node], report: Report) -> None:
    first: dict[str, Node] = {}
    for i, entry in enumerate(entries):
        named = entry.child("name") or entry.child("use")
        if named is None or not isinstance(named.value, str) or not named.value:
            continue
        if named.value in first:
            line = first[named.value].line
            message = f"the name {named.shown()} is taken by the policy in line {line}"
            report.error(named.place, ("policies", i, "name"), message, "give this one a `name` of its own")
        else:
            first[named.value] = entry


def record(
    model: type[_Model],
    node: Node,
    report: Report,
    secrets: Sequence[str],
    *,
    base: Path = (),
    also: Sequence[str] = (),
    context: dict[str, Any] | None = None,
) -> _Model | None:
    """The validated record, or None (reported)."""
    try:
        try:
            return _strictly(model, node, context)
        except ValidationError as exc:
            if not _numbers_from_text(node, _errors(exc)):
                raise
        return _strictly(model, node, context)
    except ValidationError as exc:
        explainer = Explainer(report, node, model, base, also, secrets)
        errors = _errors(exc)
        explainer.explain(errors[:MAX_PROBLEMS])
        report.more += max(0, len(errors) - MAX_PROBLEMS)
    except Exception as exc:  # a validator of a policy's own that raises what pydantic does not expect
        message = f"its own check of the options failed ({type(exc).__name__})"
        report.error(node.named_at, base, message, "this is a fault of the policy; try other options")
    return None


def _strictly(model: type[_Model], node: Node, context: dict[str, Any] | None) -> _Model:
    # Through JSON: only there strict mode still takes lists for tuples and sets, and text for enums.
    return model.model_validate_json(json.dumps(node.plain(), allow_nan=False), strict=True, context=context)


def _errors(exc: ValidationError) -> list[ErrorDetails]:
    return exc.errors(include_url=False, include_input=False)


def _numbers_from_text(node: Node, errors: list[ErrorDetails]) -> bool:
    """Let values from outside be the number or truth value that was asked for; True when one changed."""
    changed = False
    for error in errors:
        if error["type"] not in _FROM_TEXT:
            continue
        found: Node | None = node
        for part in error["loc"]:
            child = found.child(part) if found is not None else None
            found = child if child is not None else found  # other parts name members of a union
        if found is None or not found.secret or not isinstance(found.value, str):
            continue
        try:
            value = resolve(found.value.strip())
        except ValueError:
            continue
        if isinstance(value, int | float):
            found.value, changed = value, True
    return changed


def _clear_secrets(node: Node, base: Path, path: Path, model: type[BaseModel], report: Report) -> None:
    """Warn of options that are declared private, are named like a secret, and stand in the file itself."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _clear_secrets(child, base, (*path, key), model, report)
    elif isinstance(node.value, list):
        for i, child in enumerate(node.value):
            _clear_secrets(child, base, (*path, i), model, report)
    elif isinstance(node.value, str) and node.value and not node.secret and not node.value.startswith("{"):
        private = any(not info.repr for i in range(len(path)) if (info := field_of(model, path[: i + 1])))
        if private and is_sensitive(path):
            report.warn(node.place, base + path, IN_CLEAR, IN_CLEAR_HINT)


def _shown(node: Node, path: Path, model: type[BaseModel]) -> Any:
    """Plain values for people's eyes."""
    if isinstance(node.value, dict):
        return {k: _shown(v, (*path, k), model) for k, v in node.value.items()}
    if isinstance(node.value, list):
        return [_shown(v, (*path, i), model) for i, v in enumerate(node.value)]
    if node.secret:
        return node.secret
    return "***" if isinstance(node.value, str) and is_private(model, path) else node.value
