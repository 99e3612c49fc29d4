"""What every policy of the catalogue must do, and the small builders that policy tests share.

``check_*`` functions take a policy class (or a name of the catalogue) and assert; ``tests/policies/test_kit.py``
runs them over the catalogue. A new policy gets these tests for nothing.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from policies import load
from policies.chain import Hooks, Plan, RouteFacts, Step, compile_plan
from policies.contract import (
    PHASES,
    Attempt,
    Candidate,
    Channel,
    Cut,
    Deps,
    Exchange,
    Gate,
    Headers,
    Kind,
    Policy,
    PolicyOptions,
    Refuse,
    ReplyHead,
    RequestBody,
    Segment,
)
from policies.entry import PolicyEntry, When
from proxy.store.memory import Memory

MARKER = "Plant me, 4111-1111-1111-1111, mail@example.com!"
"""Text that must never be seen in a finding or an error: it stands in bodies, keys and replies."""

CHAT = RouteFacts("chat", "POST", "/v1/chat/completions", True, True)
ANY_ROUTE = RouteFacts("any", None, None, False, False)


def exchange(
    path: str = "/v1/chat/completions",
    method: str = "POST",
    fields: Iterable[tuple[str, str]] = (("Host", "localhost"), ("Content-Type", "application/json")),
    **known: Any,
) -> Exchange:
    """An exchange as the relay makes it; ``known`` sets further attributes."""
    headers = Headers([(k.encode("latin-1"), v.encode("latin-1")) for k, v in fields])
    x = Exchange("req-1", method, path, "", headers, "127.0.0.1", 0.0, 0.0)
    x.route = "chat"
    for name, value in known.items():
        setattr(x, name, value)
    return x


def chat_body(text: str = "Hello", size: int | None = None, **params: Any) -> RequestBody:
    """A chat request's body with one user message."""
    doc = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": text}], **params}
    return body(doc, size)


def body(doc: Any, size: int | None = None) -> RequestBody:
    """A body whose segments are the string contents of ``messages``, as the chat dialect finds them."""
    return RequestBody(doc, len(repr(doc)) if size is None else size, _find)


def _find(doc: Any) -> tuple[list[Segment], list[str]]:
    found = []
    messages = doc.get("messages", []) if isinstance(doc, dict) else []
    for n, message in enumerate(messages):
        if isinstance(message.get("content"), str):

            def write(text: str, message: dict[str, Any] = message) -> None:
                message["content"] = text

            found.append(Segment(f"messages[{n}].content", message["content"], write, message["role"]))
    return found, []


class Log:
    """Hooks that remember. now: the clock's seconds, moved by tests."""

    def __init__(self) -> None:
        self.now = 0.0
        self.verdicts: list[tuple[str, str, str]] = []
        self.seconds: list[float] = []
        self.errors: list[tuple[str, str, str]] = []
        self.hooks = Hooks(lambda: self.now, self._verdict, self._error)

    def _verdict(self, policy: str, phase: str, verdict: str, seconds: float) -> None:
        self.verdicts.append((policy, phase, verdict))
        self.seconds.append(seconds)

    def _error(self, policy: str, phase: str, name: str) -> None:
        self.errors.append((policy, phase, name))


def step(policy: Policy, **entry: Any) -> Step:
    return Step(policy, PolicyEntry(use=policy.USE or "test", name=policy.name, **entry))


def plan(*policies: Policy | Step, route: RouteFacts = CHAT, log: Log | None = None, **entry: Any) -> Plan:
    """The plan of some policies on a route; ``entry`` keys (mode, on_error, when, ...) go to each."""
    steps = [p if isinstance(p, Step) else step(p, **entry) for p in policies]
    return compile_plan(steps, route, (log or Log()).hooks)


def make(use: str, options: str | dict[str, Any] = "") -> Policy:
    """A policy of the catalogue from its options, as YAML text or as a dict."""
    cls = load(use)
    given = yaml.safe_load(options) or {} if isinstance(options, str) else options
    policy = cls(use, cls.Options.model_validate(given))
    policy.deps = Deps(store=Memory().open)
    return policy


@contextlib.asynccontextmanager
async def ready(policy: Policy) -> AsyncIterator[None]:
    """A policy that keeps counters, with its store; others are as they came."""
    if policy.counts:
        await policy.prepare()
    try:
        yield
    finally:
        if policy.counts:
            await policy.close()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that must not wait; AssertionError when it does."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("the coroutine waits for something")


async def drive(
    p: Plan, x: Exchange, request: RequestBody | None, head: ReplyHead | None = None, texts: Iterable[str] = ()
) -> str:
    """Run an exchange through all phases as the relay does; the reply text that one content channel lets out. Policies
    that keep counters have been prepared."""
    out = ""
    try:
        for admit in (*p.admit, *p.admit_late):
            await admit(x)
        for look in p.inspect if request is not None else ():
            assert request is not None
            await look(x, request)
        for choose in p.choose:
            choose(x, [Candidate("local")])
        for observe in p.observe:
            observe(x, Attempt("local", 0.0, status=200))
        for respond in p.respond:
            respond(x, head or ReplyHead(200, Headers([])))
        gates = [g for guard in p.guard if (g := guard(x, Channel(0, "content"))) is not None]
        out = "".join(texts)
        for gate in gates:
            out = through(gate, [out])
    finally:
        for settle in p.settle:
            await settle(x)
    return out


def through(gate: Gate, texts: Iterable[str]) -> str:
    """The text a gate lets out of a channel, its edits applied. Raises Cut."""
    out, text, done = "", "", 0
    for piece in [*texts, None]:
        text += piece or ""
        clear = gate.push(piece) if piece is not None else gate.close()
        edits, gate.edits[:] = list(gate.edits), []
        for edit in edits:
            out += text[done : edit.start] + edit.text
            done = edit.end
        out += text[done:clear]
        done = max(done, clear)
    assert done == len(text)
    return out


# ---- what the kit checks


def check_declaration(use: str) -> None:
    """USE, docstrings, option docs, EXAMPLE, describe: what reference, schema and explain are made from."""
    cls = load(use)
    assert use == cls.USE
    assert issubclass(cls, Policy)
    assert issubclass(cls.Options, PolicyOptions)
    first = (cls.__doc__ or "").strip().partition("\n")[0]
    assert first.endswith("."), "the docstring begins with one sentence on one line"
    for model, field, description in options_of(cls.Options):
        assert description, f"{model}.{field} has no description"
    assert cls.EXAMPLE.strip(), "an EXAMPLE shows the options"
    policy = make(use, cls.EXAMPLE)
    assert policy.phases(), "the EXAMPLE does something"
    for one in (policy, make(use, {})) if not required(cls.Options) else (policy,):
        assert one.describe()
        assert "\n" not in one.describe()
        assert one.phases() <= set(PHASES)
    for phase in PHASES:
        waits = inspect.iscoroutinefunction(getattr(cls, phase))
        assert waits is inspect.iscoroutinefunction(getattr(Policy, phase)), f"{phase} has the wrong colour"


def options_of(model: type[BaseModel]) -> Iterator[tuple[str, str, str | None]]:
    """(model, field, description) of a model and of the models in its fields."""
    for name, field in model.model_fields.items():
        yield model.__name__, name, field.description
        todo: list[Any] = [field.annotation]
        while todo:
            kind = todo.pop()
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                yield from options_of(kind)
            todo += get_args(kind)


def required(model: type[BaseModel]) -> bool:
    return any(f.is_required() for f in model.model_fields.values())


def check_unknown_option(use: str) -> None:
    """A misspelt option is an error, at any depth, and the error does not quote values."""
    cls = load(use)
    given = yaml.safe_load(cls.EXAMPLE)
    for broken in _with_unknown(given):
        with pytest.raises(ValidationError) as caught:
            cls.Options.model_validate(broken)
        assert MARKER not in str(caught.value)


def _with_unknown(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**given, "no_such_option": MARKER}


def check_idle(use: str) -> None:
    """Without options, or excluded by its conditions, a policy costs nothing: no phase of any plan is filled."""
    cls = load(use)
    if not required(cls.Options):
        assert make(use, {}).phases() == frozenset()
        assert plan(make(use, {})).empty
    excluded = plan(make(use, cls.EXAMPLE), when=When(paths=["/v1/embeddings"]))
    assert excluded.empty
    assert not excluded.needs_body


def state(x: Exchange, request: RequestBody | None, head: ReplyHead | None) -> Any:
    """All that a policy could change of an exchange, to compare."""
    slots = {s: getattr(x, s) for s in Exchange.__slots__ if s not in ("findings", "notes", "headers")}
    return copy.deepcopy(
        (slots, x.headers.fields, request and request.doc, head and (head.status, head.headers.fields))
    )


async def check_shadow(policy: Policy, x: Exchange, request: RequestBody | None, reply: list[str]) -> None:
    """In shadow mode nothing changes (document, fields, labels, reply text) and nothing is refused or cut."""
    head = ReplyHead(200, Headers([(b"Server", b"uvicorn"), (b"Date", b"x"), (b"X-Vllm-Id", b"1")]))
    before = state(x, request, head)
    async with ready(policy):
        out = await drive(plan(policy, mode="shadow"), x, request, head, reply)
    assert state(x, request, head) == before
    assert out == "".join(reply)
    assert all(f.shadow for f in x.findings)
    assert request is None or not request.read


def raising(policy: Policy, error: Exception) -> Policy:
    """The same policy, but every phase that it takes part in raises."""

    def sync_phase(self: Policy, *given: Any) -> None:
        raise error

    async def async_phase(self: Policy, *given: Any) -> None:
        raise error

    phases = policy.phases()
    changed: dict[str, Any] = {
        p: async_phase if inspect.iscoroutinefunction(getattr(Policy, p)) else sync_phase for p in phases
    }
    changed["phases"] = lambda self: phases
    broken: Policy = copy.copy(policy)
    broken.__class__ = type("Broken", (type(policy),), changed)
    return broken


async def check_error_stances(policy: Policy, fresh: Callable[[], tuple[Exchange, RequestBody]]) -> None:
    """A policy that fails refuses with ``closed`` and is left out with ``open``; its message reaches nobody."""
    broken = raising(policy, RuntimeError(MARKER))
    for phase in broken.phases():
        for stance in ("closed", "open"):
            log = Log()
            p = plan(broken, on_error=stance, log=log)
            x, request = fresh()
            stopped = await _one_phase(p, phase, x, request)
            harmless = stance == "open" or phase in ("observe", "settle")
            assert (stopped is None) is harmless, (phase, stance)
            if isinstance(stopped, Refuse):
                assert stopped.kind is Kind.POLICY_ERROR
                assert MARKER not in repr(stopped.message)
            if isinstance(stopped, Cut):
                assert stopped.reason == "policy_error"
            assert log.errors == [(policy.name, phase, "RuntimeError")]
            assert MARKER not in repr(x.findings)


async def _one_phase(p: Plan, phase: str, x: Exchange, request: RequestBody) -> Exception | None:
    given: dict[str, tuple[Any, ...]] = {
        "inspect": (request,),
        "choose": ([Candidate("local")],),
        "observe": (Attempt("local", 0.0),),
        "respond": (ReplyHead(200, Headers([])),),
        "guard": (Channel(0, "content"),),
    }
    try:
        for call in (*getattr(p, phase), *(p.admit_late if phase == "admit" else ())):
            result = call(x, *given.get(phase, ()))
            if inspect.isawaitable(result):
                await result
    except (Refuse, Cut) as stop:
        return stop
    return None


async def check_no_text(policy: Policy, x: Exchange, request: RequestBody, reply: list[str]) -> None:
    """Whatever the request and the reply hold, findings and errors show none of it."""
    shown = []
    try:
        async with ready(policy):
            await drive(plan(policy), x, request, None, reply)
    except Refuse as refusal:
        shown = [refusal.message, refusal.param, refusal.code, refusal.headers, refusal.args]
    except Cut as cut:
        shown = [cut.reason, cut.message, cut.args]
    assert MARKER not in repr([shown, x.findings])
    assert "4111" not in repr([shown, x.findings])
