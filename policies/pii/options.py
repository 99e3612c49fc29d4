"""The options of ``pii_redaction``.

What lives here: what policy.yaml may say about personal data, and its checks at load. What must never live here: a key in
an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from policies.contract import PolicyOptions
from policies.pii.actions import Action, sealer
from policies.pii.catalogue import ENTITIES, GROUPS
from policies.pii.entity import MissingExtra
from policies.pii.ner import GROUP, NAMES, NerOptions
from policies.pii.scanner import REGIONS, Allow, Scanner, _Allowed, compile_scanner
from policies.pii.scanner import CustomEntity as Custom

__all__ = ["CustomEntity", "PiiRedactionOptions", "RestoreTools"]

Role = Literal["system", "user", "assistant", "tool", "document", "definitions", "metadata"]
ReplyAction = Literal["redact", "mask", "hash", "encrypt", "block", "flag"]

_SHORTEST_KEY = 16
_GROUPS = {**GROUPS, GROUP: tuple(NAMES)}
_KNOWN = dict.fromkeys((*ENTITIES, *NAMES))


class CustomEntity(PolicyOptions):
    """An entity of your own. It needs patterns or words."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]
    """Its name in findings, in small letters, and in capitals in placeholders."""
    patterns: list[str] = Field(default=[], examples=[["EMP-[0-9]{6}"]])
    """Regular expressions in RE2 syntax."""
    words: list[str] = Field(default=[], examples=[["Project Bluebird"]])
    """Whole words, or texts of several, as they are."""
    ignore_case: bool = True
    """Upper and lower case are the same."""
    action: Action | None = None
    """What is done with it; default: the policy's ``action``."""

    @model_validator(mode="after")
    def _sound(self) -> CustomEntity:
        if not self.patterns and not self.words:
            raise ValueError("write patterns, words or both")
        if any(not w.strip() for w in self.words):
            raise ValueError("a word is empty")
        if self.name in _KNOWN or self.name in _GROUPS:
            raise ValueError("this is the name of an entity or group that headgate knows")
        return self


class RestoreTools(PolicyOptions):
    """Globs over names of tools."""

    allow: list[str] = Field(default=[], examples=[["lookup_*"]])
    """Only the arguments of these get their values back; empty means all."""
    deny: list[str] = Field(default=[], examples=[["web_search", "send_*"]])
    """Not the arguments of these, also when ``allow`` has them."""


class PiiRedactionOptions(PolicyOptions):
    """What personal data is, what is done with it, and where."""

    on: list[Literal["request", "reply"]] = ["request", "reply"]
    """Where to look. Values of ``pseudonymize`` come back in replies whether or not ``reply`` is here."""
    entities: list[str] | dict[str, Action] = Field(default=[], examples=[["contact", "payment", "us_ssn", "secrets"]])
    """Entities and groups (docs/pii.md), or each with its action: ``{contact: pseudonymize, secrets: block}``. An entity's
    own action comes before its group's, a smaller group's before a larger one's."""
    action: Action = "pseudonymize"
    """``pseudonymize`` writes ``[EMAIL_1]`` and puts the value back in the reply; ``redact`` writes ``[EMAIL]``, ``mask``
    stars but for the last four, ``hash`` a keyed hash, ``encrypt`` the value encrypted; ``block`` refuses the request or
    ends the reply; ``flag`` only notes it."""
    reply_action: ReplyAction | None = None
    """What is done with what the model itself brings up, for all entities. Default: the entity's action, and ``redact``
    where that is ``pseudonymize``."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Detectors that are less sure than this are off."""
    allow: list[str] = Field(default=[], examples=[["support@example.com"]])
    """Values that are no secret, compared without case."""
    allow_domains: list[str] = Field(default=[], examples=[["example.com"]])
    """Addresses, hosts and URLs of these domains, and of those below them, are no secret."""
    allow_patterns: list[str] = Field(default=[], examples=[["\\+1-?555-?01[0-9]{2}"]])
    """Values that match one of these as a whole are no secret; RE2 syntax."""
    regions: list[str] = Field(default=list(REGIONS), examples=[["US", "DE"]])
    """Countries (ISO 3166) whose telephone numbers count without ``+`` and without a word before them."""
    custom: list[CustomEntity] = []
    """Entities of your own; all of them are looked for."""
    roles: list[Role] = ["system", "user", "assistant", "tool", "document"]
    """Whose text of a request is looked at. ``tool`` is what tools returned; ``definitions`` are descriptions of tools and
    schemas, in which examples often look like personal data; ``metadata`` are ``user``, ``safety_identifier`` and ``metadata``,
    by which a backend's operator knows users and which models do not get."""
    channels: list[str] = Field(default=[], examples=[["content", "arguments"]])
    """Channels of replies that are looked at: kinds (``content``, ``reasoning``, ``refusal``, ``arguments``) or names of
    fields (docs/coverage.md). Empty means all. Values come back in all of them."""
    mask_keep: Annotated[int, Field(ge=0, le=8)] = 4
    """Letters and digits that ``mask`` leaves at the end; never more than half of them."""
    numbering: Literal["request", "keyed"] = "request"
    """``request`` numbers values by their first appearance: ``[EMAIL_1]``. ``keyed`` makes the number of the value and the
    key, the same in every request of a tenant: ``[EMAIL_K7Q2MXA3B5C]``."""
    key: SecretStr | None = Field(default=None, examples=["${PII_KEY}"])
    """A secret of 16 characters or more, for ``hash``, ``encrypt`` and keyed numbers. Give all replicas the same."""
    restore: bool = True
    """Put values back in replies."""
    ner: NerOptions | None = None
    """A model that finds the names of people, places and organisations: the entities ``person``, ``location`` and
    ``organization``, or ``names`` for all three. Without it they cannot be asked for."""
    restore_tools: RestoreTools = RestoreTools()
    """Which tools get values in their arguments. The others see placeholders, and so does whoever they send them to."""
    unscanned: Literal["allow", "deny"] = "allow"
    """``deny`` refuses requests with content that cannot be read: token ids, images, audio, files, text kept by the
    backend."""
    message: str | None = None
    """Text for the reader of a reply that was cut, where the endpoint has a place for it."""

    @model_validator(mode="after")
    def _sound(self) -> PiiRedactionOptions:
        for name in self.entities:
            if name not in _KNOWN and name not in _GROUPS:
                near = get_close_matches(name, [*_KNOWN, *_GROUPS], 1)
                raise ValueError("no such entity or group" + (f"; did you mean {near[0]}?" if near else ""))
        names = [c.name for c in self.custom]
        if len(names) != len(set(names)):
            raise ValueError("two custom entities have the same name")
        self._check_key()
        self._check_names()
        if self.actions():
            try:
                self.scanner()
            except MissingExtra as error:
                raise ValueError(str(error)) from None
        return self

    def _check_names(self) -> None:
        asked = self.names()
        if asked and self.ner is None:
            raise ValueError(
                f"no pattern finds {', '.join(asked)}: name a model, `ner: {{engine: transformers, model: /models/ner}}`"
                " (docs/pii-redaction.md)"
            )
        if self.ner is not None and not asked:
            raise ValueError(f"ner is for {', '.join(NAMES)} (together: {GROUP}), and entities has none of them")

    def _check_key(self) -> None:
        does = {*self.actions().values(), self.reply_action}
        if self.key is not None and len(self.key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"a key has at least {_SHORTEST_KEY} characters")
        if self.key is None and (not does.isdisjoint({"hash", "encrypt"}) or self.numbering == "keyed"):
            raise ValueError("hash, encrypt and keyed numbers need a key")
        if "encrypt" in does:
            sealer(bytes(32))

    def actions(self) -> dict[str, Action]:
        """Each entity that is looked for, with its action."""
        return dict(self._actions())

    def names(self) -> list[str]:
        """The entities that are looked for and that only a model finds."""
        return [name for name in self.actions() if name in NAMES]

    def scanner(self) -> Scanner | None:
        """What finds the entities that have rules; None without one of them. The same object for the same options. Raises
        ValueError, MissingExtra."""
        own = {*NAMES, *(c.name for c in self.custom)}
        entities = tuple(name for name in self.actions() if name not in own)
        if not entities and not self.custom:
            self.allowed()
            return None
        return _compiled(
            entities,
            self.threshold,
            tuple(Custom(c.name, tuple(c.patterns), tuple(c.words), ignore_case=c.ignore_case) for c in self.custom),
            self._allow(),
            tuple(self.regions),
        )

    def allowed(self) -> Callable[[str], bool]:
        """Whether a value is on an allow-list. Raises ValueError for a pattern that is none."""
        return _Allowed(self._allow())

    def _allow(self) -> Allow:
        return Allow(frozenset(self.allow), frozenset(self.allow_domains), tuple(self.allow_patterns))

    def _actions(self) -> Iterator[tuple[str, Action]]:
        given = self.entities if isinstance(self.entities, dict) else dict.fromkeys(self.entities, self.action)
        groups = sorted((g for g in given if g in _GROUPS and g not in _KNOWN), key=lambda g: -len(_GROUPS[g]))
        for group in groups:
            for name in _GROUPS[group]:
                yield name, given[group]
        for name in given:
            if name in _KNOWN:
                yield name, given[name]
        for custom in self.custom:
            yield custom.name, custom.action or self.action


@lru_cache(maxsize=8)
def _compiled(
    entities: tuple[str, ...], threshold: float, custom: tuple[Custom, ...], allow: Allow, regions: tuple[str, ...]
) -> Scanner:
    """Loading a policy file checks the options and then makes the policy; both need the scanner, which takes a while."""
    return compile_scanner(entities, threshold=threshold, custom=custom, allow=allow, regions=regions)
