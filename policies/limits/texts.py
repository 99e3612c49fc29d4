"""The grammar of limits as types of options: checked when the policy file is loaded, described in its schema.

What must never live here: the grammar itself (spec.py).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from policies.limits.spec import parse_by, parse_limit

__all__ = ["By", "LimitText"]


def _limit_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("write a limit like `100 requests/minute`")
    parse_limit(value, ())
    return value


LimitText = Annotated[str, BeforeValidator(_limit_text), WithJsonSchema({"type": "string", "examples": ["100 requests/minute"]})]
By = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_by),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
