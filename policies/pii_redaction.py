"""``pii_redaction``: personal data that the model does not get, and the client gets back.

What lives here: the policy's phases, and what becomes of a value. What must never live here: what personal data looks
like (``policies/pii/scanner.py``), how a placeholder is spelt (``placeholders.py``); a value in a finding or a message.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Literal

from policies.contract import Channel, Cut, Exchange, Gate, Kind, Policy, Refuse, RequestBody, Segment, at_once
from policies.detect import Hit, RuleSet, compile_rules
from policies.gate_chain import compose
from policies.globs import any_of
from policies.pii.actions import Action, Keys, encrypt, hashed, mask, redacted
from policies.pii.catalogue import ENTITIES
from policies.pii.options import PiiRedactionOptions
from policies.pii.placeholders import Forms, tag_of
from policies.pii.restore import NameTap, Outcome, putting_back
from policies.pii.rewrite import Found, category, rewrite, taken
from policies.pii.scanner import Found as Find
from policies.pii.tally import Tally, place
from policies.pii.vault import Vault

__all__ = ["PiiRedaction", "PiiRedactionOptions"]

_LARGE = 32_768
"""Characters from which a request's texts are looked at in a thread: a millisecond of work and more."""
_KEPT_ELSEWHERE = ("previous_response_id", "conversation")
_KINDS = ("content", "reasoning", "refusal", "arguments")


class _Memory:
    """What a request leaves for its reply. names: of tools, by choice and number, as the reply tells them."""

    __slots__ = ("names", "vault")

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.names: dict[tuple[int, int], str] = {}

    def __repr__(self) -> str:
        return repr(self.vault)


class PiiRedaction(Policy):
    """Keeps personal data and secrets from the model, and puts the values back into its reply.

    With ``pseudonymize`` the model sees ``[EMAIL_1]``, the same one for the same value in the whole request and in the
    next turn, and the client sees its own value wherever the reply says ``[EMAIL_1]``. docs/pii-redaction.md tells what is
    promised.
    """

    USE = "pii_redaction"
    Options = PiiRedactionOptions
    EXAMPLE = """\
entities: {email: pseudonymize, payment: pseudonymize, secrets: redact}
allow_domains: [example.com]
custom:
  - name: employee
    patterns: ["EMP-[0-9]{6}"]
restore_tools:
  deny: [web_search, "send_*"]
"""

    options: PiiRedactionOptions

    def __init__(self, name: str, options: PiiRedactionOptions) -> None:
        super().__init__(name, options)
        o = options
        self._actions: dict[str, Action] = o.actions()
        self._scanner = o.scanner() if self._actions else None
        self._labels = self._scanner.labels if self._scanner is not None else {}
        self._partly = frozenset(t for t in self._actions if t in ENTITIES and not ENTITIES[t].whole)
        self._tags = {t: tag_of(label) for t, label in self._labels.items()}
        self._types = {tag: t for t, tag in reversed(self._tags.items())}
        self._exact = frozenset(t for t in self._actions if t in ENTITIES and "secrets" in ENTITIES[t].groups)
        secret = None if o.key is None else o.key.get_secret_value()
        self._keys = Keys(secret or secrets.token_hex(32))
        self._forms = Forms(self._tags.values()) if "pseudonymize" in self._actions.values() else None
        self._both: RuleSet | None = None
        if self._forms is not None and self._scanner is not None and {"request", "reply"} <= set(o.on) and o.restore:
            self._both = compile_rules([*self._forms.rules.rules, *self._scanner.rules.rules])
        self._replies = "reply" in o.on and bool(self._actions)
        self._asks = "request" in o.on and bool(self._actions)
        self._roles = frozenset(o.roles)
        self._channels = frozenset(o.channels)
        tools = o.restore_tools
        self._guarded = bool(tools.allow or tools.deny)
        self._allowed: Callable[[str], bool] = any_of(tools.allow or ["*"])
        self._denied: Callable[[str], bool] = any_of(tools.deny)

    # -- what it takes part in

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        return frozenset(self.options.on) if self._actions else frozenset()

    def phases(self) -> frozenset[str]:
        puts_back = self._asks and self._forms is not None and self.options.restore
        request = {"inspect"} if self._asks else set()
        reply = {"guard"} if self._replies or puts_back else set()
        return frozenset(request | reply | ({"settle"} if self._forms is not None and self._asks else set()))

    def describe(self) -> str:
        """Entities by action; no allowed value and no key."""
        if not self._actions:
            return "no entities"
        by: dict[str, list[str]] = {}
        for name, action in self._actions.items():
            by.setdefault(action, []).append(name)
        parts = [f"{a} {', '.join(n[:12])}{f' and {len(n) - 12} more' * (len(n) > 12)}" for a, n in by.items()]
        return "; ".join(parts) + f"; in {' and '.join(self.options.on)}"

    async def prepare(self) -> None:
        """Make the states that every text meets, so that the first request does not pay for them."""
        for warmed in (self._scanner, self._forms, self._both):
            if warmed is not None:
                warmed.warm()

    # -- the request

    async def inspect(self, x: Exchange, body: RequestBody) -> None:
        segments = body.segments
        if body.opaque and self.options.unscanned == "deny":
            x.find(self.name, "unscanned", count=len(body.opaque), action="block")
            raise Refuse(Kind.UNSCANNABLE, "The request holds content that cannot be checked for personal data.")
        picked = [s for s in segments if category(s) in self._roles]
        if sum(len(s.text) for s in picked) > _LARGE:
            found = await asyncio.to_thread(self._look, picked)
        else:
            found = self._look(picked)
        if found:
            self._rewrite(x, body, found)

    def _look(self, segments: list[Segment]) -> list[Found]:
        assert self._scanner is not None
        spans, out = self._scanner.spans, []
        for segment in segments:
            if seen := spans(segment.text):
                out.append(Found(segment, [(s.start, s.end, s.type) for s in seen]))
        return out

    def _rewrite(self, x: Exchange, body: RequestBody, found: list[Found]) -> None:
        tally = Tally(self.name, x)
        types = {type for f in found for _, _, type in f.spans}
        if blocked := {t for t in types if self._actions[t] == "block"}:
            for segment, spans in found:
                for _, _, type in spans:
                    if type in blocked:
                        tally.note(type, segment.where.partition("#")[0], "block")
            names = ", ".join(sorted(blocked))
            raise Refuse(Kind.BLOCKED, f"The request holds what may not be sent to the model: {names}.")
        vault = None
        if any(self._actions[t] == "pseudonymize" for t in types):
            vault = self._vault(x, body, found)
            x.notes[self.name] = _Memory(vault)
        tenant = x.tenant or ""

        def replace(type: str, value: str) -> str | None:
            action = self._actions[type]
            if action == "pseudonymize" and vault is not None:
                return vault.placeholder(self._tags[type], value, exact=type in self._exact)
            return self._replaced(action, type, value, tenant)

        rewrite(found, replace, tally, self._actions)

    def _vault(self, x: Exchange, body: RequestBody, found: list[Found]) -> Vault:
        assert self._forms is not None
        segments = body.segments
        if self._guarded:  # placeholders that a tool was told come back from the conversation: they are ours
            segments = [s for s in segments if s.trust not in ("assistant", "tool")]
        keyed = self.options.numbering == "keyed" or any(o.startswith(_KEPT_ELSEWHERE) for o in body.opaque)
        # Where the backend keeps earlier turns, numbers that begin anew would be those of other values there.
        key = hmac.digest(self._keys.number, (x.tenant or "").encode(), "sha256") if keyed else None
        return Vault(taken(self._forms, segments, found), key=key)

    def _replaced(self, action: str, type: str, value: str, tenant: str) -> str | None:
        """What stands in the place of a value; None leaves it."""
        label = self._labels[type]
        if action == "flag":
            return None
        if action == "mask":
            return mask(value, self.options.mask_keep)
        if action == "hash":
            return hashed(label, value, self._keys, type=type, tenant=tenant)
        if action == "encrypt":
            return encrypt(label, value, self._keys, type=type, tenant=tenant)
        return redacted(label)

    # -- the reply

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        memory: _Memory | None = x.notes.get(self.name)
        gates: list[Gate] = []
        if memory is not None and self._guarded and channel.field == "name":
            gates.append(NameTap(lambda name: memory.names.__setitem__((channel.choice, channel.tool), name)))
        detects = self._replies and self._looks_at(channel)
        restores = memory is not None and self.options.restore
        if detects and restores and memory is not None and self._both is not None:
            gates.append(self._doing_both(self._both, x, channel, memory))
        elif detects and self._scanner is not None:
            gates.append(self._scanner.gate(self._finding(x, channel, memory)))
        elif restores and memory is not None:
            gates.append(self._restoring(x, channel, memory))
        return compose(gates)

    def _looks_at(self, channel: Channel) -> bool:
        return not self._channels or channel.kind in self._channels or channel.field in self._channels

    def _finding(self, x: Exchange, channel: Channel, memory: _Memory | None) -> Callable[[Find], str | None]:
        """What happens to a value that the model brings up."""
        tally, where, tenant = Tally(self.name, x), place(channel), x.tenant or ""
        own = memory.vault.own if memory is not None else ()

        def on_match(hit: Find) -> str | None:
            if hit.value in own:  # the client's own: it told us
                return None
            action = self.options.reply_action or self._actions[hit.type]
            if action == "pseudonymize" or (hit.type in self._partly and action not in ("block", "flag")):
                action = "redact"  # of the second kind the gate does not know all, and swallows the rest
            tally.note(hit.type, where, action)
            if action == "block":
                raise Cut(hit.type, self.options.message, at=hit.start)
            return self._replaced(action, hit.type, hit.value, tenant)

        return on_match

    def _placeholder(self, x: Exchange, channel: Channel, memory: _Memory) -> Callable[[Hit], str | None]:
        """What happens to a placeholder."""
        tally, where = Tally(self.name, x), place(channel)

        def told(tag: str, outcome: Outcome) -> None:
            tally.note(self._types[tag], where, outcome)

        return putting_back(memory.vault, told, put_back=self._puts_back(channel, memory))

    def _restoring(self, x: Exchange, channel: Channel, memory: _Memory) -> Gate:
        assert self._forms is not None
        return self._forms.rules.gate(self._placeholder(x, channel, memory))

    def _doing_both(self, rules: RuleSet, x: Exchange, channel: Channel, memory: _Memory) -> Gate:
        """Values and placeholders in one pass: half the cost of two gates, and what is put back is not looked at."""
        assert self._scanner is not None
        placeholder, finding = self._placeholder(x, channel, memory), self._finding(x, channel, memory)
        types, scores, allowed = self._scanner.types, self._scanner.scores, self._scanner.allowed
        first = len(rules.rules) - len(types)

        def on_match(hit: Hit) -> str | None:
            if hit.rule < first:
                return placeholder(hit)
            if allowed.any and allowed(hit.value):
                return None
            return finding(Find(types[hit.rule - first], scores[hit.rule - first], hit.value, hit.start, hit.end))

        return rules.gate(on_match)

    def _puts_back(self, channel: Channel, memory: _Memory) -> bool:
        """A tool whose name is not known when its arguments come gets no values where only some tools may."""
        if not self._guarded or channel.kind != "arguments":
            return True
        name = memory.names.get((channel.choice, channel.tool), "")
        return bool(name) and channel.field != "name" and self._allowed(name) and not self._denied(name)

    @at_once
    def settle(self, x: Exchange) -> None:
        """The values die with the exchange."""
        x.notes.pop(self.name, None)
