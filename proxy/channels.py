"""Channels of a reply: what gates decided about each line of text.

What lives here: Line (how far a channel's text is decided, and its replacements) and Book (the lines of one stream). What
must never live here: events, JSON, wire shapes. All offsets are characters of the channel's text as the backend sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from policies.contract import Channel, Cut, Edit, Gate, JudgedGate

__all__ = ["Book", "Choice", "Guard", "Line"]

Guard = Callable[[Channel], Sequence[Gate]]
"""The gates of a channel, in the order of the policies."""


class Choice:
    """What the lines of one choice share. speaking: the one that had text last."""

    __slots__ = ("speaking",)

    def __init__(self) -> None:
        self.speaking: Line | None = None


class Line:
    """One channel's text on its way through its gate.

    gate: None where no policy cares. pushed: characters seen. cleared: characters decided; they may leave. edits: the
    replacements, in order. floor: edits before it are void, because that text is out. closed: the gate has been closed.
    pending: closing was asked for, but the gate still waits for a verdict. muted: its choice has been cut.
    """

    __slots__ = (
        "_base",
        "_context",
        "_decided",
        "_digest",
        "_first",
        "channel",
        "cleared",
        "closed",
        "edited",
        "edits",
        "floor",
        "gate",
        "muted",
        "owner",
        "pending",
        "pushed",
        "tail",
    )

    def __init__(
        self, channel: Channel, gate: Gate | None, owner: Choice | None = None, *, digest: bool = False
    ) -> None:
        self.channel = channel
        self.gate = gate
        self.owner = owner or Choice()
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
        self._context = ""  # what the gate was told of text that is out
        self._decided = 0  # how far the gate has decided
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
        upto += self._base  # as _clear
        if upto > self.pushed:
            raise ValueError("a gate decided text that it has not seen")
        self._decided = upto
        if upto > self.cleared:
            self.cleared = upto

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
        self.pending = self.cleared < self.pushed or any(judge.waits for judge in gate.judges)

    def ask(self) -> None:
        """Ask the gate again, without new text: a verdict it waited for may be there. Raises Cut."""
        if self.closed:
            self.close()
        else:
            self.push("")

    def resume(self, gate: Gate | None) -> None:
        """The channel speaks again after its end: a new gate, which is told the last undecided text, so that what began
        there can still be found. That text is out; only what follows can be replaced."""
        self.gate = gate
        self.closed = self.pending = False
        self.floor = self.cleared = self._base = self._decided = self.pushed
        self._context, self.tail = self.tail, ""
        if gate is not None and self._context:
            gate.lead(self._context)

    def remember(self, waiting: str) -> None:
        """Before a close: keep what is undecided, for ``resume``. waiting: that part of it which is not out yet."""
        self.tail = (self._context if self._decided == self._base else "") + waiting

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
        self._decided = upto
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


class Book:
    """The lines of one stream. make: the gate of a channel, or None. digest: lines must know their whole text again.

    lines: by channel. scanned: the fields that had a gate. judges: the gates that must ask somebody; whoever asks takes
    those out that are settled.
    """

    __slots__ = ("_digest", "_live", "_make", "_owners", "judges", "lines", "scanned")

    def __init__(self, make: Callable[[Channel], Gate | None], *, digest: bool) -> None:
        self.lines: dict[Channel, Line] = {}
        self.scanned: set[str] = set()
        self.judges: list[JudgedGate] = []
        self._make = make
        self._digest = digest
        self._live: dict[int, Line] = {}  # lines whose gate is open, by id
        self._owners: dict[int, Choice] = {}

    def line(self, channel: Channel) -> Line:
        """A channel's line; its gate is made when the channel shows up."""
        line = self.lines.get(channel)
        if line is None:
            line = self.lines[channel] = self.alone(channel)
        return line

    def alone(self, channel: Channel) -> Line:
        """A line for one text that stands for itself."""
        line = Line(channel, self.gate(channel), self._owners.setdefault(channel.choice, Choice()), digest=self._digest)
        self._live[id(line)] = line
        return line

    def gate(self, channel: Channel) -> Gate | None:
        """A new gate for a channel."""
        gate = self._make(channel)
        if gate is not None:
            self.scanned.add(channel.field)
            if gate.judges:
                self.judges += gate.judges
        return gate

    def open(self, line: Line) -> None:
        """A line goes on."""
        self._live[id(line)] = line

    def done(self, line: Line) -> None:
        """A line has ended and waits for nothing."""
        self._live.pop(id(line), None)
        if line.owner.speaking is line:  # they would refer to each other for as long as nobody looks for such circles
            line.owner.speaking = None

    @property
    def open_lines(self) -> bool:
        """Some line has not ended."""
        return bool(self._live)

    def live(self) -> list[Line]:
        """The lines that have not ended."""
        return list(self._live.values())

    def waiting(self) -> int:
        """Characters that wait for a decision."""
        waiting = 0
        for line in self._live.values():
            waiting += line.pushed - line.cleared
        return waiting

    def held(self) -> tuple[int, int]:
        """Characters that wait for a decision: (in tool arguments, elsewhere)."""
        arguments = other = 0
        for line in self._live.values():
            if line.channel.kind == "arguments":
                arguments += line.pushed - line.cleared
            else:
                other += line.pushed - line.cleared
        return arguments, other

    def mute(self, index: int, last: Line) -> None:
        """Nothing that is undecided in a choice may ever leave. last: the line that was cut."""
        for line in (*self.lines.values(), last):
            if line.channel.choice == index and not line.muted:
                line.mute()
                self.done(line)
                gone = line.gate.judges if line.gate is not None else ()
                self.judges[:] = [judge for judge in self.judges if judge not in gone]

    def minded(self, index: int, field: str, part: int) -> bool:
        """True when a gate minds a choice; the channel that every choice has is asked for first."""
        self.line(Channel(index, field, part))
        return any(line.gate is not None for c, line in self.lines.items() if c.choice == index)
