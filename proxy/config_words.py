"""The words for pydantic's errors: what a value must be, and what to write instead.

Pure tables and text; knows error types and nodes, nothing of reports. Nothing of pydantic's own wording is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from proxy.config_node import Node
from proxy.config_report import Path, shorten

_MAPPING = "a mapping (name: value)"
_NUMBER = "a whole number"
PHRASES = {
    # pydantic's error type: what the value must be
    "string_type": "text",
    "int_type": _NUMBER,
    "int_parsing": _NUMBER,
    "int_from_float": _NUMBER,
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} long (it holds {actual_length})",
    "too_long": "at most {max_length} long (it holds {actual_length})",
    "none_required": "empty",
}
TYPES = frozenset(k for k in PHRASES if k.endswith("_type"))
LITERALS = frozenset(("literal_error", "enum"))
_YES, _NO = ("yes", "on", "y"), ("no", "off", "n")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")


def phrase(kind: str, details: Mapping[str, Any]) -> str:
    """What a value must be, with its bounds; whole floats are written without their fraction."""
    if kind in ("string_too_short", "too_short") and details.get("min_length") == 1:
        return "not empty"
    numbers = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in details.items()}
    return PHRASES[kind].format(**numbers)


def instance(path: Path, info: FieldInfo | None) -> str:
    """A hint from the field's own example."""
    if info is None or not info.examples:
        return ""
    return f"write for instance {path[-1]}: {flow(info.examples[0])}"


def options(details: Mapping[str, Any]) -> list[str]:
    """The texts that may stand there."""
    return [found.replace("\\'", "'") for found in _QUOTED.findall(str(details.get("expected", "")))]


def choices(details: Mapping[str, Any]) -> str:
    """What may stand there, as a list in words."""
    texts = options(details)
    if not texts:
        return str(details.get("expected", "something else"))
    listed = ", ".join(f"'{o}'" for o in texts)
    return listed if len(texts) == 1 else f"one of {listed}"


def cure(kind: str, node: Node, sensitive: bool) -> str:
    """What to write instead of a value of the wrong type."""
    value, wanted = node.value, PHRASES[kind]
    if wanted == _MAPPING or isinstance(value, dict) or node.secret:
        return ""
    if wanted == "a list":
        return (
            "" if isinstance(value, list) else ("write it in [ ]" if sensitive else f"write [{shorten(flow(value))}]")
        )
    if isinstance(value, list):
        return ""
    if wanted == "text":
        return "put it in quotes" if sensitive else f'put it in quotes: "{node.text}"'
    if wanted == "true or false" and isinstance(value, str) and value.lower() in (*_YES, *_NO):
        return f"write {'true' if value.lower() in _YES else 'false'}"
    if wanted in (_NUMBER, "a number") and isinstance(value, str):
        digits = value.replace("_", "").replace(",", "")
        return f"write {int(digits)}, without quotes" if re.fullmatch(r"[0-9]{1,18}", digits) else ""
    if wanted == _NUMBER and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    return ""


def flow(value: Any) -> str:
    """A value as YAML on one line, for hints."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./:*-]*", value):
        return f'"{value}"'
    return "null" if value is None else str(value)


def own_words(text: str) -> str:
    """pydantic's wording of a rare error, without its own terms."""
    text = text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub(r"^Input should be", "must be", text)
