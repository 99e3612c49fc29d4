"""What the demo model says: one Draft per choice, whatever API asked.

Here: from a Wish (what a request asks of the model) to pieces of text, reasoning and tool arguments.
Never here: the shape of any reply, sockets, time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

from proxy.demo import schema, words
from proxy.demo.errors import Refused
from proxy.demo.knobs import MAX_TEXT, Knobs

MAX_CHOICES: Final = 128
_MAX_CALLS: Final = 2
_MAX_PIECES: Final = 200_000

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    parameters: Any


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of the model. `seed` is everything the reply depends on."""

    seed: tuple[object, ...]
    knobs: Knobs
    last_user: str = ""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    keep_stop: bool = False
    tools: tuple[Tool, ...] = ()
    json_schema: Any = None
    json_object: bool = False
    reasons: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call. The pieces join to the arguments as JSON text."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Draft:
    """One choice of a reply. `stopped_by` is the stop string that ended it."""

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    stopped_by: str | None = None
    id: str = field(default="")

    @property
    def tokens(self) -> int:
        """Completion tokens: one per piece."""
        return len(self.text) + len(self.reasoning) + sum(len(call.pieces) for call in self.calls)

    @property
    def content(self) -> str:
        return "".join(self.text)

    @property
    def thoughts(self) -> str:
        return "".join(self.reasoning)


def pick_tools(tools: tuple[Tool, ...], mode: str, name: str, *, parallel: bool, answered: bool) -> tuple[Tool, ...]:
    """The tools that the demo calls.

    mode: none, auto, required or named. With auto it calls tools until it has seen an answer of one.
    Raises Refused(400) when a tool is required or named and not there.
    """
    if mode == "none" or (mode == "auto" and answered):
        return ()
    if mode == "named":
        tools = tuple(tool for tool in tools if tool.name == name)
    if not tools and mode != "auto":
        raise Refused(400, "tool_choice asks for a tool that is not in tools.", param="tool_choice")
    return tools[: _MAX_CALLS if parallel else 1]


def write(wish: Wish, index: int = 0) -> Draft:
    """The reply of choice `index`. The same wish gives the same reply."""
    pick = words.rng("draft", index, *wish.seed)
    knobs = wish.knobs
    spoken = _spoken(wish)
    serial = f"{pick.getrandbits(48):012x}"
    reasoning: list[str] = []
    if wish.reasons or (spoken is not None and knobs.to != "content"):
        thoughts = spoken if spoken is not None and knobs.to != "content" else words.prose(pick, 2)
        reasoning = words.pieces(thoughts, knobs.piece)
    if spoken is not None and knobs.to == "reasoning":
        spoken = None
    stopped_by = None
    text: list[str] = []
    calls: list[Call] = []
    if wish.tools:
        calls = _calls(wish, pick, spoken, serial)
    elif wish.json_object or wish.json_schema is not None:
        text = words.pieces(_json(wish, pick, spoken), knobs.piece)
    elif spoken is not None:
        text = words.pieces(spoken, knobs.piece)
    else:
        text = words.prose_pieces(pick, knobs.tokens, knobs.piece)
    if text and wish.stop:
        kept, stopped_by = _stop("".join(text), wish)
        if stopped_by is not None:
            text = words.pieces(kept, knobs.piece)
    return _limited(reasoning, text, calls, stopped_by, wish.max_tokens, serial)


def write_all(wishes: Iterable[Wish], n: int) -> list[Draft]:
    """`n` choices for each wish. Raises Refused(400) when all of them together would be too long."""
    drafts: list[Draft] = []
    left = _MAX_PIECES
    for wish in wishes:
        for index in range(n):
            drafts.append(write(wish, index))
            left -= drafts[-1].tokens
            if left < 0:
                raise Refused(400, f"The demo backend writes at most {_MAX_PIECES} tokens in one reply.")
    return drafts


def _spoken(wish: Wish) -> str | None:
    if wish.knobs.say is not None:
        return wish.knobs.say
    if wish.knobs.echo:
        return wish.last_user[:MAX_TEXT]
    return words.personal() if wish.knobs.pii else None


def _calls(wish: Wish, pick: Random, spoken: str | None, serial: str) -> list[Call]:
    calls = []
    for number, tool in enumerate(wish.tools):
        arguments = schema.Maker(tool.parameters, pick, spoken).make(tool.parameters)
        arguments = arguments if isinstance(arguments, dict) else {}
        text = schema.write(arguments, wish.knobs.escape)
        parts = tuple(words.pieces(text, wish.knobs.piece))
        calls.append(Call(f"{serial}{number}", tool.name, parts))
    return calls


def _json(wish: Wish, pick: Random, spoken: str | None) -> str:
    if wish.json_schema is not None:
        value = schema.Maker(wish.json_schema, pick, spoken).make(wish.json_schema)
    else:
        value = {"answer": spoken if spoken is not None else words.sentence(pick), "ok": True}
    return schema.write(value, wish.knobs.escape)


def _stop(text: str, wish: Wish) -> tuple[str, str | None]:
    hits = [(at, stop) for stop in wish.stop if (at := text.find(stop)) >= 0]
    if not hits:
        return text, None
    at, stop = min(hits)
    return text[: at + len(stop)] if wish.keep_stop else text[:at], stop


def _limited(
    reasoning: list[str],
    text: list[str],
    calls: list[Call],
    stopped_by: str | None,
    most: int | None,
    serial: str,
) -> Draft:
    left = most if most is not None else 10**9
    total = len(reasoning) + len(text) + sum(len(call.pieces) for call in calls)
    finish: Finish = "tool_calls" if calls else "stop"
    if total > left:
        finish, stopped_by = "length", None
    kept_reasoning = reasoning[:left]
    left -= len(kept_reasoning)
    kept_text = text[:left]
    left -= len(kept_text)
    kept_calls = []
    for call in calls:
        if left > 0:
            kept_calls.append(Call(call.id, call.name, call.pieces[:left]))
            left -= len(call.pieces[:left])
    return Draft(tuple(kept_text), tuple(kept_reasoning), tuple(kept_calls), finish, stopped_by, serial)
