"""``when:`` compiled to one function, with all that a route settles taken out at load time.

What lives here: conditions over the Exchange. What must never live here: reading bodies, changing requests.
When each condition is looked at:

- paths and methods: at load where the route has one path and one method, else on the request. A path matches
  by its raw or by its plain form (no escapes, no double slashes), so that no spelling dodges a policy.
- headers: once, in ``admit``, at the policy's place in the list, on the fields as they are by then. The
  answer holds for the whole exchange: a later policy that drops the field does not switch an earlier one off.
- models and stream: once the body is read. A request that names no model matches every ``models`` on a route
  whose text headgate reads and on unknown ones (backends then take a default model); elsewhere it matches only
  ``""`` and ``*``.
- callers, tenants, labels: whenever a phase runs, as they are by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from policies.entry import When
from policies.exchange import Exchange
from policies.globs import any_of, glob, path_test, remembered

__all__ = ["NEVER", "Condition", "RouteFacts", "Test", "compile_when", "conditions_text"]

Test = Callable[[Exchange], bool]


class RouteFacts(NamedTuple):
    """What is known of a route before any request comes.

    method, path: the only ones it serves, or None where they vary; both None is the route of all that is
    unknown. reads_request: the text of its bodies is known to the dialect. reads_reply: reply text can reach gates.
    """

    name: str
    method: str | None
    path: str | None
    reads_request: bool
    reads_reply: bool


class Condition(NamedTuple):
    """A compiled ``when``.

    test: None means always. never: no request of the route can match. late: ``test`` needs the model or the
    stream flag. early: ``test`` without these two, for requests whose body nobody can read. latch: to be
    called in ``admit``; it looks at the header fields and notes the answer.
    """

    test: Test | None = None
    never: bool = False
    late: bool = False
    early: Test | None = None
    latch: Test | None = None


ALWAYS = Condition()
NEVER = Condition(never=True)


def compile_when(when: When | None, route: RouteFacts, slot: str = "when") -> Condition:
    """Compile the conditions of a policy for one route. slot: the latch's key in ``Exchange.notes``."""
    if when is None:
        return ALWAYS
    early: list[Test] = []
    if when.methods:
        methods = frozenset(m.upper() for m in when.methods)
        if route.method is None:
            early.append(lambda x: x.method in methods)
        elif route.method not in methods:
            return NEVER
    if when.paths:
        on_path = path_test(when.paths)
        if route.path is None:
            early.append(lambda x: on_path(x.path))
        elif not on_path(route.path):
            return NEVER
    early += _who(when)
    latch = _latched(_headers(when.headers), slot) if when.headers else None
    if latch is not None:
        early.append(latch)
    early += [_label(name, value) for name, value in when.labels.items()]
    late = _body(when, route)
    return Condition(_all(early + late), False, bool(late), _all(early), latch)


def _who(when: When) -> list[Test]:
    tests: list[Test] = []
    if when.callers:
        callers = frozenset(when.callers)
        tests.append(lambda x: (x.caller or "anonymous") in callers)
    if when.tenants:
        tenants = frozenset(when.tenants)
        tests.append(lambda x: x.tenant in tenants)
    return tests


def _body(when: When, route: RouteFacts) -> list[Test]:
    tests: list[Test] = []
    if when.models:
        # Some backends compare without case: reach must not shrink.
        named = remembered(any_of(when.models, fold=True))
        unknown = route.method is None and route.path is None
        unnamed = route.reads_request or route.reads_reply or unknown or named("")
        tests.append(lambda x: unnamed if x.model_asked is None else named(x.model_asked))
    if when.stream is not None:
        wanted = when.stream
        tests.append(lambda x: bool(x.stream) is wanted)
    return tests


def _headers(wanted: dict[str, str]) -> Test:
    globs = [(name, glob(value) if value else None) for name, value in wanted.items()]

    def test(x: Exchange) -> bool:
        for name, match in globs:
            values = x.headers.get_all(name)
            if (any(map(match, values)) if match else not values) is False:
                return False
        return True

    return test


def _label(name: str, value: str) -> Test:
    if not value:
        return lambda x: not x.labels.get(name)
    match = glob(value)
    return lambda x: name in x.labels and match(x.labels[name])


def _latched(test: Test, slot: str) -> Test:
    def look(x: Exchange) -> bool:
        seen: bool | None = x.notes.get(slot)
        if seen is None:
            seen = x.notes[slot] = test(x)
        return seen

    return look


def _all(tests: list[Test]) -> Test | None:
    if len(tests) < 2:
        return tests[0] if tests else None
    if len(tests) == 2:
        one, two = tests
        return lambda x: one(x) and two(x)
    every = tuple(tests)

    def test(x: Exchange) -> bool:
        for t in every:  # noqa: SIM110 - a generator costs more than the tests
            if not t(x):
                return False
        return True

    return test


def conditions_text(when: When | None) -> str:
    """The conditions in one line for ``headgate explain``; empty when there are none."""
    if when is None:
        return ""
    parts = [
        f"{key}: {' | '.join(v or repr(v) for v in values)}"
        for key in ("models", "paths", "methods", "callers", "tenants")
        if (values := getattr(when, key))
    ]
    parts += [f"label {k}: {v or 'absent'}" for k, v in when.labels.items()]
    parts += [f"header {k}: {v or 'absent'}" for k, v in when.headers.items()]
    if when.stream is not None:
        parts.append(f"stream: {str(when.stream).lower()}")
    return "; ".join(parts)
