"""The slow reference: leftmost-longest matches by trying every way through a pattern's tree at every place.

It shares the reader with the engine and nothing else. Exponential in the worst case; for short texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from policies.detect.rules import Match
from policies.detect.syntax import parse
from policies.detect.tree import Alt, Cat, Chars, Look, Node, Rep, Zero


@dataclass
class Slow:
    pattern: str
    ignore_case: bool = False
    validate: Callable[[str], bool] | None = None


def slow_matches(rules: Sequence[Slow], text: str) -> list[Match]:
    trees = [parse(r.pattern, ignore_case=r.ignore_case) for r in rules]
    found: list[Match] = []
    at = 0
    while at < len(text):
        best: tuple[int, int] | None = None
        for number, (rule, tree) in enumerate(zip(rules, trees, strict=True)):
            for end in ends(tree, text, at):
                if end == at or (rule.validate and not rule.validate(text[at:end])):
                    continue
                if best is None or end > best[0]:
                    best = (end, number)
        if best is None:
            at += 1
        else:
            found.append(Match(best[1], at, best[0]))
            at = best[0]
    return found


def ends(node: Node, text: str, at: int) -> set[int]:
    """Where a match of the tree that begins at a place may end."""
    if isinstance(node, Chars):
        return {at + 1} if at < len(text) and node.chars.has(ord(text[at])) else set()
    if isinstance(node, Look):
        return {at} if holds(node.need, text, at) else set()
    if isinstance(node, Alt):
        return {e for part in node.parts for e in ends(part, text, at)}
    if isinstance(node, Cat):
        reached = {at}
        for part in node.parts:
            reached = {e for r in reached for e in ends(part, text, r)}
        return reached
    return _repeats(node, text, at)


def _repeats(node: Rep, text: str, at: int) -> set[int]:
    reached = {at}
    for _ in range(node.low):
        reached = {e for r in reached for e in ends(node.part, text, r)}
    out, times = set(reached), node.low
    while reached and (node.high is None or times < node.high):
        reached = {e for r in reached for e in ends(node.part, text, r)} - out
        out |= reached
        times += 1
    return out


def holds(need: Zero, text: str, at: int) -> bool:
    before, after = text[at - 1 : at], text[at : at + 1]

    def word(c: str) -> bool:
        return c.isascii() and (c.isalnum() or c == "_")

    return {
        Zero.BEGIN: before == "",
        Zero.LINE_BEGIN: before in ("", "\n"),
        Zero.END: after == "",
        Zero.LINE_END: after in ("", "\n"),
        Zero.EDGE: word(before) != word(after),
        Zero.NO_EDGE: word(before) == word(after),
    }[need]
