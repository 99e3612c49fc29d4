"""``headgate keys new | hash | revoke``: API keys for callers.

What must never live here: where keys are checked (``proxy/callers``); a key in a file.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TextIO

from pydantic import ValidationError

from policies.store import Store, StoreAway
from proxy.callers.identify import STORE
from proxy.callers.keys import digest, new_key
from proxy.callers.settings import CallerKey
from proxy.config import ConfigError, load
from proxy.store.opening import make

__all__ = ["hash_key", "new", "revoke"]

OK, FAILED, INVALID = 0, 1, 2
_FOR_EVER = 100 * 366 * 86_400.0  # of a key that does not expire


def new(
    name: str, out: TextIO, err: TextIO, env: Mapping[str, str], *,
    tenant: str | None, scopes: list[str], tier: str | None, expires: str | None, into: str | None,
) -> int:  # fmt: skip
    """Make a key: the key alone on ``out``, the row for ``callers.keys`` (which holds its SHA-256) on ``err``. into: a policy
    file, into whose store the row is put instead. 2: an option that no row may have, or a policy file without a shared store;
    1: the store is away."""
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
    if into is not None:
        until = CallerKey.model_validate(row).expires
        ttl = _FOR_EVER if until is None else max(until - time.time(), 1.0)
        kept = json.dumps({k: v for k, v in row.items() if k != "sha256"}).encode()
        code = _in_store(into, env, err, lambda store: store.set(digest(key), kept, ttl))
        if code == OK:
            print(key, file=out)
            print("\nThe key above is shown this once. Its row is in the store, and counts at once.", file=err)
        return code
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


def revoke(given: TextIO, err: TextIO, env: Mapping[str, str], *, policy: str) -> int:
    """Take a key out of a policy file's store; the key, or its SHA-256, is read from ``given``. Exit codes as ``new``."""
    text = given.readline().strip()
    if not text:
        print("headgate keys: no key on standard input", file=err)
        return INVALID
    hashed = text if re.fullmatch(r"[0-9a-f]{64}", text) else digest(text)
    code = _in_store(policy, env, err, lambda store: store.delete(hashed))
    if code == OK:
        print("The key is out of the store; it is refused within 5 s.", file=err)
    return code


def _in_store(policy: str, env: Mapping[str, str], err: TextIO, act: Callable[[Store], Awaitable[None]]) -> int:
    """Do something with the store of a policy file."""
    try:
        settings = load(policy, env=env).settings
    except ConfigError as error:
        print(error, file=err)
        return INVALID
    if settings.store_settings.url == "memory":
        print(f"headgate keys: the store of {policy} is memory, which dies with its process: write `store: redis://..`", file=err)
        return INVALID

    async def run() -> None:
        stores = make(settings.store_settings, 1)
        try:
            await act(await stores.open(STORE))
        finally:
            await stores.close()

    try:
        asyncio.run(run())
    except StoreAway as away:
        print(f"headgate keys: the store is away: {away.reason}", file=err)
        return FAILED
    return OK


def _flow(value: object) -> str:
    """A value as YAML's flow style has it; what could be read as something else is quoted."""
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    return f'"{value}"'
