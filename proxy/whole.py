"""The gated tier of a whole reply: the same gates as a stream's, one push and one close for each channel.

What lives here: WholeReply. What must never live here: sockets, wire shapes.
"""

from __future__ import annotations

from policies.contract import Channel, Cut, Gate, JudgedGate
from policies.gate_chain import compose
from proxy import jsonio
from proxy.channels import Guard, Line
from proxy.dialects.choices import choice_index, filter_results
from proxy.dialects.contract import Dialect, Part, Unreadable, set_path
from proxy.lens import JsonLens

__all__ = ["OVERFLOW", "UNREADABLE", "WholeReply", "gate_whole", "make_gate"]

UNREADABLE = "unreadable"
"""The reason of a cut when a reply is not what its dialect says."""
OVERFLOW = "overflow"
"""The reason of a cut when more text was held, or a larger event came, than allowed."""

_JSON_FIELDS = frozenset(("arguments", "function_call"))


def make_gate(channel: Channel, guard: Guard) -> Gate | None:
    """The gate of a channel: its policies' gates in a row, behind a lens where the text is JSON."""
    gate = compose(guard(channel))
    return JsonLens(gate) if gate is not None and channel.field in _JSON_FIELDS else gate


def gate_whole(dialect: Dialect, body: bytes, guard: Guard) -> tuple[bytes, bool, str | None]:
    """(body, changed, reason of a cut or None), where no gate has to ask. An untouched body is the original object.

    A body that is not the dialect's is cut with the reason ``unreadable``; the error object returned for it is no
    reply of the backend's, so a relay may well answer with 502 instead.
    """
    return WholeReply(dialect, body, guard).result()


class WholeReply:
    """A whole reply on its way through the gates: every channel gets one push and one close.

    annotate: say in cut choices what was found (Azure's ``content_filter_results``). judges: the gates that have to be
    asked before ``result``.
    """

    def __init__(self, dialect: Dialect, body: bytes, guard: Guard, *, annotate: bool = False) -> None:
        self._dialect = dialect
        self._body = body
        self._annotate = annotate
        self._doc: object = None
        self._plain = False
        self._lines: list[tuple[list[Part], Line]] = []
        self._cuts: dict[int, tuple[str, str | None]] = {}
        self._unreadable = False
        if dialect.rows:
            self._read(guard)
        self.judges: list[JudgedGate] = [
            judge
            for group, line in self._lines
            if line.gate is not None and not (dialect.per_choice and group[0].channel.choice in self._cuts)
            for judge in line.gate.judges
        ]

    def result(self) -> tuple[bytes, bool, str | None]:
        """As ``gate_whole``. Raises ValueError while a gate still waits."""
        if self._unreadable:
            return _unreadable(self._dialect)
        if self._plain:
            return self._plain_result()
        dialect, cuts, doc = self._dialect, self._cuts, self._doc
        changed = self._changes()
        if not changed and not cuts:
            return self._body, False, None
        if changed:
            dialect.scrub_whole(doc, changed)
        if cuts:
            doc = dialect.cut_whole(doc, cuts)
            if self._annotate:
                annotate_choices(doc, {index: reason for index, (reason, _) in cuts.items()})
        reason = next(iter(cuts.values()))[0] if cuts else None
        return jsonio.encode(doc), True, reason

    def _read(self, guard: Guard) -> None:
        """Find the text and give it to the gates."""
        try:
            self._doc = jsonio.decode_reply(self._body)
            parts = self._dialect.parts(self._doc)
        except jsonio.JsonError:
            text = self._dialect.plain(self._body)
            self._unreadable, self._plain = text is None, text is not None
            parts = [Part(Channel(0, "text"), text or "", ())]
        except Unreadable:
            self._unreadable = True
        if self._unreadable:
            return
        for group in _groups(parts):
            channel = group[0].channel
            if channel.choice in self._cuts or (self._cuts and not self._dialect.per_choice):
                continue
            line = Line(channel, make_gate(channel, guard))
            if line.gate is None:
                continue
            try:
                line.push("".join([part.text for part in group]))
                line.close()
                self._lines.append((group, line))
            except Cut as cut:
                self._cuts[channel.choice] = (cut.reason, cut.message)

    def _changes(self) -> set[Channel]:
        """Hear the verdicts, write replacements into the document; returns the channels that changed."""
        changed: set[Channel] = set()
        for group, line in self._lines:
            channel = group[0].channel
            if not self._heard(line):
                continue
            start = 0
            for part in group if line.edits else ():
                text = line.render(part.text, start)
                start += len(part.text)
                if text != part.text:
                    set_path(self._doc, part.path, jsonio.decode(text.encode()) if part.embedded else text)
                    changed.add(channel)
        return changed

    def _heard(self, line: Line) -> bool:
        """Hear the verdict on a line; False when it is a cut."""
        index = line.channel.choice
        if self._dialect.per_choice and index in self._cuts:
            return False
        try:
            if line.pending:
                line.ask()
        except Cut as cut:
            self._cuts.setdefault(index, (cut.reason, cut.message))
            return False
        if line.pending or line.cleared < line.pushed:
            raise ValueError("a gate left text undecided at its close")
        return True

    def _plain_result(self) -> tuple[bytes, bool, str | None]:
        """A reply that is text and nothing else."""
        for group, line in self._lines:
            if self._heard(line):
                new = line.render(group[0].text, 0)
                return (self._body, False, None) if new == group[0].text else (new.encode(), True, None)
        for reason, message in self._cuts.values():
            return (message or "").encode(), True, reason
        return self._body, False, None


def annotate_choices(doc: object, cuts: dict[int, str]) -> None:
    """Azure's annotation beside the finish_reason of choices that were cut, where a reply has choices."""
    choices = doc.get("choices") if isinstance(doc, dict) else None
    for n, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict) and (reason := cuts.get(choice_index(choice, n))) is not None:
            choice["content_filter_results"] = filter_results(reason)


def _groups(parts: list[Part]) -> list[list[Part]]:
    """Parts of one channel, in order of the channel's first; a part that stands for itself is alone."""
    groups: list[list[Part]] = []
    known: dict[Channel, list[Part]] = {}
    for part in parts:
        if part.mode == "whole":
            groups.append([part])
        elif part.channel in known:
            known[part.channel].append(part)
        else:
            known[part.channel] = [part]
            groups.append(known[part.channel])
    # Whom a call is for is known before its arguments are judged, as in a stream; the Responses API writes it behind them.
    return sorted(groups, key=lambda group: group[0].channel.field != "name")


def _unreadable(dialect: Dialect) -> tuple[bytes, bool, str | None]:
    message = "The backend's reply could not be read."
    if dialect.shape == "anthropic":
        doc: dict[str, object] = {"type": "error", "error": {"type": "api_error", "message": message}}
    else:
        doc = {"error": {"message": message, "type": "api_error", "param": None, "code": "bad_gateway"}}
    return jsonio.encode(doc), True, UNREADABLE
