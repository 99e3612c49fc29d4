"""Reading fields of a JSON body: a value of the right type, or Refused(400) that names the field.

Here: getters, and the text of messages and content parts. Never here: what a field means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from proxy.demo.errors import Refused

Json = dict[str, Any]


def loads(raw: bytes) -> Json:
    """Parse a request body. Raises Refused(400) when it is not a JSON object."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object.")
    return body


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot carry, falls back to \\uXXXX escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def integer(body: Json, name: str, default: int, low: int, high: int) -> int:
    """A whole number in a range; null and absent give the default."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused(400, f"{name} must be a whole number from {low} to {high}.", param=name)
    return value


def limit(body: Json, *names: str, low: int = 1) -> int | None:
    """The first of several names for a length limit that is given."""
    for name in names:
        if body.get(name) is not None:
            return integer(body, name, 0, low, 10**9)
    return None


def flag(body: Json, name: str, default: bool = False) -> bool:
    """A boolean; null and absent give the default."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(400, f"{name} must be true or false.", param=name)
    return value


def string(body: Json, name: str, default: str = "") -> str:
    """A string; null and absent give the default."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Refused(400, f"{name} must be a string.", param=name)
    return value


def objects(body: Json, name: str, *, required: bool = False) -> list[Json]:
    """A list of objects; null and absent give an empty list unless it is required."""
    value = body.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused(400, f"{name} must be a list of objects.", param=name)
    if required and not value:
        raise Refused(400, f"{name} must not be empty.", param=name)
    return value


def obj(body: Json, name: str) -> Json:
    """An object; null and absent give an empty one."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, f"{name} must be an object.", param=name)
    return value


def stops(body: Json, name: str) -> tuple[str, ...]:
    """Stop strings: one, or a list of them. Empty ones never match and are dropped."""
    value = body.get(name)
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or len(found) > 64 or not all(isinstance(s, str) for s in found):
        raise Refused(400, f"{name} must be a string or a list of strings.", param=name)
    return tuple(s for s in found if s)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    return "".join(_texts(content))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                yield part["text"]
            else:
                yield from _texts(part.get("content"))


def said(messages: list[Json]) -> list[tuple[str, str]]:
    """(role, text) of each message. Raises Refused(400) for a message without a role."""
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise Refused(400, "Each message needs a role.", param="messages")
    return [(message["role"], text_of(message.get("content"))) for message in messages]


def last_user(turns: list[tuple[str, str]]) -> str:
    """The text of the last user turn, or nothing."""
    return next((text for role, text in reversed(turns) if role == "user"), "")
