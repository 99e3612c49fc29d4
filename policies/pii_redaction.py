"""``pii_redaction``: personal data that the model does not get, and the client gets back.

What lives here: the policy's phases, and what becomes of a value. What must never live here: what personal data looks
like (``policies/pii/scanner.py``), how a placeholder is spelt (``placeholders.py``); a value in a finding or a message.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Literal

from policies.contract import Channel, Exchange, Gate, Kind, Policy, Refuse, RequestBody, Segment, at_once
from policies.pii.actions import Action, Keys, encrypt, hashed, mask, redacted
from policies.pii.catalogue import ENTITIES
from policies.pii.ner import NAMES, Names, Pieces, Unread
from policies.pii.ner_merge import with_names
from policies.pii.options import PiiRedactionOptions
from policies.pii.placeholders import Forms, tag_of
from policies.pii.replies import Memory, Replies
from policies.pii.restore import ToolNames
from policies.pii.rewrite import Found, category, rewrite, taken
from policies.pii.tally import Tally
from policies.pii.vault import Vault

__all__ = ["PiiRedaction", "PiiRedactionOptions"]

_LARGE = 16_384
"""Characters from which a request's texts are looked at in a thread. With all structured entities (``python -m
bench.micro_pii``) JSON full of dates takes 0.1 ms there, and a chat with five values in each 4 KB 0.6; only what is
nothing but values, or made to look like them, takes more than a millisecond sooner."""
_LARGE_WITH_NAMES = 8_192
"""The same where they are cut into sentences as well."""
_KEPT_ELSEWHERE = ("previous_response_id", "conversation")
_KINDS = ("content", "reasoning", "refusal", "arguments")


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
        wanted = o.names()
        self._names = Names(o.ner, wanted) if o.ner is not None else None
        self._labels = {n: NAMES[n] for n in wanted} | (self._scanner.labels if self._scanner is not None else {})
        self._is_allowed = o.allowed()
        self._tags = {t: tag_of(label) for t, label in self._labels.items()}
        self._exact = frozenset(t for t in self._actions if t in ENTITIES and "secrets" in ENTITIES[t].groups)
        secret = None if o.key is None else o.key.get_secret_value()
        self._keys = Keys(secret or secrets.token_hex(32))
        self._forms = Forms(self._tags.values()) if "pseudonymize" in self._actions.values() else None
        self._replies = Replies(
            name, o, actions=self._actions, types={tag: t for t, tag in reversed(self._tags.items())},
            scanner=self._scanner, forms=self._forms, names=self._names, replaced=self._replaced,
        )  # fmt: skip
        self._asks = "request" in o.on and bool(self._actions)
        self._roles = frozenset(o.roles)

    # -- what it takes part in

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        return frozenset(self.options.on) if self._actions else frozenset()

    def phases(self) -> frozenset[str]:
        puts_back = self._asks and self._forms is not None and self.options.restore
        request = {"inspect"} if self._asks else set()
        reply = {"guard"} if self._replies.on or puts_back else set()
        return frozenset(request | reply | ({"settle"} if self._forms is not None and self._asks else set()))

    def describe(self) -> str:
        """Entities by action; no allowed value and no key."""
        if not self._actions:
            return "no entities"
        by: dict[str, list[str]] = {}
        for name, action in self._actions.items():
            by.setdefault(action, []).append(name)
        parts = [f"{a} {', '.join(n[:12])}{f' and {len(n) - 12} more' * (len(n) > 12)}" for a, n in by.items()]
        if self.options.ner is not None:
            parts.append(f"names by {self.options.ner.engine}")
        return "; ".join(parts) + f"; in {' and '.join(self.options.on)}"

    async def prepare(self) -> None:
        """Make the states that every text meets, so that the first request does not pay for them."""
        for warmed in (self._scanner, self._forms, self._replies):
            if warmed is not None:
                warmed.warm()
        if self._names is not None:
            await self._names.open()

    async def close(self) -> None:
        """End the threads of the model."""
        if self._names is not None:
            self._names.close()

    # -- the request

    async def inspect(self, x: Exchange, body: RequestBody) -> None:
        segments = body.segments
        if body.opaque and self.options.unscanned == "deny":
            x.find(self.name, "unscanned", count=len(body.opaque), action="block")
            raise Refuse(Kind.UNSCANNABLE, "The request holds content that cannot be checked for personal data.")
        picked = [s for s in segments if category(s) in self._roles]
        whose = f"{x.tenant or ''}\0{x.caller or ''}"
        if sum(len(s.text) for s in picked) > (_LARGE if self._names is None else _LARGE_WITH_NAMES):
            found, pieces = await asyncio.to_thread(self._look, picked, whose)
        else:
            found, pieces = self._look(picked, whose)
        if pieces is not None:
            found = await self._named(x, picked, found, pieces)
        if found:
            self._rewrite(x, body, found)

    def _look(self, segments: list[Segment], whose: str) -> tuple[list[Found], Pieces | None]:
        """What rules find, and what a model is to be asked about."""
        out = []
        spans = (lambda text: ()) if self._scanner is None else self._scanner.spans
        for segment in segments:
            if seen := spans(segment.text):
                out.append(Found(segment, [(s.start, s.end, s.type) for s in seen]))
        return out, None if self._names is None else self._names.pieces([s.text for s in segments], whose)

    async def _named(self, x: Exchange, picked: list[Segment], found: list[Found], pieces: Pieces) -> list[Found]:
        """The finds with those of the model."""
        assert self._names is not None
        try:
            names = await self._names.of_request(pieces)
        except Unread:
            if self._names.options.on_error == "closed":
                raise
            x.find(self.name, "names", action="unread")
            return found
        out, inside = with_names(found, picked, names, self._actions, self._is_allowed)
        tally = Tally(self.name, x)
        for segment, type in inside:
            tally.note(type, segment.where.partition("#")[0], "flag")
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
            x.notes[self.name] = Memory(vault, ToolNames(self._replies.trusts))
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
        if self._replies.guarded:  # placeholders that a tool was told come back from the conversation: they are ours
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
        return self._replies.gate(x, channel)

    @at_once
    def settle(self, x: Exchange) -> None:
        """The values die with the exchange."""
        x.notes.pop(self.name, None)
