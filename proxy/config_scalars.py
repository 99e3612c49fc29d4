"""Bytes to text, and plain scalars to values: YAML 1.2 (core schema) without its surprises.

What lives here: pure functions on text. ``off``, ``no``, ``yes`` and ``on`` are text, only ``true`` and
``false`` are booleans, numbers are decimal. A number that readers of YAML 1.1 and 1.2 take differently is a
problem with its cure, never a guess; what is text in 1.2 (``12:30:45``) stays text.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.config_report import Report, shorten

MAX_BYTES = 5_000_000
MAX_DIGITS = 18
"""Whole numbers fit in 64 bits; no setting needs more."""

# YAML 1.2.2 section 10.3.2, core schema.
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BASED = re.compile(r"[-+]?0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")

# The line breaks that only YAML 1.1 has (NEL, LS, PS), byte order marks, and what YAML 1.2.2 section 5.1
# excludes. Nobody sees them on a screen: a policy file must not hold them raw; an escape in quotes is seen.
_UNSEEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BREAK = re.compile(r"\r\n|\r|\n")


def decode(data: bytes, report: Report) -> str | None:
    """UTF-8 bytes to text, without a byte order mark; None when that is not possible (reported)."""
    if len(data) > MAX_BYTES:
        report.error((0, 0), (), f"is larger than {MAX_BYTES // 1_000_000} MB", "shorten it")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = exc.object[: exc.start]  # without the byte order mark
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        report.error((before.count(b"\n") + 1, column), (), "is not UTF-8", "save the file as UTF-8")
        return None
    unseen = _UNSEEN.search(text)
    if unseen is None:
        return text
    lines = split_lines(text[: unseen.start()])
    code = ord(unseen[0])
    written = f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
    report.error(
        (len(lines), len(lines[-1]) + 1),
        (),
        f"has an invisible character, U+{code:04X}",
        f'remove it, or write it as "{written}"',
    )
    return None


def split_lines(text: str) -> list[str]:
    """Lines as YAML 1.2 counts them: CR, LF or both end one."""
    return _BREAK.split(text)


def resolve(text: str) -> Any:
    """A plain scalar's value. ValueError(message, hint) where readers would differ or the value is no use."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "+-.0123456789":
        return text
    if _FLOAT.fullmatch(text):
        return _number(text)
    if _INFINITE.fullmatch(text):
        raise ValueError("infinity and NaN are no use here", "write a number, or quote it for text")
    if _BASED.fullmatch(text) and len(text) <= MAX_DIGITS:
        raise ValueError("numbers are written in decimals", f'write {int(text, 0)}, or "{text}" for text')
    return text


def _number(text: str) -> int | float:
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text.lstrip("+"))
    whole = _INT.fullmatch(text) is not None
    if whole and len(digits) > 1 and digits[0] == "0":
        raise ValueError(
            "begins with 0, which some readers take for octal",
            f'write {sign}{shorten(digits.lstrip("0")) or "0"}, or "{shorten(text)}" for text',
        )
    if len(digits) > (MAX_DIGITS if whole else 64):
        raise ValueError("is too long a number", "put it in quotes if it is text")
    if whole:
        return int(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("is too large a number", "put it in quotes if it is text")
    return number


def is_text(text: str) -> bool:
    """True when a plain scalar is read as text."""
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False
