"""The reply's side of ``pii_redaction``: values that the model brings up, names that another model finds, placeholders that
are put back.

What lives here: the gate of each channel. What must never live here: a request; what a value looks like; text in a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from policies.contract import Channel, Cut, Exchange, Gate
from policies.detect import Hit, RuleSet, compile_rules
from policies.detect.gate import OnMatch
from policies.gate_chain import compose
from policies.globs import any_of
from policies.pii.catalogue import ENTITIES
from policies.pii.ner import Names, Unread
from policies.pii.ner_merge import NamesGate, Quiet
from policies.pii.ner_sentences import Name
from policies.pii.options import PiiRedactionOptions
from policies.pii.placeholders import Forms
from policies.pii.restore import Outcome, ToolNames, putting_back
from policies.pii.scanner import Found as Find
from policies.pii.scanner import Scanner
from policies.pii.tally import Tally, place
from policies.pii.vault import Vault

__all__ = ["Memory", "Replies"]

Replaced = Callable[[str, str, str, str], str | None]
"""(action, type, value, tenant) to what stands in the value's place; None leaves it."""


class Memory:
    """What a request leaves for its reply. tools: the calls of the reply, by their names."""

    __slots__ = ("tools", "vault")

    def __init__(self, vault: Vault, tools: ToolNames) -> None:
        self.vault = vault
        self.tools = tools

    def __repr__(self) -> str:
        return repr(self.vault)


def _noting(on_match: OnMatch, quiet: Quiet, flagged: Collection[int] = ()) -> OnMatch:
    """The same, taking note of what is left alone. flagged: rules whose matches stay in the text, and may be part of a name."""

    def noted(hit: Hit) -> str | None:
        new = on_match(hit)
        if new is None and hit.rule not in flagged:
            quiet.add(hit.start, hit.end)
        return new

    return noted


class Replies:
    """The gates of one policy. policy: its name, for findings. actions, types: by entity; of a tag. scanner, forms, names:
    what finds values, placeholders, names, where there is something to find."""

    def __init__(
        self,
        policy: str,
        options: PiiRedactionOptions,
        *,
        actions: Mapping[str, str],
        types: Mapping[str, str],
        scanner: Scanner | None,
        forms: Forms | None,
        names: Names | None,
        replaced: Replaced,
    ) -> None:
        o = options
        self._name = policy
        self._options = o
        self._actions = actions
        self._types = types
        self._scanner = scanner
        self._forms = forms
        self._names = names
        self._replaced = replaced
        self._is_allowed = o.allowed()
        self._partly = frozenset(t for t in actions if t in ENTITIES and not ENTITIES[t].whole)
        self._both: RuleSet | None = None
        if forms is not None and scanner is not None and {"request", "reply"} <= set(o.on) and o.restore:
            self._both = compile_rules([*forms.rules.rules, *scanner.rules.rules])
        self._on = "reply" in o.on and bool(actions)
        self._channels = frozenset(o.channels)
        tools = o.restore_tools
        self.guarded = bool(tools.allow or tools.deny)
        """Some tools get no values."""
        self._allowed: Callable[[str], bool] = any_of(tools.allow or ["*"])
        self._denied: Callable[[str], bool] = any_of(tools.deny)

    @property
    def on(self) -> bool:
        """It looks for values."""
        return self._on

    def warm(self) -> None:
        """Make the states that every text meets."""
        if self._both is not None:
            self._both.warm()

    def gate(self, x: Exchange, channel: Channel) -> Gate | None:
        """The gate of one channel; None to leave it alone."""
        memory: Memory | None = x.notes.get(self._name)
        gates: list[Gate] = []
        if memory is not None and self.guarded and channel.field == "name":
            gates.append(memory.tools.tap(channel.choice, channel.tool))
        detects = self._on and self._looks_at(channel)
        restores = memory is not None and self._options.restore
        named = self._names if detects and channel.field != "name" else None  # no model knows what tools are called
        quiet = Quiet()
        gate: Gate | None = None
        if detects and self._scanner is not None:
            rules = self._both if restores and self._both is not None else self._scanner.rules
            gate = self._doing_both(rules, x, channel, memory, quiet if named is not None else None)
        elif restores and memory is not None:
            gate = self._restoring(x, channel, memory, quiet if named is not None else None)
        if named is not None:
            gate = self._naming(named, gate, quiet, x, channel, memory)
        if gate is not None:
            gates.append(gate)
        return compose(gates)

    def _looks_at(self, channel: Channel) -> bool:
        return not self._channels or channel.kind in self._channels or channel.field in self._channels

    def _in_reply(self, type: str) -> str:
        """What is done with what the model brings up."""
        action: str = self._options.reply_action or self._actions[type]
        if action == "pseudonymize" or (type in self._partly and action not in ("block", "flag")):
            return "redact"  # of the second kind the gate does not know all, and swallows the rest
        return action

    def _finding(self, x: Exchange, channel: Channel, memory: Memory | None) -> Callable[[Find], str | None]:
        """What happens to a value that the model brings up."""
        tally, where, tenant = Tally(self._name, x), place(channel), x.tenant or ""
        own = memory.vault.own if memory is not None else ()

        def on_match(hit: Find) -> str | None:
            if hit.value in own:  # the client's own: it told us
                return None
            action = self._in_reply(hit.type)
            tally.note(hit.type, where, action)
            if action == "block":
                raise Cut(hit.type, self._options.message, at=hit.start)
            return self._replaced(action, hit.type, hit.value, tenant)

        return on_match

    def _placeholder(self, x: Exchange, channel: Channel, memory: Memory) -> Callable[[Hit], str | None]:
        """What happens to a placeholder."""
        tally, where = Tally(self._name, x), place(channel)

        def told(tag: str, outcome: Outcome) -> None:
            tally.note(self._types[tag], where, outcome)

        return putting_back(memory.vault, told, put_back=self._puts_back(channel, memory))

    def _restoring(self, x: Exchange, channel: Channel, memory: Memory, quiet: Quiet | None = None) -> Gate:
        assert self._forms is not None
        placeholder = self._placeholder(x, channel, memory)
        return self._forms.rules.gate(placeholder if quiet is None else _noting(placeholder, quiet))

    def _doing_both(
        self, rules: RuleSet, x: Exchange, channel: Channel, memory: Memory | None, quiet: Quiet | None
    ) -> Gate:
        """Values and placeholders in one pass: half the cost of two gates, and what is put back is not looked at."""
        assert self._scanner is not None
        placeholder = None if memory is None else self._placeholder(x, channel, memory)
        finding = self._finding(x, channel, memory)
        types, scores, allowed = self._scanner.types, self._scanner.scores, self._scanner.allowed
        first = len(rules.rules) - len(types)

        def on_match(hit: Hit) -> str | None:
            if hit.rule < first and placeholder is not None:
                return placeholder(hit)
            if allowed.any and allowed(hit.value):
                return None
            return finding(Find(types[hit.rule - first], scores[hit.rule - first], hit.value, hit.start, hit.end))

        if quiet is None:
            return rules.gate(on_match)
        flagged = {n for n, type in enumerate(types, first) if self._in_reply(type) == "flag"}
        return rules.gate(_noting(on_match, quiet, flagged))

    def _naming(
        self, names: Names, rules: Gate | None, quiet: Quiet, x: Exchange, channel: Channel, memory: Memory | None
    ) -> Gate:
        """The rules' gate with names beside it."""
        finding, allowed = self._finding(x, channel, memory), self._is_allowed

        async def ask(texts: Sequence[str]) -> Sequence[Sequence[Name]]:
            try:
                return await names.ask(texts)
            except Unread:
                if names.options.on_error == "closed":
                    raise
                x.find(self._name, "names", where=place(channel), action="unread")
                return [()] * len(texts)

        def on_name(name: Name, value: str) -> str | None:
            if name.type not in self._actions or allowed(value):
                return None
            return finding(Find(name.type, name.score, value, name.start, name.end))

        return NamesGate(rules, quiet, ask, on_name, hold=names.options.hold)

    def _puts_back(self, channel: Channel, memory: Memory) -> bool:
        """A tool whose name is not known when its arguments come gets no values where only some tools may."""
        if not self.guarded or channel.kind != "arguments":
            return True
        return channel.field != "name" and memory.tools.may(channel.choice, channel.tool)

    def trusts(self, tool: str) -> bool:
        return self._allowed(tool) and not self._denied(tool)
