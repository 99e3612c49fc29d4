"""All that a policy author must read: the words that policies and the proxy share.

What lives here: Segments (request text), Refuse, the Policy base class with its phases; and, by import, Channels, Gates
and Cut of ``policies/gates.py``, the Exchange and the fault kinds of ``policies/exchange.py``. What must never live here:
sockets, clocks, YAML, anything else of the project. Everyone may import it.

Colour is contract: a sync phase cannot wait, an async one may. Returning means "go on"; a policy stops a
request by raising :class:`Refuse` and a reply by raising :class:`Cut`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict

from policies.exchange import Attempt, Candidate, Exchange, Finding, Headers, Kind, Usage
from policies.gates import LENGTH, Channel, ChannelKind, Cut, Edit, Gate, JudgedGate
from policies.store import Store

__all__ = [
    "LENGTH", "PHASES", "Attempt", "Candidate", "Channel", "ChannelKind", "Cut", "Deps", "Edit", "Exchange", "Finding", "Gate",
    "Headers", "JudgedGate", "Kind", "Policy", "PolicyOptions", "Post", "Refuse", "ReplyHead", "RequestBody", "Segment",
    "Trust", "Usage", "at_once", "copy_document",
]  # fmt: skip

Trust = Literal["system", "user", "assistant", "tool", "document"]


class Refuse(Exception):
    """Raised by a policy: this request gets an error and goes no further.

    kind: the row of the fault table (status, type, code). message: public text, shown to the caller; it must
    hold no matched text and no secret. param: the request field concerned, e.g. ``max_tokens``. code: the
    ``error.code`` to show instead of the kind's own. retry_after: seconds. headers: added to the reply.
    """

    def __init__(
        self,
        kind: Kind,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.headers = tuple(headers)


class Segment(msgspec.Struct, eq=False):
    """A piece of request or reply text. Assigning ``text`` writes it back into the document at once. where: its
    address, e.g. ``messages[2].content[0].text``. role: the message's role as sent. trust: who wrote it."""

    where: str
    text: str
    _write: Callable[[str], None]
    role: str = "user"
    trust: Trust = "user"
    changed: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "text" and value != self.text:
            super().__setattr__("changed", True)
            self._write(value)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<Segment {self.where}>"  # never its text


class RequestBody(msgspec.Struct, eq=False):
    """What ``inspect`` sees of a request: the decoded JSON document and its text.

    doc: the document (dict, list, str, int, bool, None; numbers with a fraction are floats that keep their
    text). Policies may change it in place; what they leave is what the backend gets. segments: its text, in
    document order. opaque: places whose content no text policy can read (token ids, images, file ids), for
    the honest report. read: some policy has asked for the text.
    """

    doc: Any
    size: int  # bytes on the wire
    _find: Callable[[Any], tuple[list[Segment], list[str]]]
    _segments: list[Segment] | None = None
    opaque: list[str] = []  # each body gets its own
    read: bool = False

    def __repr__(self) -> str:
        return f"<RequestBody of {self.size} bytes>"  # never its text

    @property
    def segments(self) -> list[Segment]:
        if self._segments is None:
            self._segments, self.opaque = self._find(self.doc)
            self.read = True
        return self._segments

    def fork(self) -> RequestBody:
        """A copy for shadow mode: document and text are its own, and reading it leaves ``read`` here
        alone."""
        return RequestBody(copy_document(self.doc), self.size, self._find)


def copy_document(doc: Any) -> Any:
    """A deep copy of the dicts and lists of a JSON document; strings, numbers and null are shared.

    Without recursion: callers choose how deep their documents nest. What is none of these is a document inside
    the document which a policy has changed, and which knows how to ``render`` itself; the copy has it rendered.
    """
    out: list[Any] = [doc]
    todo: list[tuple[Any, Any]] = [(out, 0)]
    while todo:
        place, key = todo.pop()
        value = place[key]
        if isinstance(value, dict):
            new: Any = dict(value)
            keys: Iterable[Any] = new
        elif isinstance(value, list):
            new = list(value)
            keys = range(len(new))
        else:
            if hasattr(value, "render"):
                place[key] = copy.deepcopy(value).render()
            continue
        place[key] = new
        todo += [(new, k) for k in keys if not isinstance(new[k], str | int | float | None)]
    return out[0]


class ReplyHead:
    """Status and header fields of the reply before its first byte leaves; ``respond`` may change
    ``headers``."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers


Post = Callable[[str, Mapping[str, str], bytes, float], Awaitable[tuple[int, bytes]]]
"""Sends one POST: (url, header fields, body, seconds) to (status, body of the reply). Raises OSError or TimeoutError. No
proxy of the environment, no redirects, no cookies, a bounded reply."""


async def _no_way_out() -> Post:
    raise OSError("nobody has lent a way out")


async def _no_store(name: str) -> Store:
    raise OSError("nobody has lent a store")


class Deps(NamedTuple):
    """What the proxy lends to policies, because none may open a socket or keep time itself. poster: to be awaited in
    ``prepare``, where it is needed. clock: monotonic seconds. store: to be awaited in ``prepare`` with the policy's
    name; gives its counters (``policies/store.py``), the same ones in every worker and replica that shares a store.
    wall: unix seconds, for windows of the calendar. spent: for the metrics: what a request has cost (policy, tenant or empty,
    currency, amount)."""

    poster: Callable[[], Awaitable[Post]] = _no_way_out
    clock: Callable[[], float] = float
    store: Callable[[str], Awaitable[Store]] = _no_store
    wall: Callable[[], float] = float
    spent: Callable[[str, str, str, float], None] = lambda policy, tenant, currency, money: None


class PolicyOptions(BaseModel):
    """Base of every policy's options: unknown keys are errors, values are not coerced from other types."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # an option may be a secret
    )

    def files(self) -> tuple[str, ...]:
        """Files whose content belongs to these options: a change of one is a change of the policy."""
        return ()


def at_once(phase: Callable[..., None]) -> Callable[..., Coroutine[Any, Any, None]]:
    """For an ``admit``, ``inspect`` or ``settle`` that never waits: write it as a plain ``def`` under this decorator.
    It is an async phase like any other, but the engine calls the plain function: a microsecond less per request."""

    @functools.wraps(phase)
    async def waiting(*given: Any) -> None:
        phase(*given)

    waiting.at_once = phase  # type: ignore[attr-defined]
    return waiting


PHASES = ("admit", "inspect", "choose", "observe", "respond", "guard", "settle")


class Policy:
    """One file, one class. Override any of the phases; those left alone cost nothing.

    USE: the name in policy.yaml. Options: a PolicyOptions subclass; validation, schema
    and docs come from it. counts: it keeps counters in ``deps.store``, so several workers need a shared one.
    EXAMPLE: a YAML snippet of options, tested. A policy keeps no state of a request in itself: what it must
    remember goes to ``Exchange.notes[self.name]``.
    """

    USE: ClassVar[str] = ""
    Options: ClassVar[type[PolicyOptions]] = PolicyOptions
    EXAMPLE: ClassVar[str] = ""
    counts: ClassVar[bool] = False

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options
        self.deps = Deps()
        """Set by the proxy before ``prepare``."""

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        """Which text it enforces on: a route whose text headgate cannot read is refused when such a policy
        applies to it, unless ``unscanned: allow`` is set."""
        return frozenset()

    def phases(self) -> frozenset[str]:
        """The phases this instance takes part in; narrow it when options leave a phase nothing to do."""
        return frozenset(p for p in PHASES if getattr(type(self), p) is not getattr(Policy, p))

    def describe(self) -> str:
        """One line for ``headgate explain``: what this instance does, from its options."""
        return (type(self).__doc__ or "").strip().splitlines()[0] if type(self).__doc__ else ""

    @property
    def late(self) -> bool:
        """``admit`` has to know what only the body tells: the model, the stream flag, how much is asked for. It is then run when
        the body has been read."""
        return False

    @property
    def meters(self) -> bool:
        """It wants to know the tokens of every reply, so backends are asked to count those of streams."""
        return False

    async def prepare(self) -> None:
        """Open what needs opening; once, before the policy goes live. May raise: the old policies stay."""

    async def close(self) -> None:
        """Release what ``prepare`` opened; must survive a half-done prepare."""

    async def admit(self, x: Exchange) -> None:
        """Once, with the head alone: the body is unread."""

    async def inspect(self, x: Exchange, body: RequestBody) -> None:
        """Once, with the request's document and text."""

    def choose(self, x: Exchange, candidates: list[Candidate]) -> None:
        """Before each attempt: drop, reorder, set the model sent (in place)."""

    def observe(self, x: Exchange, attempt: Attempt) -> None:
        """After each attempt."""

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        """Once, with the reply's head, before its first byte leaves."""

    def guard(self, x: Exchange, channel: Channel) -> Gate | None:
        """Once per reply channel: a gate, or None to leave the channel alone. May raise Cut."""
        return None

    async def settle(self, x: Exchange) -> None:
        """Exactly once, at the very end, off the reply path; also when an earlier policy refused the request
        and none of this one's other phases ran. What it raises reaches nobody but the metrics."""
