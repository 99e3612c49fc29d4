"""docs/policy-reference.md: every key of policy.yaml, written from the records' own declarations.

What lives here: Markdown tables. What must never live here: facts about a key; those stand in its docstring.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from policies.contract import PHASES, Policy
from policies.entry import PolicyEntry
from policies.units import DURATION_SCHEMA, SIZE_SCHEMA
from proxy.config_fields import records_in
from proxy.config_schema import plain_words
from proxy.settings import Settings

_HEAD = """\
# Reference of policy.yaml

<!-- Written by `headgate docs` from the source; edit the docstrings there, not this file. -->

How the file is read, and where secrets come from: [configuration.md](configuration.md).
Durations are numbers of seconds or texts such as `250ms`, `30s`, `2m`, `1h`, `1d`; sizes are numbers of bytes or
texts such as `64KiB`, `50MB`. Keys without a default must be given. Any value may be `${NAME}` or
`${NAME:-default}` from the environment, or `file:/path`.
"""
_POLICIES = """\
## Policies

`policies` is a list, run in its order. Each entry names its kind with `use`, may have the common keys, and has
the options of its kind beside them.
"""


def markdown(known: Mapping[str, Callable[[], type[Policy]]]) -> str:
    """The whole page. known: the policies to describe."""
    parts = [_HEAD, "## Settings\n", *_record(Settings, "", skip=("policies",))]
    parts += [_POLICIES, "### Common keys\n", *_record(PolicyEntry, "")]
    for name in sorted(known):
        parts += _policy(name, known[name]())
    return "\n".join(parts).rstrip("\n") + "\n"


def _policy(name: str, cls: type[Policy]) -> Iterator[str]:
    phases = [f"`{p}`" for p in PHASES if getattr(cls, p) is not getattr(Policy, p)]
    yield f"### `{name}`\n"
    yield plain_words(cls.__doc__ or "") + "\n"
    if phases:
        yield f"Takes part in: {', '.join(phases)}.\n"
    if cls.EXAMPLE:
        example = "\n".join(f"    {line}".rstrip() for line in cls.EXAMPLE.strip("\n").splitlines())
        yield f"```yaml\npolicies:\n  - use: {name}\n{example}\n```\n"
    yield from _record(cls.Options, "")


def _record(model: type[BaseModel], where: str, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """A table of the record's keys, then those of the records inside it. where: the paths that lead here."""
    words = _own_words(model)
    if where:
        yield "#### " + ", ".join(f"`{one}`" for one in where.split(", ")) + "\n"
    if words and (where or model.__name__.endswith("Options")):
        yield words + "\n"
    fields = {k: v for k, v in model.model_fields.items() if k not in skip}
    if not fields:
        yield "No options.\n"
        return
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    schemas = model.model_json_schema(mode="validation").get("properties", {})
    for name, info in fields.items():
        kind = _kind(info.annotation, schemas.get(info.alias or name, {}))
        cells = (f"`{info.alias or name}`", kind, _default(info, schemas.get(name, {})), _meaning(info))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    inside: dict[type[BaseModel], list[str]] = {}
    for name, info in fields.items():
        for inner, suffix in records_in(info.annotation):
            paths = [f"{one}.{name}{suffix}" for one in where.split(", ")] if where else [name + suffix]
            inside.setdefault(inner, []).extend(paths)
    for inner, paths in inside.items():
        yield from _record(inner, ", ".join(paths))


def _own_words(model: type[BaseModel]) -> str:
    return plain_words(model.__doc__ or "") if "__doc__" in vars(model) else ""


def _kind(annotation: Any, schema: dict[str, Any]) -> str:
    """A value's type in words, from its JSON schema; records by their place in this page."""
    words = _words(schema)
    return words or ("a mapping, below" if any(records_in(annotation)) else "any value")


def _words(schema: dict[str, Any]) -> str:
    for unit, known in (("duration", DURATION_SCHEMA), ("size", SIZE_SCHEMA)):
        if known["anyOf"][1] in schema.get("anyOf", ()):  # its text form; it may stand among other types
            return unit
    if "$ref" in schema:
        return "a mapping, below"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(w for part in schema[key] if (w := _words(part)) and w != "none"))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        inner = _words(schema.get("items", {}))
        return f"list of {_plural(inner)}" if inner else "list"
    if kind == "object":
        named = list(schema.get("patternProperties", {}).values())
        values: Any = schema.get("additionalProperties") or (named[0] if named else {})
        inner = _words(values) if isinstance(values, dict) else ""
        return f"mapping of names to {_plural(inner)}" if inner else "mapping"
    plain = {"string": "text", "boolean": "`true`, `false`", "null": "none"}
    return _bounded(schema) if kind in ("integer", "number") else plain.get(str(kind), "")


def _plural(words: str) -> str:
    known = {"a mapping, below": "mappings, below", "text": "texts", "whole number": "whole numbers"}
    return known.get(words, words)


def _bounded(schema: dict[str, Any]) -> str:
    word = "whole number" if schema["type"] == "integer" else "number"
    bounds = [
        f"{text} {schema[key]:g}"
        for key, text in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return word + (", " + ", ".join(bounds) if bounds else "")


def _default(info: FieldInfo, schema: dict[str, Any]) -> str:
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "as below"
    if value in (None, "") or value in ([], {}, (), frozenset()):
        return "none"
    words = _words(schema)
    if words == "duration":
        return f"`{_duration(value)}`"
    if words == "size":
        return f"`{_size(value)}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value, default=str)}`"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


def _size(count: int) -> str:
    for unit, factor in (("MiB", 2**20), ("MB", 10**6), ("KiB", 1024), ("kB", 1000)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def _meaning(info: FieldInfo) -> str:
    words = " ".join(plain_words(info.description or "").split())
    if info.examples:
        words += f" Example: `{json.dumps(info.examples[0], ensure_ascii=False)}`."
    return words.strip()
