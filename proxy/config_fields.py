"""Which keys a settings record takes at a place of the file: for near names, examples and schema descriptions.

Pure look-ups in pydantic's public field information; reads no values.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config_report import Path, is_sensitive


def alternatives(annotation: Any) -> list[Any]:
    """The types that a value may have: unions taken apart, annotations taken off."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [found for arg in get_args(annotation) for found in alternatives(arg)]
    return [annotation]


def models_at(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    """The records that may stand at a path below ``model``; none where a plain value stands."""
    current: list[Any] = [model]
    for part in path:
        current = [found for kind in current for found in _step(kind, part)]
    return [kind for kind in current if _is_model(kind)]


def fields_at(model: type[BaseModel], path: Path) -> dict[str, FieldInfo]:
    """The keys that may stand in the mapping at ``path``."""
    found: dict[str, FieldInfo] = {}
    for kind in models_at(model, path):
        for name, info in kind.model_fields.items():
            found.setdefault(info.alias or name, info)
    return found


def field_of(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """The field that the last part of a path names, or None (a list's item, a free key)."""
    if not path or not isinstance(path[-1], str):
        return None
    return fields_at(model, path[:-1]).get(path[-1])


def is_private(model: type[BaseModel], path: Path) -> bool:
    """True for values that are not to be shown: a sensitive key, or a field declared with ``repr=False``."""
    if is_sensitive(path):
        return True
    fields = (field_of(model, path[: i + 1]) for i in range(len(path)))
    return any(info is not None and not info.repr for info in fields)


def home_of(model: type[BaseModel], name: str) -> str | None:
    """The one place inside ``model``, below its top, where a key of this name stands: ``backends.<name>``."""
    found = [where for where, fields in _places(model, "") if where and name in fields]
    return found[0] if len(found) == 1 else None


def _places(model: type[BaseModel], where: str) -> Iterator[tuple[str, set[str]]]:
    yield where, {info.alias or name for name, info in model.model_fields.items()}
    for name, info in model.model_fields.items():
        for inner, suffix in records_in(info.annotation):
            yield from _places(inner, (f"{where}.{name}" if where else name) + suffix)


def records_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Records that a field holds, with what its path gets: nothing, ``[]`` in a list, ``.<name>`` in a mapping."""
    for kind in alternatives(annotation):
        if _is_model(kind):
            yield kind, ""
            continue
        origin, args = get_origin(kind), get_args(kind)
        if isinstance(origin, type) and args:
            last, suffix = (args[-1], ".<name>") if issubclass(origin, Mapping) else (args[0], "[]")
            for inner, rest in records_in(last):
                yield inner, suffix + rest


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _step(kind: Any, part: str | int) -> list[Any]:
    if _is_model(kind):
        for name, info in kind.model_fields.items():
            if (info.alias or name) == part:
                return alternatives(info.annotation)
        return []
    origin, args = get_origin(kind), get_args(kind)
    if not isinstance(origin, type) or not args:
        return []
    if issubclass(origin, Mapping):
        return alternatives(args[1]) if isinstance(part, str) and len(args) == 2 else []
    if issubclass(origin, tuple) and isinstance(part, int) and Ellipsis not in args:
        return alternatives(args[part]) if part < len(args) else []
    return alternatives(args[0]) if isinstance(part, int) else []
