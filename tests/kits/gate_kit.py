"""Reference gates with exact hold-back, and the trials that every gate must pass.

``Redactor`` is slow and obvious: its output is the truth that streams are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from policies.contract import Cut, Edit, Gate

MARK = "[X]"


class PassAll(Gate):
    """Decides everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def push(self, text: str) -> int:
        self.size += len(text)
        return self.size

    def close(self) -> int:
        return self.size


class HoldAll(PassAll):
    """Decides nothing before its close, as a judge of whole texts does."""

    reach = 1 << 30

    def push(self, text: str) -> int:
        self.size += len(text)
        return 0


class Redactor(Gate):
    """Replaces literal phrases, leftmost-longest. It holds exactly the longest tail that may still become a match."""

    def __init__(self, phrases: Sequence[str], mark: str = MARK) -> None:
        super().__init__()
        self.phrases = sorted(phrases, key=len, reverse=True)
        self.mark = mark
        self.text = ""
        self.done = 0
        self.base = 0
        self.reach = max(map(len, phrases))

    def lead(self, text: str) -> None:
        self.text = text
        self.base = len(text)
        self._scan(ended=False)

    def push(self, text: str) -> int:
        self.text += text
        return self._scan(ended=False)

    def close(self) -> int:
        return self._scan(ended=True)

    def _scan(self, *, ended: bool) -> int:
        while self.done < len(self.text):
            rest = self.text[self.done : self.done + self.reach]
            full = next((p for p in self.phrases if rest.startswith(p)), None)
            longer = [p for p in self.phrases if len(p) > len(full or "") and p.startswith(rest) and p != full]
            if longer and not ended:
                break
            if full is None:
                self.done += 1
            else:
                if self.done + len(full) > self.base:
                    self.found(max(self.done - self.base, 0), self.done + len(full) - self.base)
                self.done += len(full)
        return max(self.done - self.base, 0)

    def found(self, start: int, end: int) -> None:
        self.edits.append(Edit(start, end, self.mark))


class Cutter(Redactor):
    """Cuts the reply at a literal phrase; what stands before it may leave."""

    def found(self, start: int, end: int) -> None:
        raise Cut("banned", "Stopped.", at=start)


def redact(text: str, phrases: Sequence[str], mark: str = MARK) -> str:
    """What a Redactor makes of a whole text."""
    out, at = [], 0
    ordered = sorted(phrases, key=len, reverse=True)
    while at < len(text):
        full = next((p for p in ordered if text.startswith(p, at)), None)
        out.append(mark if full else text[at])
        at += len(full or "x")
    return "".join(out)


def drive(gate: Gate, pieces: Sequence[str]) -> tuple[str, str | None]:
    """(what comes out of a gate, reason of a cut). Checks the gate's promises on the way: offsets grow and stay inside
    what was pushed, edits are decided text in order, no more than ``reach`` is held."""
    text, out, at = "", "", 0

    def take(upto: int) -> None:
        nonlocal out, at
        assert at <= upto <= len(text)
        for edit in gate.edits:
            assert at <= edit.start < edit.end <= upto
            out += text[at : edit.start] + edit.text
            at = edit.end
        gate.edits = []
        out += text[at:upto]
        at = upto

    try:
        for piece in pieces:
            text += piece
            take(gate.push(piece))
            assert len(text) - at <= gate.reach
        take(gate.close())
        assert at == len(text)
    except Cut as cut:
        take(at if cut.at is None else cut.at)
        return out, cut.reason
    return out, None


def check_gate(make: Callable[[], Gate], text: str, cuts: Sequence[int]) -> None:
    """The split law for one gate: the pieces between ``cuts`` give what the whole text gives."""
    whole = drive(make(), [text])
    edges = sorted({0, len(text), *(c for c in cuts if c <= len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert drive(make(), pieces) == whole
