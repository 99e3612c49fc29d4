"""Driving a gate over a text that is cut into chunks, checking its contract at every push."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from policies.contract import Edit, Gate
from policies.detect.rules import RuleSet

MARK = "[X]"


def pieces(text: str, cuts: Iterable[int]) -> list[str]:
    """The text cut at these offsets; the same offset twice makes an empty chunk."""
    out, last = [], 0
    for cut in sorted(cuts):
        out.append(text[last:cut])
        last = cut
    return [*out, text[last:]]


def random_pieces(text: str, rng: random.Random, longest: int = 12) -> list[str]:
    out, at = [], 0
    while at < len(text):
        size = rng.randint(1, longest)
        out.append(text[at : at + size])
        at += size
    return out


def applied(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """The text with edits done, which come in order."""
    out, at = "", 0
    for start, end, new in edits:
        out += text[at:start] + new
        at = end
    return out + text[at:]


def drive(gate: Gate, chunks: Sequence[str]) -> tuple[str, list[int]]:
    """The text that left, and how much was held after each push. Asserts that offsets never go back, and that
    nothing is edited that had left before."""
    text, out, clear, taken, held = "", "", 0, 0, []

    def take(new: int) -> None:
        nonlocal out, clear, taken
        assert clear <= new <= len(text)
        for edit in gate.edits:
            assert isinstance(edit, Edit)
            assert taken <= edit.start < edit.end <= new, "an edit of what had left, or of what is not decided"
            out += text[taken : edit.start] + edit.text
            taken = edit.end
        gate.edits.clear()
        out += text[taken:new]
        taken = clear = new

    for chunk in chunks:
        text += chunk
        take(gate.push(chunk))
        held.append(len(text) - clear)
    take(gate.close())
    assert clear == len(text)
    return out, held


def streamed(rules: RuleSet, chunks: Sequence[str], mark: str = MARK) -> tuple[str, list[int]]:
    return drive(rules.gate(lambda hit: mark.replace("X", str(hit.rule))), chunks)


def redacted(rules: RuleSet, text: str, mark: str = MARK) -> str:
    """Whole-text redaction, from the list of matches."""
    out, at = "", 0
    for match in rules.whole(text):
        out += text[at : match.start] + mark.replace("X", str(match.rule))
        at = match.end
    return out + text[at:]
