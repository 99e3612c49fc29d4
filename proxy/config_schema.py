"""The JSON Schema of policy.yaml, for editors: the settings, and each policy's options where ``use`` names it.

What lives here: turning pydantic's schema of the records into that of the file. What must never live here: rules
of its own; what the records do not say, the schema does not say. It is never stricter than the loader (a value may
be ``${NAME}`` anywhere), and looser where a rule spans several keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from policies.contract import Policy
from policies.entry import PolicyEntry
from proxy import config_yaml
from proxy.config_report import Report
from proxy.settings import Settings

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ANNOTATIONS = ("title", "description", "default", "examples", "deprecated")
_OUTSIDE = "FromOutside"
_OUTSIDE_SCHEMA: Schema = {
    "title": "From outside",
    "description": "`${NAME}`, `${NAME:-default}` from the environment, or `file:/path`.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}|^file:/[^/]",
}


def build(known: Mapping[str, Callable[[], type[Policy]]]) -> Schema:
    """The schema as plain data. known: the policies that ``use`` may name; each is loaded."""
    root = _schema_of(Settings)
    defs: Schema = root.pop("$defs")
    entry = defs["PolicyEntry"]
    common: Schema = entry["properties"]
    names = sorted(known)
    branches = []
    for name in names:
        cls = known[name]()
        own = _schema_of(cls.Options)
        defs.update(_renamed(own.pop("$defs", {}), name))
        defs[f"policy.{name}"] = _policy(name, cls, _redirected(own, name), common)
        branches.append(
            {
                "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
                "then": {"$ref": f"#/$defs/policy.{name}"},
            }
        )
    defs["PolicyEntry"] = {
        "title": "Policy",
        "description": entry.get("description", ""),
        "type": "object",
        "required": ["use"],
        "properties": {**common, "use": {**common["use"], "enum": names}},
        "allOf": branches,
    }
    for schema in (root, *defs.values()):
        _let_outside_in(schema, defs)
    defs[_OUTSIDE] = _OUTSIDE_SCHEMA
    title = {"$schema": DRAFT, "title": "headgate policy.yaml", "description": "The one file of headgate."}
    result: Schema = _plain_descriptions({**title, **{k: v for k, v in root.items() if k not in title}})
    result["$defs"] = _plain_descriptions(dict(sorted(defs.items())))
    return result


def text(known: Mapping[str, Callable[[], type[Policy]]]) -> str:
    """The schema as it is shipped: JSON, indented by two, one line break at the end."""
    return json.dumps(build(known), indent=2, ensure_ascii=False) + "\n"


def example(cls: type[Policy]) -> Any:
    """A policy's EXAMPLE as plain data; ValueError when it is not good YAML."""
    if not cls.EXAMPLE:
        return {}
    report = Report(f"{cls.__name__}.EXAMPLE")
    node = config_yaml.parse(cls.EXAMPLE, report)
    if node is None or report.problems:
        raise ValueError("; ".join(str(p) for p in report.problems))
    return node.plain()


def _schema_of(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(mode="validation", ref_template="#/$defs/{model}")


def _policy(name: str, cls: type[Policy], own: Schema, common: Schema) -> Schema:
    properties: Schema = own.get("properties", {})
    taken = sorted(set(properties) & set(PolicyEntry.model_fields))
    if taken:
        raise ValueError(f"{cls.__name__}: every policy has the keys {', '.join(taken)}; name the options otherwise")
    words = [(cls.__doc__ or "").strip(), own.get("description", "")]
    return {
        "title": name,
        "description": "\n\n".join(w for w in words if w),
        "type": "object",
        "required": ["use", *own.get("required", ())],
        "properties": {**common, "use": {**common["use"], "const": name}, **properties},
        "additionalProperties": False,
        "examples": [{"use": name, **example(cls)}],
    }


def _renamed(defs: Schema, prefix: str) -> Schema:
    """Definitions of one policy under names that no other policy has."""
    return {f"{prefix}.{name}": _redirected(schema, prefix) for name, schema in defs.items()}


def _redirected(schema: Any, prefix: str) -> Any:
    if isinstance(schema, dict):
        return {
            k: v.replace("#/$defs/", f"#/$defs/{prefix}.") if k == "$ref" else _redirected(v, prefix)
            for k, v in schema.items()
        }
    return [_redirected(v, prefix) for v in schema] if isinstance(schema, list) else schema


def _let_outside_in(schema: Schema, defs: Schema) -> None:
    """Let every value that takes less than any text be an expression, too; in place."""
    for name, value in schema.get("properties", {}).items():
        if name != "use":
            schema["properties"][name] = _with_outside(value, defs)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = _with_outside(schema[key], defs)
    if "patternProperties" in schema:  # pydantic says so of keys with a pattern, and leaves other keys free
        schema.setdefault("additionalProperties", False)
        named: Schema = schema["patternProperties"]
        schema["patternProperties"] = {k: _with_outside(v, defs) for k, v in named.items()}
    for branch in schema.get("anyOf", ()):
        _let_outside_in(branch, defs)


def _with_outside(schema: Schema, defs: Schema) -> Schema:
    _let_outside_in(schema, defs)
    core = {k: v for k, v in schema.items() if k not in _ANNOTATIONS}
    if not _is_scalar(core, defs) or _takes_any_text(core):
        return schema
    outside = {"$ref": f"#/$defs/{_OUTSIDE}"}
    alternatives = [*core["anyOf"], outside] if list(core) == ["anyOf"] else [core, outside]
    return {**{k: v for k, v in schema.items() if k in _ANNOTATIONS}, "anyOf": alternatives}


def _is_scalar(core: Schema, defs: Schema) -> bool:
    """True when some alternative is a number, a truth value, or a text of limited form."""
    if "$ref" in core:
        target = defs.get(core["$ref"].removeprefix("#/$defs/"), {})
        return "properties" not in target and _is_scalar(target, defs)
    if "anyOf" in core:
        return any(_is_scalar(branch, defs) for branch in core["anyOf"])
    return "enum" in core or "const" in core or core.get("type") in ("string", "integer", "number", "boolean")


def _takes_any_text(core: Schema) -> bool:
    limits = ("enum", "const", "pattern", "maxLength", "format")
    if core.get("type") == "string":
        return not any(key in core for key in limits)
    return any(_takes_any_text(branch) for branch in core.get("anyOf", ()))


def _plain_descriptions(schema: Any) -> Any:
    """Docstrings as editors show them: Markdown code marks, no line breaks within a paragraph."""
    if isinstance(schema, dict):
        return {
            k: plain_words(v) if k == "description" and isinstance(v, str) else _plain_descriptions(v)
            for k, v in schema.items()
        }
    return [_plain_descriptions(v) for v in schema] if isinstance(schema, list) else schema


def plain_words(text: str) -> str:
    """A docstring as Markdown: single code marks, one line to a paragraph."""
    paragraphs = text.strip().replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)
