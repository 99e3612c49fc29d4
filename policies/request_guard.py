"""``request_guard``: what a request may ask for.

What lives here: the options and the order of the checks. What must never live here: a request's text in a
message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from policies.contract import Exchange, Kind, Policy, PolicyOptions, Refuse, RequestBody, at_once
from policies.document import AllowTree, DottedPath, MediaHosts
from policies.globs import any_of, is_plain
from policies.request_checks import (
    Bounds,
    Check,
    allow_check,
    completions_check,
    control_check,
    deny_check,
    media_check,
    messages_check,
    model_check,
    number_check,
    required_check,
    text_check,
)
from policies.request_quick import quick_look
from policies.units import Size

__all__ = ["RequestGuard", "RequestGuardOptions"]


def _dotted(value: str) -> str:
    if not re.fullmatch(r"[^.|]+(\.[^.|]+)*", value):
        raise ValueError("write a parameter such as logit_bias, or stream_options.include_usage")
    return value


def _allowed(value: str) -> str:
    if re.search(r"[*?].*\.", _dotted(value)):
        raise ValueError("write a glob in the last part only, for instance response_format.*")
    return value


def _alternatives(value: str) -> str:
    for name in value.split("|"):
        _dotted(name)
    return value


def _route(value: str) -> str:
    if not value.startswith(("/", "*")):
        raise ValueError("write a path that begins with / or *, for instance /v1/chat/*")
    return value


def _method(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z-]*", value):
        raise ValueError("write a method in capitals, for instance POST")
    return value


Param = Annotated[str, AfterValidator(_dotted)]
Route = Annotated[str, AfterValidator(_route)]
Finite = int | Annotated[float, Field(allow_inf_nan=False)]


class Range(PolicyOptions):
    """Bounds of a number, both included."""

    min: Finite | None = None
    """The smallest value allowed."""
    max: Finite | None = None
    """The largest value allowed."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("write a min, a max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self


Count = Annotated[int, Field(ge=0)]
Limit = Count | Range


class Routes(PolicyOptions):
    """Globs over the request path."""

    allow: list[Route] = Field(default=[], examples=[["/v1/chat/completions", "/v1/models"]])
    """Only these; empty means all."""
    deny: list[Route] = Field(default=[], examples=[["/v1/files*"]])
    """Not these, also when ``allow`` has them. Compared without case, and without a slash at the end."""


class Params(PolicyOptions):
    """Globs over body parameters, dotted for inner ones (``stream_options.include_usage``)."""

    allow: list[Annotated[str, AfterValidator(_allowed)]] = Field(default=[], examples=[["model", "messages"]])
    """Only these; empty means all. Of a dotted name the last part may be a glob."""
    deny: list[Param] = Field(default=[], examples=[["logit_bias", "guided_*"]])
    """Not these, also when ``allow`` has them."""


class RequestGuardOptions(PolicyOptions):
    """A number alone is a maximum; ``{min: ..., max: ...}`` says more. A parameter that is absent or null
    is in range."""

    max_body: Annotated[Size, Field(gt=0)] | None = None
    """Bytes of the request body."""
    methods: list[Annotated[str, AfterValidator(_method)]] = []
    """Only these request methods; empty means all."""
    routes: Routes = Routes()
    """Which paths may be asked for. With any listed here, a path that could be read in two ways is refused:
    with %-escapes, empty or dot segments, path parameters or backslashes."""
    models: list[str] = Field(default=[], examples=[["llama-*"]])
    """Globs over the model asked for: only these. A request must then name its model."""
    deny_models: list[str] = []
    """Globs over the model asked for: not these, whatever their case. A request must then name its model."""
    max_tokens: Limit | None = None
    """For ``max_tokens``, ``max_completion_tokens`` and ``max_output_tokens``. A request without any of
    them is left to the backend's own limit; ``required`` can ask for one."""
    n: Limit | None = None
    """Choices for each prompt."""
    best_of: Limit | None = None
    """Candidates drawn on the server for each prompt."""
    max_completions: Count | None = None
    """Prompts in the request, times the larger of ``n`` and ``best_of``."""
    logprobs: Limit | None = None
    """Log probabilities of completions; true in a chat counts as 1."""
    top_logprobs: Limit | None = None
    """Alternatives for each token."""
    ranges: dict[Param, Range] = Field(default={}, examples=[{"temperature": {"min": 0, "max": 1.5}}])
    """Bounds of any other number, by dotted name."""
    params: Params = Params()
    """Which parameters a body may have."""
    required: list[Annotated[str, AfterValidator(_alternatives)]] = Field(
        default=[], examples=[["max_tokens|max_completion_tokens"]]
    )
    """Parameters that must be there and not null; ``|`` between names asks for one of them."""
    max_messages: Count | None = None
    """Messages in ``messages``, or items in ``input``."""
    max_text: Count | None = None
    """Characters in each piece of text."""
    max_total_text: Count | None = None
    """Characters in all text of the request."""
    control_characters: Literal["allow", "refuse"] = "allow"
    """``refuse``: no string of the body, keys included, may hold C0 (but tab and line ends), DEL or C1
    characters."""
    media_urls: Literal["allow", "refuse"] | list[str] = "allow"
    """Addresses that the backend would fetch (images, audio, video, files, tool servers): ``refuse`` lets
    only ``data:`` through, a list of host globs those hosts as well. This stops requests into the backend's
    own network."""


_TOKEN_PARAMS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_TEXT_OPTIONS = ("max_text", "max_total_text", "control_characters", "media_urls")
_HEAD_OPTIONS = ("max_body", "methods", "routes")


class RequestGuard(Policy):
    """Refuses requests that ask for too much: size, models, routes, parameters, ranges, text lengths.

    Refusals are 413 for ``max_body``, 403 for methods, routes, models and parameters that are not allowed,
    and 400 for values out of range. The message names the parameter and the limit, never what was sent.
    """

    USE = "request_guard"
    Options = RequestGuardOptions
    EXAMPLE = """\
max_body: 10MB
max_tokens: 4096
n: 4
models: ["llama-*"]
ranges:
  temperature: {min: 0, max: 1.5}
params:
  deny: [logit_bias]
max_messages: 200
control_characters: refuse
media_urls: refuse
"""

    options: RequestGuardOptions

    def __init__(self, name: str, options: RequestGuardOptions) -> None:
        super().__init__(name, options)
        o, default = options, RequestGuardOptions()
        self._given = [f for f in RequestGuardOptions.model_fields if getattr(o, f) != getattr(default, f)]
        self._checks: tuple[Check, ...] = tuple(_checks(o))
        self._look, rest = quick_look(o, list(_limits(o)))
        self._rest = tuple(_checks(rest))
        self._allow_route = any_of(o.routes.allow or ["*"])
        self._deny_route = any_of(o.routes.deny, fold=True)
        self._routes = bool(o.routes.allow or o.routes.deny)
        self._methods = frozenset(o.methods)
        self._max_body = o.max_body

    @property
    def reads(self) -> frozenset[Literal["request", "reply"]]:
        return frozenset({"request"} if any(f in _TEXT_OPTIONS for f in self._given) else ())

    def phases(self) -> frozenset[str]:
        head = any(f in _HEAD_OPTIONS for f in self._given)
        return frozenset(["admit"] * head + ["inspect"] * bool(self._checks))

    def describe(self) -> str:
        return ", ".join(_shown(f, getattr(self.options, f)) for f in self._given) or "nothing to check"

    @at_once
    def admit(self, x: Exchange) -> None:
        limit = self._max_body
        if self._methods and x.method not in self._methods:
            raise Refuse(Kind.FORBIDDEN, "This method is not allowed here.")
        if self._routes:
            self._check_route(x.path)
        if limit is not None:
            if x.max_body is None or x.max_body > limit:
                x.max_body = limit
            length = x.headers.get("content-length")
            if x.bytes_in > limit or (length is not None and _over(length, limit)):
                raise _too_large(limit)

    def _check_route(self, path: str) -> None:
        if not is_plain(path):
            raise Refuse(Kind.FORBIDDEN, "The path is not in its plain form; such paths are not allowed here.")
        bare = path.rstrip("/") or "/"
        if not self._allow_route(path) or self._deny_route(path) or self._deny_route(bare):
            raise Refuse(Kind.FORBIDDEN, "This route is not allowed here.")

    @at_once
    def inspect(self, x: Exchange, body: RequestBody) -> None:
        limit = self._max_body
        if limit is not None and body.size > limit:
            raise _too_large(limit)
        doc = body.doc
        if not isinstance(doc, dict):
            raise Refuse(Kind.INVALID_REQUEST, "The request body must be a JSON object.", code="invalid_type")
        for check in self._rest if self._look(x, body, doc) else self._checks:
            check(x, body, doc)


def _over(length: str, limit: int) -> bool:
    """Compare a Content-Length without making a number of thousands of digits; what is no number is the server's
    business."""
    digits = length.lstrip("0")
    return length.isascii() and length.isdigit() and (len(digits) > 19 or int(digits or "0") > limit)


def _too_large(limit: int) -> Refuse:
    return Refuse(Kind.TOO_LARGE, f"The request body is larger than {limit} bytes.")


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Routes | Params):
        return f"{name} " + ", ".join(f"{k} {' '.join(v)}" for k in ("allow", "deny") if (v := getattr(value, k)))
    if isinstance(value, dict):
        return ", ".join(_shown(k, v) for k, v in value.items())
    if isinstance(value, Range):
        low = "" if value.min is None else f" >= {value.min}"
        high = "" if value.max is None else f" <= {value.max}"
        return name + low + high
    if isinstance(value, int):
        return f"{name} <= {value}"
    return f"{name} {' '.join(value) if isinstance(value, list) else value}"


def _checks(o: RequestGuardOptions) -> Iterator[Check]:
    """The checks that the options ask for, cheapest first; made once, when the policy is loaded."""
    if o.models or o.deny_models:
        yield model_check(o.models, o.deny_models)
    if o.params.allow:
        yield allow_check(AllowTree(o.params.allow))
    for name in o.params.deny:
        yield deny_check(DottedPath(name))
    for name in o.required:
        yield required_check(name)
    for bounds in _limits(o):
        yield number_check(bounds)
    if o.max_completions is not None:
        yield completions_check(o.max_completions)
    if o.max_messages is not None:
        yield messages_check(o.max_messages)
    if o.media_urls != "allow":
        yield media_check(MediaHosts([] if o.media_urls == "refuse" else list(o.media_urls)))
    if o.control_characters == "refuse":
        yield control_check
    if o.max_text is not None or o.max_total_text is not None:
        yield text_check(o.max_text, o.max_total_text)


def _limits(o: RequestGuardOptions) -> Iterator[Bounds]:
    if o.max_tokens is not None:
        for name in _TOKEN_PARAMS:
            yield Bounds(name, *_range(o.max_tokens), whole=True)
    for name in ("n", "best_of", "logprobs", "top_logprobs"):
        if (limit := getattr(o, name)) is not None:
            yield Bounds(name, *_range(limit), whole=True, flag=name == "logprobs")
    for name, bounds in o.ranges.items():
        yield Bounds(name, bounds.min, bounds.max, whole=False)


def _range(limit: int | Range) -> tuple[Finite | None, Finite | None]:
    return (limit.min, limit.max) if isinstance(limit, Range) else (None, limit)
