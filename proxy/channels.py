"""Channels of a reply: what gates decided about each line of text, and several gates in a row.

What lives here: Line (how far a channel's text is decided, and its replacements) and Chain (gate after gate, with
offsets mapped back). What must never live here: events, JSON, wire shapes. All offsets are characters of the channel's
text as the backend sent it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b

from policies.contract import Channel, Cut, Edit, Gate

__all__ = ["Chain", "Line", "compose"]

Guard = Callable[[Channel], Sequence[Gate]]


class Line:
    """One channel's text on its way through its gate.

    gate: None where no policy cares. pushed: characters seen. cleared: characters decided; they may leave. edits: the
    replacements, in order. floor: edits before it are void, because that text is out. closed: the gate has been closed.
    pending: closing was asked for, but the gate still waits for a verdict. muted: its choice has been cut.
    """

    __slots__ = (
        "_base", "_digest", "_first", "channel", "cleared", "closed", "edited", "edits", "floor", "gate", "muted", "owner",
        "pending", "pushed", "tail",
    )  # fmt: skip

    def __init__(self, channel: Channel, gate: Gate | None, *, digest: bool = False) -> None:
        self.channel = channel
        self.gate = gate
        self.owner: object = None
        self.pushed = 0
        self.cleared = 0
        self.edits: list[Edit] = []
        self.floor = 0
        self.closed = False
        self.pending = False
        self.muted = False
        self.edited = False
        self.tail = ""  # text that was undecided when the gate closed
        self._base = 0  # the offset of the gate's first character
        self._first = 0  # the first edit that can still touch text to come
        self._digest = blake2b(digest_size=16) if digest else None

    def push(self, text: str) -> None:
        """Give the gate more text. Raises Cut, with ``cleared`` and ``edits`` up to date."""
        self.pushed += len(text)
        if self._digest is not None:
            self._digest.update(text.encode("utf-8", "surrogatepass"))
        gate = self.gate
        if gate is None:
            self.cleared = self.pushed
            return
        try:
            upto = gate.push(text)
        except Cut as cut:
            self._stopped(gate, cut)
            raise
        if gate.edits:
            self._take(gate)
        self._clear(upto)

    def close(self) -> None:
        """The channel ends. A gate that waits for a verdict may leave text undecided: ask again later."""
        gate = self.gate
        self.closed = True
        if gate is None:
            self.cleared = self.pushed
            return
        try:
            upto = gate.close()
        except Cut as cut:
            self._stopped(gate, cut)
            raise
        if gate.edits:
            self._take(gate)
        self._clear(upto)
        self.pending = self.cleared < self.pushed

    def ask(self) -> None:
        """Ask the gate again, without new text: a verdict it waited for may be there. Raises Cut."""
        if self.closed:
            self.close()
        else:
            self.push("")

    def resume(self, gate: Gate | None) -> None:
        """The channel speaks again after its end: a new gate, which sees the last undecided text once more, so that what
        began there can still be found. That text is out; only what follows can be replaced."""
        self.gate = gate
        self.closed = self.pending = False
        self.floor = self.cleared = self.pushed
        self._base = self.pushed - len(self.tail)
        tail, self.tail = self.tail, ""
        if gate is not None and tail:
            gate.push(tail)
            if gate.edits:
                self._take(gate)

    def release(self) -> None:
        """Let go of everything that is held, decided or not."""
        self.cleared = self.floor = self.pushed

    def mute(self) -> None:
        """Nothing beyond what is decided may ever leave."""
        self.edits.append(Edit(self.cleared, 1 << 62, ""))
        self.edited = self.closed = self.muted = True
        self.cleared = 1 << 62
        self.pending = False

    def same(self, text: str) -> bool:
        """True when ``text`` is exactly what was pushed so far (lines with a digest)."""
        if self._digest is None:
            return False
        return self._digest.digest() == blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def render(self, text: str, start: int, *, keep: bool = False) -> str:
        """``text``, which stands at ``start``, with the edits done. A replacement appears where its edit starts. keep: a
        later event holds the same text again, so the edits stay."""
        edits = self.edits
        if not keep:
            while self._first < len(edits) and edits[self._first].end <= start:
                self._first += 1
            if self._first == len(edits):
                if edits:
                    self._first = 0
                    edits.clear()
                return text
        if not edits:
            return text
        end = start + len(text)
        at = 0 if keep and start == 0 else self._first if not keep else self._find(start)
        out: list[str] = []
        here = start
        while at < len(edits) and edits[at].start < end:
            edit = edits[at]
            if edit.end > start:
                if edit.start >= start:
                    out.append(text[here - start : edit.start - start])
                    out.append(edit.text)
                here = min(edit.end, end)
            at += 1
        out.append(text[here - start :])
        return "".join(out)

    def _find(self, start: int) -> int:
        low, high = 0, len(self.edits)
        while low < high:
            mid = (low + high) // 2
            if self.edits[mid].end <= start:
                low = mid + 1
            else:
                high = mid
        return low

    def _clear(self, upto: int) -> None:
        upto += self._base
        if upto > self.pushed:
            raise ValueError("a gate decided text that it has not seen")
        if upto > self.cleared:
            self.cleared = upto

    def _take(self, gate: Gate) -> None:
        last = self.edits[-1].end if self.edits else 0
        for start, end, text in gate.edits:
            start, end = start + self._base, end + self._base
            if end <= start or end > self.pushed:
                raise ValueError("an edit covers at least one character, and none to come")
            if end <= self.floor:
                continue
            start = max(start, self.floor)
            if start < self.cleared or start < last:
                raise ValueError("an edit of text that was decided before")
            self.edits.append(Edit(start, end, text))
            self.edited = True
            last = end
        gate.edits = []

    def _stopped(self, gate: Gate, cut: Cut) -> None:
        if gate.edits:
            self._take(gate)
        if cut.at is not None:
            self.cleared = max(self.cleared, min(cut.at + self._base, self.pushed))


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

    __slots__ = ("gate", "head", "pieces")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.head = 0  # the offset, in this gate's text, of the first undecided character
        self.pieces: deque[_Piece] = deque()

    def run(self, pieces: list[_Piece], close: bool) -> tuple[list[_Piece], Cut | None]:
        """Push pieces; return the decided ones."""
        text = "".join([p.text for p in pieces])
        stop: Cut | None = None
        upto = self.head
        try:
            if text or not close:
                upto = self.gate.push(text)
            if close:
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
