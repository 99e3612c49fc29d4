"""The checks of a request's body that ``request_guard`` is made of.

What lives here: functions that make a check from its limits. What must never live here: options; what was
sent, in a message. A check gets the exchange, the body and its document (a JSON object), and raises Refuse.
The codes are those of the OpenAI API for the same mistakes (``integer_above_max_value``,
``unsupported_parameter``, ...).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from policies.contract import Exchange, Kind, Refuse, RequestBody
from policies.document import (
    AllowTree,
    DottedPath,
    MediaHosts,
    as_json,
    holds_control,
    is_name,
    may_hold_urls,
    media_urls,
    shown,
)
from policies.globs import any_of, remembered

Check = Callable[[Exchange, RequestBody, dict[str, Any]], None]
Number = int | float


def _invalid(message: str, param: str | None, code: str) -> Refuse:
    return Refuse(Kind.INVALID_REQUEST, message, param=param, code=code)


def model_check(allow: list[str], deny: list[str]) -> Check:
    allowed = any_of(allow or ["*"])
    denied = any_of(deny, fold=True)
    passes = remembered(lambda model: allowed(model) and not denied(model))

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        asked, known = doc.get("model"), x.model_asked  # the model of a path is known without the body
        if asked is None and known is None:
            raise _invalid("'model' is required.", "model", "missing_required_parameter")
        if asked is not None and not isinstance(asked, str):
            raise _invalid("'model' must be a string.", "model", "invalid_type")
        if not ((asked is None or passes(asked)) and (known is None or known is asked or passes(known))):
            raise Refuse(Kind.FORBIDDEN, "This model is not allowed here.", param="model")

    return check


def allow_check(tree: AllowTree) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        found = tree.denied(doc)
        if found is not None:
            name = shown(found)
            message = f"'{name}' is not allowed here." if name else "A parameter of this name is not allowed here."
            raise Refuse(Kind.FORBIDDEN, message, param=name, code="unsupported_parameter")

    return check


def deny_check(names: Sequence[str]) -> Check:
    paths = [DottedPath(name) for name in names]
    keys = _keys(names)

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        if keys is not None and keys.isdisjoint(doc):
            return
        for path in paths:
            if path.within(doc):
                message = f"'{path.name}' is not allowed here."
                raise Refuse(Kind.FORBIDDEN, message, param=path.name, code="unsupported_parameter")

    return check


def _keys(names: Iterable[str]) -> frozenset[str] | None:
    """The names as a set to meet a document's keys with; None when one is dotted or a glob."""
    keys = frozenset(names)
    return keys if all(map(is_name, keys)) else None


def required_check(names: str) -> Check:
    paths = [DottedPath(n) for n in names.split("|")]
    message = " or ".join(f"'{p.name}'" for p in paths) + " is required."

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        for path in paths:
            if path.within(doc):
                return
        raise _invalid(message, paths[0].name, "missing_required_parameter")

    return check


class Bounds(NamedTuple):
    """Bounds of a parameter, both included, None for none. whole: only integers. flag: true and false stand for 1
    and 0."""

    name: str
    low: Number | None
    high: Number | None
    whole: bool
    flag: bool = False


def numbers_check(limits: Sequence[Bounds]) -> Check:
    keys = _keys(b.name for b in limits)
    tests = [(b.name, None if is_name(b.name) else DottedPath(b.name), _number_test(b)) for b in limits]
    by_key = {name: test for name, _, test in tests}

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        if keys is not None:
            given = keys.intersection(doc)
            if len(given) < 2:
                for name in given:
                    if (value := doc[name]) is not None:
                        by_key[name](value)
                return
        for name, path, test in tests:  # several: the first one that is listed is the one to complain of
            if path is not None:
                for value in path.find(doc):
                    test(value)
            elif (value := doc.get(name)) is not None:
                test(value)

    return check


def _number_test(bounds: Bounds) -> Callable[[Any], None]:
    """A test of one value, not null; raises Refuse."""
    name, low, high, whole, flag = bounds
    word = "an integer" if whole else "a number"
    types: tuple[type, ...] = (int,) if whole else (int, float)
    least, most = -math.inf if low is None else low, math.inf if high is None else high

    def test(value: Any) -> None:
        if type(value) is int and least <= value <= most:
            return
        if flag and isinstance(value, bool):
            value = int(value)
        fits = isinstance(value, types) and not isinstance(value, bool)
        if not fits:
            raise _invalid(f"'{name}' must be {word}.", name, "invalid_type")
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid(f"'{name}' must be {word}.", name, "invalid_value")
        kind = "integer" if isinstance(value, int) else "decimal"
        if value > most:
            raise _invalid(f"'{name}' must be at most {high}.", name, f"{kind}_above_max_value")
        if value < least:
            raise _invalid(f"'{name}' must be at least {low}.", name, f"{kind}_below_min_value")

    return test


def completions_check(limit: int) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        draws = 1
        for name in ("n", "best_of"):
            value = doc.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise _invalid(f"'{name}' must be an integer.", name, "invalid_type")
            draws = max(draws, value)
        if _prompts(doc) * draws > limit:
            message = f"The request asks for more than {limit} completions: prompts times 'n' or 'best_of'."
            raise _invalid(message, "n" if draws > 1 else "prompt", "array_above_max_length")

    return check


def _prompts(doc: dict[str, Any]) -> int:
    """How many prompts a body holds: a list of strings or of token lists, or a list of conversations."""
    for name, single in (("prompt", int), ("messages", dict)):
        value = doc.get(name)
        if isinstance(value, list) and not all(isinstance(v, single) for v in value):
            return len(value)
    return 1


def messages_check(limit: int) -> Check:
    def too_many(name: str) -> Refuse:
        return _invalid(f"'{name}' must have at most {limit} items.", name, "array_above_max_length")

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        messages, items = doc.get("messages"), doc.get("input")
        if isinstance(messages, list):
            if len(messages) > limit:
                raise too_many("messages")
            for one in messages:  # a list where there are several conversations
                if isinstance(one, list) and len(one) > limit:
                    raise too_many("messages")
        if isinstance(items, list) and len(items) > limit and any(isinstance(v, dict) for v in items):
            raise too_many("input")

    return check


def strings_check(hosts: MediaHosts | None, control: bool) -> Check:
    """hosts: what may be fetched (None: anything). control: refuse control characters."""

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        data = as_json(doc) if control else None  # addresses alone are found without: long texts are not looked at
        if hosts is not None and may_hold_urls(data):
            for key, address in media_urls(doc):
                if not hosts.allows(address):
                    raise _invalid(f"An address in '{key}' is not allowed here.", key, "invalid_value")
        if control and holds_control(doc, data):
            message = "The request body holds control characters, which are not allowed here."
            raise _invalid(message, None, "invalid_value")

    return check


def text_check(each: int | None, total: int | None) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        segments = body.segments
        for segment in segments if each is not None else ():
            if len(segment.text) > (each or 0):
                m = re.match(r"[a-z_]+(\[[0-9]+\])?", segment.where)  # what follows may be keys of the caller's
                where = m[0] if m else None
                message = f"A text is longer than {each} characters."
                raise _invalid(message, where, "string_above_max_length")
        if total is not None and sum([len(segment.text) for segment in segments]) > total:
            message = f"The text of the request is longer than {total} characters."
            raise _invalid(message, None, "string_above_max_length")

    return check
