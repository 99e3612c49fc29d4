"""``output_moderation``: what must not stand in a reply, and what happens where it does.

What lives here: the options, and what a match means. What must never live here: matching (``policies/detect`` has
it), reply text in a finding or a message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from policies.contract import Channel, Cut, Exchange, Finding, Gate, Policy, PolicyOptions
from policies.detect import CAP, Beside, Hit, Rule, RuleError, RuleSet, compile_rules
from policies.gate_chain import Chain
from policies.remote_classifier import ClassifierOptions, Classifying
from policies.units import Name

__all__ = ["ModerationRule", "OutputModeration", "OutputModerationOptions"]

Action = Literal["block", "redact", "replace", "flag"]
View = Literal["nfkc", "invisible", "marks", "homoglyphs", "leet", "spaced"]

_BY_SEVERITY: tuple[Action, ...] = ("flag", "flag", "redact", "block")
_MOST_PHRASES = 100_000
_LARGEST_FILE = 16 * 2**20


class ModerationRule(PolicyOptions):
    """Patterns and phrases that mean the same thing. It needs at least one of them."""

    name: Name
    """Its name in findings and where a reply ends because of it; like no other rule's."""
    category: Name | None = None
    """What it is about, for findings, for instance ``violence``; default: the rule's name."""
    severity: Annotated[int, Field(ge=0, le=3)] = 2
    """0 safe, 1 low, 2 medium, 3 high. It says what ``action`` is where that is left out."""
    action: Action | None = None
    """``block`` ends the reply before the match, ``redact`` puts the placeholder there, ``replace`` the text of
    ``replacement``, ``flag`` only notes it. Default: flag for severity 0 and 1, redact for 2, block for 3."""
    patterns: list[str] = Field(default=[], examples=[["sk-[A-Za-z0-9]{20,}"]])
    """Regular expressions in RE2 syntax. Without look-around and back references, so that any text takes linear
    time."""
    phrases: list[str] = Field(default=[], examples=[["project bluebird"]])
    """Texts as they are; a space in one is any run of white space."""
    phrases_file: str | None = None
    """A file with one phrase per line, UTF-8. Empty lines and lines that begin with ``#`` are left out. A relative
    path is looked up in the working directory; the file is watched as policy.yaml is."""
    replacement: str | None = None
    """What ``replace`` puts in the place of a match."""
    placeholder: str | None = None
    """What ``redact`` puts in the place of a match; default: the policy's."""
    ignore_case: bool = False
    """Upper and lower case are the same, in all scripts, letter by letter: ``ß`` is ``ẞ``, not ``SS``."""
    whole_word: bool = False
    """Only where no letter, digit or ``_`` stands right before or after."""
    channels: list[str] = Field(default=[], examples=[["content", "arguments"]])
    """Only these channels: kinds (``content``, ``reasoning``, ``refusal``, ``arguments``) or names of fields
    (docs/coverage.md). Empty means all."""
    views: list[View] = []
    """What to see through. ``nfkc``: full-width, ligature, mathematical and decomposed forms; ``invisible``:
    zero-width and tag characters; ``marks``: accents; ``homoglyphs``: letters of other scripts that look Latin;
    ``leet``: digits and signs for letters; ``spaced``: phrases with a sign between all letters."""

    @property
    def does(self) -> Action:
        return self.action or _BY_SEVERITY[self.severity]

    def compiled(self, phrases: Iterable[str]) -> Rule:
        """The rule for the engine."""
        return Rule(self.name, self.patterns, list(phrases), self.ignore_case, self.whole_word, self.views)

    def all_phrases(self) -> list[str]:
        """Those written here and those of the file. Raises ValueError when the file cannot be used."""
        return [*self.phrases, *(_lines(self.phrases_file) if self.phrases_file is not None else ())]

    def on(self, kind: str, field: str) -> bool:
        return not self.channels or kind in self.channels or field in self.channels

    @model_validator(mode="after")
    def _sound(self) -> ModerationRule:
        if (self.replacement is None) is (self.does == "replace"):
            raise ValueError("action replace and a replacement go together")
        phrases = self.all_phrases()
        if len(phrases) > _MOST_PHRASES:
            raise ValueError(f"more than {_MOST_PHRASES} phrases")
        if any(not p.strip() for p in phrases):
            raise ValueError("a phrase is empty")
        try:
            compile_rules([self.compiled(phrases[:1])])
        except RuleError as error:
            raise ValueError(error.reason) from None
        return self


def _lines(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"phrases_file cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise ValueError(f"phrases_file is larger than {_LARGEST_FILE} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"phrases_file is not UTF-8, at byte {error.start}") from None
    # Not splitlines(): U+2028 and a form feed are no line ends here.
    return [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#")]


class OutputModerationOptions(PolicyOptions):
    """Rules and a classifier over the text of replies, the same for streams and whole replies."""

    rules: list[ModerationRule] = []
    """In order: of matches that begin at the same place and are equally long, the first rule's counts. A longer match
    comes before a shorter one, an earlier before a later. Rules that only flag hide no others."""
    classifier: ClassifierOptions | None = None
    """A service that is asked about windows of the text; it sees what the rules have left of it."""
    placeholder: str = "[REDACTED]"
    """What ``redact`` puts in the place of a match. ``{CATEGORY}`` and ``{RULE}`` stand for the rule's, in capitals."""
    message: str | None = None
    """Text for the reader of a reply that was cut, where the endpoint has a place for it."""
    max_hold: Annotated[int, Field(ge=16, le=65536)] = CAP
    """Characters of one channel that may be held back for one match that is not decided."""
    on_overflow: Literal["release", "cut"] = "release"
    """What happens when a match is still not decided after ``max_hold`` characters. ``release``: what is older
    leaves, and if it becomes a match after all, its last ``max_hold`` characters are treated. ``cut``: the reply
    ends."""

    def files(self) -> tuple[str, ...]:
        return tuple(r.phrases_file for r in self.rules if r.phrases_file is not None)

    @model_validator(mode="after")
    def _names(self) -> OutputModerationOptions:
        if any(n > 1 for n in Counter(r.name for r in self.rules).values()):
            raise ValueError("two rules have the same name")
        return self


class OutputModeration(Policy):
    """Blocks, redacts, replaces or flags what its rules find in replies, in streams without leaking a character.

    Of a stream exactly the text is held back that may still become a match; docs/moderation.md says how much that is.
    A reply that is cut ends with ``finish_reason: content_filter``.
    """

    USE = "output_moderation"
    Options = OutputModerationOptions
    EXAMPLE = """\
rules:
  - name: api-keys
    category: secret
    patterns: ["sk-[A-Za-z0-9_-]{20,}", "AKIA[0-9A-Z]{16}"]
    placeholder: "[KEY]"
  - name: weapons
    category: violence
    severity: 3
    phrases: [how to build a bomb]
    ignore_case: true
    whole_word: true
    views: [nfkc, invisible, homoglyphs]
  - name: code-name
    action: replace
    phrases: [project bluebird]
    replacement: the project
    ignore_case: true
  - name: hedging
    severity: 1
    phrases: [as a language model]
    channels: [content]
message: This answer was stopped by a content filter.
"""

    options: OutputModerationOptions

    def __init__(self, name: str, options: OutputModerationOptions) -> None:
        super().__init__(name, options)
        asked = options.classifier
        self._classifying = None if asked is None else Classifying(asked, name, options.message)
        self._phrases = [r.all_phrases() for r in options.rules]
        self._sets: dict[tuple[int, ...], RuleSet] = {}
        self._plans: dict[tuple[str, str], tuple[_Part | None, _Part | None]] = {}
        named = {c for r in options.rules for c in r.channels}
        kinds = ("content", "reasoning", "refusal", "arguments")
        self._named = frozenset(named.difference(kinds))
        for kind in kinds:
            for field in ("", *self._named):
                self._plans[kind, field] = self._part(kind, field, flags=False), self._part(kind, field, flags=True)

    def _part(self, kind: str, field: str, *, flags: bool) -> _Part | None:
        """The rules for a channel: those that act, or those that flag."""
        numbers = tuple(
            i for i, r in enumerate(self.options.rules) if r.on(kind, field) and (r.does == "flag") is flags
        )
        if not numbers:
            return None
        if numbers not in self._sets:
            rules = [self.options.rules[i].compiled(self._phrases[i]) for i in numbers]
            self._sets[numbers] = compile_rules(rules, cap=self.options.max_hold)
        return _Part(self._sets[numbers], [self.options.rules[i] for i in numbers])

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        return frozenset({"reply"} if self.options.rules or self._classifying else ())

    def phases(self) -> frozenset[str]:
        return frozenset({"guard"} if self.options.rules or self._classifying else ())

    def describe(self) -> str:
        """Names and worst holds: patterns may be secrets."""
        holds = self.worst_hold()
        shown = [f"{r.name} {r.does}, holds {holds[r.name]}" for r in self.options.rules]
        more = [f"and {len(shown) - 20} more"] if len(shown) > 20 else []
        asks = self.options.classifier
        if asks is not None:
            more.append(f"classifier {asks.action}, {'holds' if asks.mode == 'hold' else f'lags {asks.lag}'}")
        return "; ".join(shown[:20] + more) or "no rules"

    def worst_hold(self) -> dict[str, int]:
        """For each rule, the most characters that it may hold back on its own account."""
        out = {r.name: 0 for r in self.options.rules}
        for acting, _ in self._plans.values():
            if acting is not None:
                out.update({r.name: hold for r, hold in zip(acting.rules, acting.found.worst_hold, strict=True)})
        return out

    async def prepare(self) -> None:
        """Make the states that every text meets, so that the first reply does not pay for them."""
        if self._classifying is not None:
            await self._classifying.open(self.deps)
        for rules in self._sets.values():
            await asyncio.to_thread(rules.warm)  # tens of milliseconds with ten thousand phrases, and streams are under way

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        field = channel.field if channel.field in self._named else ""
        acting, flagging = self._plans[channel.kind, field]
        asking = self._classifying
        if asking is not None and not asking.options.on(channel.kind, channel.field):
            asking = None
        if acting is None and flagging is None and asking is None:
            return None
        gate: Gate | None = _Acts(self, x, channel, acting).gate() if acting is not None else None
        if flagging is not None:
            gate = Beside(gate, _Acts(self, x, channel, flagging).gate())
        if asking is None:
            return gate
        judge = asking.gate(x, _place(channel))
        return judge if gate is None else Chain([gate, judge])


def _place(channel: Channel) -> str:
    tool = f".tool_calls[{channel.tool}]" if channel.tool >= 0 else ""
    return f"choices[{channel.choice}]{tool}.{channel.field}"


class _Part:
    """Rules of one channel, compiled. found: what their matches are found with."""

    def __init__(self, found: RuleSet, rules: list[ModerationRule]) -> None:
        self.found = found
        self.rules = rules


class _Acts:
    """What matches do on one channel of one reply."""

    __slots__ = ("_channel", "_noted", "_options", "_part", "_policy", "_x")

    def __init__(self, policy: OutputModeration, x: Exchange, channel: Channel, part: _Part) -> None:
        self._policy = policy
        self._options = policy.options
        self._x = x
        self._channel = channel
        self._part = part
        self._noted: dict[int, Finding] = {}

    def gate(self) -> Gate:
        strict = self._options.on_overflow == "cut"
        return self._part.found.gate(self._match, self._overflow if strict else None)

    def _match(self, hit: Hit) -> str | None:
        rule = self._part.rules[hit.rule]
        action = rule.does
        self._note(hit.rule, rule, action)
        if action == "block":
            raise Cut(rule.name, self._options.message, at=hit.start)
        if action == "flag":
            return None
        if action == "replace":
            return rule.replacement or ""
        shown = self._options.placeholder if rule.placeholder is None else rule.placeholder
        return shown.replace("{CATEGORY}", (rule.category or rule.name).upper()).replace("{RULE}", rule.name.upper())

    def _note(self, number: int, rule: ModerationRule, action: str) -> None:
        """One finding per rule and channel, counted; a new one when the last was taken away (shadow mode does)."""
        noted, findings = self._noted.get(number), self._x.findings
        if noted is not None and any(f is noted for f in reversed(findings)):
            noted.count += 1
            return
        self._x.find(self._policy.name, rule.category or rule.name, where=_place(self._channel), action=action)
        self._noted[number] = findings[-1]

    def _overflow(self, clear: int) -> None:
        self._x.find(self._policy.name, "max_hold", where=_place(self._channel), action="block")
        raise Cut("max_hold", self._options.message, at=clear)
