"""A pattern as a tree: the nodes, and how long its matches are.

What lives here: plain data. What must never live here: syntax, matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from policies.detect.charset import CharSet

__all__ = ["Alt", "Cat", "Chars", "Look", "Node", "PatternError", "Rep", "Zero", "width"]


class PatternError(ValueError):
    """A pattern that cannot be used. The message says why, and holds nothing of the pattern but its syntax."""


class Zero(IntFlag):
    """What an edge between two characters may ask of them. ``before`` and ``after`` are the neighbours."""

    BEGIN = 1  # \A, ^: nothing before
    LINE_BEGIN = 2  # (?m)^
    END = 4  # \z, $: nothing after, ever
    LINE_END = 8  # (?m)$
    EDGE = 16  # \b, ASCII as in RE2
    NO_EDGE = 32  # \B
    NO_WORD_BEFORE = 64  # whole_word: any script
    NO_WORD_AFTER = 128
    NO_WORD_OR_ESCAPE = 256  # NO_WORD_BEFORE, and behind an escape such as the n of \n


@dataclass(slots=True, frozen=True)
class Chars:
    """One character out of a set."""

    chars: CharSet


@dataclass(slots=True, frozen=True)
class Look:
    """No character, but a condition."""

    need: Zero


@dataclass(slots=True, frozen=True)
class Cat:
    """One after the other; none of them is the empty text."""

    parts: tuple[Node, ...]


@dataclass(slots=True, frozen=True)
class Alt:
    """Any one of them."""

    parts: tuple[Node, ...]


@dataclass(slots=True, frozen=True)
class Rep:
    """``part`` from ``low`` to ``high`` times; None: no upper bound."""

    part: Node
    low: int
    high: int | None


Node = Chars | Look | Cat | Alt | Rep


def width(node: Node) -> tuple[int, int | None]:
    """Least and greatest number of characters of a match; None: no greatest."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Look):
        return 0, 0
    if isinstance(node, Rep):
        low, high = width(node.part)
        return low * node.low, None if high is None or (node.high is None and high) else high * (node.high or 0)
    parts = [width(p) for p in node.parts]
    if isinstance(node, Alt):
        highs = [h for _, h in parts]
        return min(low for low, _ in parts), None if None in highs else max(h or 0 for h in highs)
    return sum(low for low, _ in parts), (
        None if any(h is None for _, h in parts) else sum(h or 0 for _, h in parts)
    )
