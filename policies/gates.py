"""The reply's side of the contract: channels of text, the gates on them, and Cut.

What lives here: Channel, Edit, Gate, JudgedGate, Cut. What must never live here: sockets, clocks, anything else of the
project. ``policies/contract.py`` hands these words on.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["LENGTH", "Channel", "ChannelKind", "Cut", "Edit", "Gate", "JudgedGate"]

LENGTH = "rate_limit_exceeded"
"""The reason of a Cut that has nothing against the text: there is no room for more of it. The dialect then ends a stream as it
ends one that has reached its ``max_tokens``, and shows no message."""


class Cut(Exception):
    """Raised by a gate: the reply ends here, in the way its dialect ends a filtered reply.

    reason: a rule's name. message: public text; like ``reason`` it holds no matched text. at: the offset
    (characters since the gate's first push) up to which the text may still leave; None: what was decided before.
    """

    def __init__(self, reason: str, message: str | None = None, at: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.at = at


ChannelKind = Literal["content", "reasoning", "refusal", "arguments"]

_KINDS: dict[str, ChannelKind] = {
    "reasoning": "reasoning", "reasoning_content": "reasoning", "reasoning_details": "reasoning",
    "summary": "reasoning", "thinking": "reasoning", "refusal": "refusal", "arguments": "arguments",
    "function_call": "arguments", "input": "arguments", "name": "arguments",
}  # fmt: skip


class Channel(NamedTuple):
    """One line of reply text.

    choice: index of the choice, output item or block. field: the wire's name of the text: content, reasoning,
    reasoning_content, refusal, arguments, text, ... (docs/coverage.md has them all). tool: the tool call's or
    content part's index within the choice, or -1.
    """

    choice: int
    field: str
    tool: int = -1

    @property
    def kind(self) -> ChannelKind:
        """What the text is for, the same word over all endpoints; a field that nobody knows is content."""
        return _KINDS.get(self.field, "content")


class Edit(NamedTuple):
    """Replace what was pushed from ``start`` to ``end`` (characters since the gate's first push) by
    ``text``."""

    start: int
    end: int
    text: str


class Gate:
    """Decides, for one channel, how much of the text pushed so far may leave. Sync: it cannot wait.

    ``reach`` is the declared upper bound (characters) of what it may hold back. ``edits`` collects
    replacements in order, each ending at or before the returned offset; whoever drives the gate takes them
    out. A whole reply is one push and one close, so a stream can never be judged by other rules than a
    whole reply.
    """

    reach: int = 0
    judges: tuple[JudgedGate, ...] = ()
    """The gates in here that must ask somebody before they can decide."""

    def __init__(self) -> None:
        self.edits: list[Edit] = []

    def lead(self, text: str) -> None:
        """What stands in front of the channel's first character and is out already: the prompt that a completion goes on
        with, or what was let go when the channel was interrupted. Called before the first push, or not at all; offsets
        still count from there. A gate that needs no left context ignores it. Raises nothing."""

    def push(self, text: str) -> int:
        """Take the next text; return the offset (since the first push) up to which the text is decided.

        Raises Cut when the reply must end here.
        """
        raise NotImplementedError

    def close(self) -> int:
        """The channel ends: decide the rest; return the length of all that was pushed. Raises Cut."""
        raise NotImplementedError


class JudgedGate(Gate):
    """A gate that has to ask somebody (a classifier, a service) before it can decide. ``push`` collects text and returns
    what is clear, as ever; whoever drives the stream looks at ``due``, awaits ``judge`` beside the stream, one call at a
    time for each gate, and then pushes nothing (``push("")``, or ``close`` again) to hear what the verdict changes.

    ``close`` may therefore leave text undecided for as long as ``waits``. ``reach`` does not count what waits for a verdict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judges = (self,)

    @property
    def waits(self) -> bool:
        """Some text has no verdict yet, and the end of the channel has to wait for it."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """The channel has ended, and nobody will be asked any more."""
        raise NotImplementedError

    def due(self, now: float) -> bool:
        """Whether somebody should be asked now. now: monotonic seconds, on one clock for all calls."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Text behind this one waits: ask about what is there, however little it is."""

    def forgive(self) -> None:
        """The last ``judge`` failed, and what it was about shall pass unjudged."""
        raise NotImplementedError

    async def judge(self) -> None:
        """Ask about what is there. May be cancelled; then, or when it raises, nothing has been decided."""
        raise NotImplementedError
