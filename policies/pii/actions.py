"""What may stand in the place of a value: a tag, a mask, a keyed hash, or the value encrypted.

What lives here: pure functions from a value to text. What must never live here: which action a policy takes; a value in
an error.
"""

from __future__ import annotations

import base64
import hmac
from importlib import import_module
from typing import Any, Literal

from policies.pii.placeholders import tag_of

__all__ = ["Action", "Keys", "MissingExtra", "decrypt", "encrypt", "hashed", "mask", "redacted", "sealer"]

Action = Literal["redact", "mask", "hash", "encrypt", "pseudonymize", "block", "flag"]

_HASH_DIGITS = 12
_NONCE = 12


class MissingExtra(ValueError):
    """A library that an action needs is not installed; the message says which extra brings it."""


class Keys:
    """The keys of one policy, all made of the one in its options, so that no two actions share one (RFC 5869 2.3, with
    one block). secret: at least 16 characters."""

    __slots__ = ("encrypt", "hash", "nonce", "number")

    def __init__(self, secret: str) -> None:
        root = hmac.digest(b"headgate pii", secret.encode(), "sha256")
        self.hash, self.number, self.nonce, self.encrypt = (
            hmac.digest(root, name + b"\x01", "sha256") for name in (b"hash", b"number", b"nonce", b"encrypt")
        )

    def __repr__(self) -> str:
        return "<Keys>"


def redacted(label: str) -> str:
    """``[EMAIL]``."""
    return f"[{tag_of(label)}]"


def mask(value: str, keep: int = 4, sign: str = "*") -> str:
    """Letters and digits but the last ``keep`` become ``sign``; all else stays, and so does the length. At most half of
    the letters and digits is kept."""
    count = sum(c.isalnum() for c in value)
    hide = count - min(keep, count // 2)
    out: list[str] = []
    for c in value:
        if c.isalnum() and hide:
            hide -= 1
            out.append(sign)
        else:
            out.append(c)
    return "".join(out)


def _bytes(*parts: str) -> bytes:
    """Parts that cannot be taken for others: each behind its length."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(e).to_bytes(8, "big") + e for e in encoded)


def hashed(label: str, value: str, keys: Keys, *, type: str, tenant: str = "") -> str:
    """``[EMAIL:3f9a2c81d004]``: HMAC-SHA256 over tenant, type and value, its first 12 hex digits."""
    digest = hmac.digest(keys.hash, _bytes(tenant, type, value), "sha256").hex()
    return f"[{tag_of(label)}:{digest[:_HASH_DIGITS]}]"


def sealer(key: bytes) -> Any:
    """AES-256-GCM under a key. Raises MissingExtra."""
    try:
        found = import_module("cryptography.hazmat.primitives.ciphers.aead")
    except ImportError:
        raise MissingExtra("the action encrypt needs the library cryptography: install headgate[pii]") from None
    return found.AESGCM(key)


def encrypt(label: str, value: str, keys: Keys, *, type: str, tenant: str = "") -> str:
    """``[EMAIL:...]`` with nonce, ciphertext and tag in URL-safe base64.

    The nonce is made of tenant, type and value with a key of its own, so that equal values look equal (and turns of a
    conversation stay the same), and a nonce comes twice only with the same plaintext (the idea of RFC 5297). The type
    is authenticated. Raises MissingExtra.
    """
    nonce = hmac.digest(keys.nonce, _bytes(tenant, type, value), "sha256")[:_NONCE]
    sealed: bytes = sealer(keys.encrypt).encrypt(nonce, value.encode("utf-8", "surrogatepass"), _bytes(type))
    return f"[{tag_of(label)}:{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}]"


def decrypt(token: str, keys: Keys, *, type: str) -> str:
    """The value of what ``encrypt`` wrote; brackets and tag may be left out. Raises ValueError, which quotes nothing,
    when it was not made with this key and type, or was changed."""
    text = token.strip().strip("[]").rpartition(":")[2]
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise ValueError("not an encrypted value") from None
    if len(raw) < _NONCE + 16:
        raise ValueError("not an encrypted value")
    try:
        value: bytes = sealer(keys.encrypt).decrypt(raw[:_NONCE], raw[_NONCE:], _bytes(type))
    except MissingExtra:
        raise
    except Exception:
        raise ValueError("another key or type made this value, or it was changed") from None
    return value.decode("utf-8", "surrogatepass")
