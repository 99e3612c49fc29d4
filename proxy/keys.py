"""``headgate keys new`` and ``headgate keys hash``: API keys for callers.

What must never live here: where keys are checked (``proxy/callers``); a key in a file.
"""

from __future__ import annotations

from typing import TextIO

from pydantic import ValidationError

from proxy.callers.keys import digest, new_key
from proxy.callers.settings import CallerKey

__all__ = ["hash_key", "new"]

OK, INVALID = 0, 2


def new(
    name: str, out: TextIO, err: TextIO, *, tenant: str | None, scopes: list[str], tier: str | None, expires: str | None
) -> int:
    """Make a key: the key alone on ``out``, the row for ``callers.keys`` (which holds its SHA-256) on ``err``. 2: an option
    that no row may have."""
    key = new_key()
    row: dict[str, object] = {"name": name, "sha256": digest(key)}
    row |= {k: v for k, v in (("tenant", tenant), ("scopes", scopes), ("tier", tier), ("expires", expires)) if v}
    try:
        CallerKey.model_validate(row)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            where = ".".join(map(str, problem["loc"]))
            print(f"headgate keys: {where}: {problem['msg'].removeprefix('Value error, ')}", file=err)
        return INVALID
    print(key, file=out)
    print("\nThe key above is shown this once. Put this row under callers.keys, or into the keys_file:\n", file=err)
    print("  - {" + ", ".join(f"{k}: {_flow(v)}" for k, v in row.items()) + "}", file=err)
    return OK


def hash_key(given: TextIO, out: TextIO, err: TextIO) -> int:
    """The SHA-256 of the key on standard input (a line end behind it does not count). 2: there is none."""
    key = given.readline().strip()
    if not key:
        print("headgate keys: no key on standard input", file=err)
        return INVALID
    print(digest(key), file=out)
    return OK


def _flow(value: object) -> str:
    """A value as YAML's flow style has it; what could be read as something else is quoted."""
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    return f'"{value}"'
