"""The wire form of what Redis's scripts take and give.

What lives here: numbers as little-endian doubles, since a script's own numbers would be cut to integers; scripts by digest.
What must never live here: the client library, Lua (``scripts.py``).
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from policies.store import Part, Rate, Window

PART = struct.Struct("<5d")
HEAD = struct.Struct("<2d")
STATE = struct.Struct("<4d")
NUMBER = struct.Struct("<d")


class Script(NamedTuple):
    text: str
    sha: str


def script_of(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def ttl_ms(seconds: float) -> int:
    """Milliseconds, at most 400 days."""
    return max(1, min(int(seconds * 1000), 34_560_000_000))


def pack(part: Part, lease: int = 3) -> bytes:
    """A part as the scripts read it. lease: the kind that a Lease has there (in TAKE 3)."""
    if isinstance(part, Rate):
        return PART.pack(1, part.cost, part.limit, part.period_s, part.burst)
    if isinstance(part, Window):
        return PART.pack(2, part.cost, part.limit, part.start, part.end)
    return PART.pack(lease, 0, part.limit, part.ttl_s, 0) + part.id.encode()
