"""Several gates in a row: each sees what the one before it lets out, and offsets are mapped back to the source text.

What lives here: Chain, which is itself a gate. What must never live here: events, JSON, wire shapes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from policies.contract import Cut, Edit, Gate

__all__ = ["Chain", "compose"]


class _Piece:
    """Text between two gates. start, end: where it stands in the source. fixed: decided text in front, once part of it
    was replaced. text from ``at`` on: still to be decided by the next gate. plain: text is the source's own."""

    __slots__ = ("at", "end", "fixed", "plain", "start", "text")

    def __init__(self, start: int, end: int, text: str, plain: bool) -> None:
        self.start = start
        self.end = end
        self.text = text
        self.plain = plain
        self.fixed = ""
        self.at = 0


class _Stage:
    """One gate of a chain, with the pieces it has been given and not decided."""

    __slots__ = ("closed", "gate", "head", "pieces")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.closed = False
        self.head = 0  # the offset, in this gate's text, of the first undecided character
        self.pieces: deque[_Piece] = deque()

    def run(self, pieces: list[_Piece], close: bool) -> tuple[list[_Piece], Cut | None]:
        """Push pieces; return the decided ones."""
        text = "".join([p.text for p in pieces])
        stop: Cut | None = None
        upto = self.head
        try:
            if text or not (close or self.closed):
                upto = self.gate.push(text)
            if close and (not self.closed or self.gate.judges):  # a verdict may have come since
                self.closed = True
                upto = self.gate.close()
        except Cut as cut:
            stop = cut
            upto = max(upto, self.head if cut.at is None else cut.at)
        return self.settle(pieces, upto), stop

    def settle(self, pieces: list[_Piece], upto: int) -> list[_Piece]:
        """The gate has seen these pieces, too, and decided up to an offset: the decided ones."""
        self.pieces.extend(pieces)
        edits, self.gate.edits = self.gate.edits, []
        out: list[_Piece] = []
        for edit in edits:
            self._pass(edit.start, out)
            self._replace(edit, out)
        self._pass(upto, out)
        return out

    def _pass(self, upto: int, out: list[_Piece]) -> None:
        """Move decided text out as it is; of a replacement only when all of it is decided."""
        pieces = self.pieces
        while pieces:
            piece = pieces[0]
            left = len(piece.text) - piece.at
            take = min(left, upto - self.head)
            if take <= 0 and left:
                return
            self.head += take
            if piece.plain:
                text = piece.text[piece.at : piece.at + take]
                out.append(_Piece(piece.start, piece.start + take, text, True))
                piece.start += take
            else:
                piece.fixed += piece.text[piece.at : piece.at + take]
            piece.at += take
            if piece.at == len(piece.text):
                pieces.popleft()
                if not piece.plain:
                    out.append(_Piece(piece.start, piece.end, piece.fixed, False))

    def _replace(self, edit: Edit, out: list[_Piece]) -> None:
        """One edit: every piece it touches becomes one replacement."""
        start: int | None = None
        end = 0
        front = ""
        while self.pieces and self.head < edit.end:
            piece = self.pieces[0]
            take = min(len(piece.text) - piece.at, edit.end - self.head)
            self.head += take
            start = piece.start if start is None else start
            front += piece.fixed
            piece.fixed = ""
            if piece.plain:
                piece.start += take
                end = piece.start
            else:
                end = piece.end
            piece.at += take
            if piece.at < len(piece.text):
                if not piece.plain:  # the edit ends inside a replacement: the rest of it is still to be decided
                    piece.start, piece.fixed = start, front + edit.text
                    return
                break
            self.pieces.popleft()
        if start is not None:
            out.append(_Piece(start, end, front + edit.text, False))


class Chain(Gate):
    """Gates in a row: each sees what the one before it lets out. Edits come back as edits of the source text."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        super().__init__()
        self._stages = [_Stage(gate) for gate in gates]
        self._pushed = 0
        self._cleared = 0
        self.reach = sum(gate.reach for gate in gates)
        self.judges = tuple(judge for gate in gates for judge in gate.judges)

    def lead(self, text: str) -> None:
        for stage in self._stages:
            stage.gate.lead(text)

    def push(self, text: str) -> int:
        start = self._pushed
        self._pushed = end = start + len(text)
        # Nothing held and nothing to replace, as nearly always: the text goes from gate to gate as it is.
        for n, stage in enumerate(self._stages):
            if stage.pieces:
                return self._run([_Piece(start, end, text, True)] if text else [], n, close=False)
            try:
                upto = stage.gate.push(text)
            except Cut as cut:
                at = stage.head if cut.at is None else max(stage.head, cut.at)
                pieces = stage.settle([_Piece(start, end, text, True)] if text else [], at)
                return self._run(pieces, n + 1, close=False, stop=cut)
            if stage.gate.edits or upto != stage.head + len(text):
                pieces = stage.settle([_Piece(start, end, text, True)] if text else [], upto)
                return self._run(pieces, n + 1, close=False)
            stage.head = upto
        self._cleared = end
        return end

    def close(self) -> int:
        return self._run([], 0, close=True)

    def _run(self, pieces: list[_Piece], first: int, *, close: bool, stop: Cut | None = None) -> int:
        """Give pieces to the stages from ``first`` on."""
        for stage in self._stages[first:]:
            # after a cut the later gates judge what may still leave, as the end of the text
            pieces, cut = stage.run(pieces, close or stop is not None)
            stop = cut or stop
            close = close and not stage.pieces  # more will come when the verdict is there
        for piece in pieces:
            self._cleared = piece.end
            if not piece.plain and piece.end > piece.start:
                self.edits.append(Edit(piece.start, piece.end, piece.text))
        if stop is not None:
            raise Cut(stop.reason, stop.message, self._cleared)
        return self._cleared


def compose(gates: Sequence[Gate]) -> Gate | None:
    """One gate for a channel's gates, in order; None for none."""
    if not gates:
        return None
    return gates[0] if len(gates) == 1 else Chain(gates)
