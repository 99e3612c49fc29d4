"""The checks of a request's body that ``request_guard`` is made of.

What lives here: functions that make a check from its limits. What must never live here: options; what was
sent, in a message. A check gets the exchange, the body and its document (a JSON object), and raises Refuse.
The codes are those of the OpenAI API for the same mistakes (``integer_above_max_value``,
``unsupported_parameter``, ...).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from policies.contract import Exchange, Kind, Refuse, RequestBody
from policies.document import AllowTree, DottedPath, MediaHosts, has_control, is_name, media_urls, shown, strings
from policies.globs import StrTest, any_of, remembered

Check = Callable[[Exchange, RequestBody, dict[str, Any]], None]
Number = int | float


def _invalid(message: str, param: str | None, code: str) -> Refuse:
    return Refuse(Kind.INVALID_REQUEST, message, param=param, code=code)


def model_test(allow: list[str], deny: list[str]) -> StrTest:
    """True for the models that may be asked for."""
    allowed = any_of(allow or ["*"])
    denied = any_of(deny, fold=True)
    return remembered(lambda model: allowed(model) and not denied(model))


def model_check(allow: list[str], deny: list[str]) -> Check:
    passes = model_test(allow, deny)

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        asked = doc.get("model")
        if asked is None and x.model_asked is None:
            raise _invalid("'model' is required.", "model", "missing_required_parameter")
        for model in (asked, x.model_asked):
            if model is None:
                continue
            if not isinstance(model, str):
                raise _invalid("'model' must be a string.", "model", "invalid_type")
            if not passes(model):
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


def deny_check(path: DottedPath) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        if path.within(doc):
            message = f"'{path.name}' is not allowed here."
            raise Refuse(Kind.FORBIDDEN, message, param=path.name, code="unsupported_parameter")

    return check


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


def number_check(bounds: Bounds) -> Check:
    name, low, high, whole, flag = bounds
    path = None if is_name(name) else DottedPath(name)
    word = "an integer" if whole else "a number"
    types: tuple[type, ...] = (int,) if whole else (int, float)

    def one(value: Any) -> None:
        if flag and isinstance(value, bool):
            value = int(value)
        fits = isinstance(value, types) and not isinstance(value, bool)
        if not fits:
            raise _invalid(f"'{name}' must be {word}.", name, "invalid_type")
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid(f"'{name}' must be {word}.", name, "invalid_value")
        kind = "integer" if isinstance(value, int) else "decimal"
        if high is not None and value > high:
            raise _invalid(f"'{name}' must be at most {high}.", name, f"{kind}_above_max_value")
        if low is not None and value < low:
            raise _invalid(f"'{name}' must be at least {low}.", name, f"{kind}_below_min_value")

    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        if path is None:
            if (value := doc.get(name)) is not None:
                one(value)
        else:
            for value in path.find(doc):
                one(value)

    return check


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


def media_check(hosts: MediaHosts) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        for key, address in media_urls(doc):
            if not hosts.allows(address):
                raise _invalid(f"An address in '{key}' is not allowed here.", key, "invalid_value")

    return check


def control_check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
    if any(map(has_control, strings(doc))):
        raise _invalid("The request body holds control characters, which are not allowed here.", None, "invalid_value")


def text_check(each: int | None, total: int | None) -> Check:
    def check(x: Exchange, body: RequestBody, doc: dict[str, Any]) -> None:
        sum_ = 0
        for segment in body.segments:
            size = len(segment.text)
            sum_ += size
            if each is not None and size > each:
                m = re.match(r"[a-z_]+(\[[0-9]+\])?", segment.where)  # what follows may be keys of the caller's
                where = m[0] if m else None
                message = f"A text is longer than {each} characters."
                raise _invalid(message, where, "string_above_max_length")
        if total is not None and sum_ > total:
            message = f"The text of the request is longer than {total} characters."
            raise _invalid(message, None, "string_above_max_length")

    return check
