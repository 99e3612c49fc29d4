"""JSON values for simple JSON Schemas: the arguments of tool calls and structured output.

Covers type, enum, const, properties, items, prefixItems, $ref inside the document, anyOf, oneOf, allOf,
number ranges, string lengths and common formats.
`pattern`, `not`, `if` are ignored: the demo does not solve them.
Never here: any network look-up of a $ref.
"""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any, Final

from proxy.demo import words
from proxy.demo.errors import Refused

_DEPTH: Final = 6
"""From here on only what a schema requires is written, so that recursive schemas end."""
_MAX_DEPTH: Final = 40
_MAX_NODES: Final = 5000
_MAX_LENGTH: Final = 1_000_000
_FORMATS: Final = {
    "date": "2024-05-01",
    "time": "12:30:00Z",
    "date-time": "2024-05-01T12:30:00Z",
    "email": "demo@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


class Maker:
    """Makes values for one schema document. `spoken` replaces every free string."""

    def __init__(self, root: Any, pick: Random, spoken: str | None) -> None:
        self._root = root
        self._pick = pick
        self._spoken = spoken
        self._nodes = 0
        self._length = 0

    def make(self, schema: Any, depth: int = 0) -> Any:
        """A value for `schema`. Raises Refused(400) when the schema is too large or too deep."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise Refused(400, "The JSON schema is too large for the demo backend.")
        if not isinstance(schema, dict):
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._pick.choice(schema["enum"])
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number" as kind:
                return self._number(schema, kind)
            case "boolean":
                return True
            case _:
                return None

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        for _ in range(16):
            if isinstance(ref := schema.get("$ref"), str):
                schema = self._lookup(ref) | {k: v for k, v in schema.items() if k != "$ref"}
            elif options := [o for key in ("anyOf", "oneOf") for o in _dicts(schema.get(key))]:
                rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
                schema = rest | next((o for o in options if o.get("type") != "null"), options[0])
            elif parts := _dicts(schema.get("allOf")):
                merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for part in parts:
                    part = self._lookup(part["$ref"]) if isinstance(part.get("$ref"), str) else part
                    merged = _merged(merged, part)
                schema = merged
            else:
                return schema
        raise Refused(400, "The JSON schema refers to itself without end.")

    def _lookup(self, ref: str) -> dict[str, Any]:
        node = self._root
        for name in ref.lstrip("#").strip("/").split("/") if ref not in ("#", "#/") else ():
            name = name.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, dict) else None
        if not ref.startswith("#") or not isinstance(node, dict):
            raise Refused(400, "A $ref in the JSON schema leads nowhere.")
        return node

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        wanted = set(map(str, required)) if isinstance(required, list) else set()
        return {
            name: self.make(part, depth + 1) for name, part in properties.items() if depth < _DEPTH or name in wanted
        }

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        fixed = _dicts(schema.get("prefixItems"))
        if fixed:
            return [self.make(part, depth + 1) for part in fixed]
        low = _int(schema.get("minItems"), 0)
        high = _int(schema.get("maxItems"), max(low, 2))
        count = min(max(low, min(high, 2 if depth < _DEPTH else 0)), 1000)
        return [self.make(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def _string(self, schema: dict[str, Any]) -> str:
        known = _FORMATS.get(str(schema.get("format")))
        text = known or (self._spoken if self._spoken is not None else words.phrase(self._pick))
        low = min(_int(schema.get("minLength"), 0), 100_000)
        if len(text) < low:
            text += "x" * (low - len(text))
        self._length += len(text)
        if self._length > _MAX_LENGTH:
            raise Refused(400, "The JSON schema asks for too much text.")
        return text[: _int(schema["maxLength"], len(text))] if "maxLength" in schema else text

    def _number(self, schema: dict[str, Any], kind: str) -> int | float:
        low, high = _bound(schema, "minimum", 1), _bound(schema, "maximum", -1)
        if low is None:
            low = 1.0 if high is None or high >= 1 else high - 8
        if high is None:
            high = low + 8
        step = _real(schema.get("multipleOf"))
        if step and step > 0:
            value = math.ceil(low / step) * step
            return int(value) if value == int(value) else value
        if kind == "integer":
            first, last = math.ceil(low), math.floor(high)
            return self._pick.randint(first, max(first, last))
        return round(low + (high - low) / 2, 6)


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    merged = left | right
    for key in ("properties", "required"):
        one, two = left.get(key), right.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            merged[key] = one | two
        elif isinstance(one, list) and isinstance(two, list):
            merged[key] = one + two
    return merged


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _int(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return float(value)


def _bound(schema: dict[str, Any], name: str, sign: int) -> float | None:
    plain = _real(schema.get(name))
    if plain is not None:
        return plain
    open_end = _real(schema.get("exclusive" + name.capitalize()))
    return None if open_end is None else open_end + sign


def write(value: Any, escape: bool) -> str:
    """JSON text of a value; `escape` writes all but ASCII letters and digits in strings as \\uXXXX."""
    if not escape:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_escaped(k)}: {write(v, True)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(write(v, True) for v in value) + "]"
    return _escaped(value) if isinstance(value, str) else json.dumps(value)


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    return '"' + "".join(chr(c) if c < 128 and chr(c).isalnum() else f"\\u{c:04x}" for c in codes) + '"'
