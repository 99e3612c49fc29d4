"""Durations, sizes and names as people write them in policy.yaml, and the record base that settings share.

Imports nothing of the project. Durations become seconds (float), sizes bytes (int).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

# At most 15 digits: a float holds them exactly, and no value can overflow.
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(ms|s|m|h|d)?")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 366 * 86400.0
_BYTES = {"B": 1, "kB": 1000, "KB": 1000, "KiB": 1024, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def parse_duration(value: Any) -> Any:
    """``5``, ``"5s"``, ``"250ms"``, ``"2m"``, ``"1h"``, ``"1d"`` to seconds; ValueError on anything else.

    More than 366 days is refused: timers of the event loop are not made for it, and it is a slip of the pen.
    """
    m = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if m is not None:
        seconds = float(m[1]) * _UNITS[m[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError("write a duration such as 30s, 250ms or 2m")
    if seconds > _LONGEST:
        raise ValueError("write a duration of at most 366d")
    return seconds


def parse_size(value: Any) -> Any:
    """``1048576``, ``"50MB"``, ``"64KiB"`` to bytes; ValueError on anything else."""
    if isinstance(value, bool):
        raise ValueError("write a size such as 50MB or 64KiB")
    if isinstance(value, int):
        return value
    m = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if m is None:
        raise ValueError("write a size such as 50MB or 64KiB")
    return int(float(m[1]) * _BYTES[m[2] or "B"])


def parse_name(value: str) -> str:
    """A name that may stand in metrics, header fields and log lines; ValueError on anything else."""
    if not _NAME.fullmatch(value):
        raise ValueError("write a name of letters, digits, '_', '.' and '-', at most 64 characters")
    return value


def _known_backend(value: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("backends")
    if known is not None and value not in known:
        raise PydanticCustomError("unknown_backend", "no such backend", {"known": sorted(known)})
    return value


# WithJsonSchema and not json_schema_extra: the latter would leave `type: number` beside the anyOf.
DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _LONGEST},
        {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,15})?\s*(ms|s|m|h|d)?$"},
    ]
}
SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,15})?\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)?$"},
    ]
}
Duration = Annotated[
    float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False), WithJsonSchema(DURATION_SCHEMA)
]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0), WithJsonSchema(SIZE_SCHEMA)]
Name = Annotated[str, AfterValidator(parse_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
BackendName = Annotated[str, AfterValidator(_known_backend)]
"""A key of ``backends``: checked when the validation context has ``backends``, as policy.yaml's has."""


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
