"""``headers``: header fields of requests and replies, dropped, renamed, set and added.

What lives here: the four operations and their templates. What must never live here: fields that frame a
message or belong to one connection; changing those would let one message be read as two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from policies.contract import Exchange, Headers, Policy, PolicyOptions, ReplyHead, RequestBody, at_once
from policies.globs import any_of

__all__ = ["HeadersOptions", "HeadersPolicy"]

# RFC 9110 7.6.1 and 6.4, RFC 9112 6: they describe one connection, or where a message ends.
_FRAMING = frozenset(
    {"connection", "content-length", "http2-settings", "keep-alive", "proxy-connection", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
# They change what a message means to its receiver; only with `allow`.
_GUARDED = frozenset({"content-encoding", "expect", "host", "te"})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_NAME_GLOB = re.compile(r"[!#$%&'*?+.^_`|~0-9A-Za-z-]+")
_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 5.5: control characters but tab
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_LONGEST = 256  # characters of one substituted value: names, not texts

Value = Callable[[Exchange], str | None]
_VALUES: dict[str, Value] = {
    "model": lambda x: x.model_asked,
    "caller": lambda x: x.caller,
    "tenant": lambda x: x.tenant,
    "request_id": lambda x: x.id,
    "route": lambda x: x.route,
}


def _label(name: str) -> Value:
    return lambda x: x.labels.get(name)


class Template:
    """A field value with placeholders. late: it needs what is known only once the body is read."""

    __slots__ = ("_parts", "late")

    def __init__(self, text: str) -> None:
        if _BAD_IN_VALUE.search(text):
            raise ValueError("a field value has no line ends and no control characters")
        self.late = False
        self._parts: list[str | Value] = []
        for m in _PIECE.finditer(text):
            whole, name = m[0], m[1]
            if whole in ("{{", "}}"):
                self._parts.append(whole[0])
            elif name is not None:
                self._parts.append(self._value(name))
            elif whole in ("{", "}"):
                raise ValueError("a brace stands alone; write {{ or }} for the character itself")
            else:
                self._parts.append(whole)

    def _value(self, name: str) -> Value:
        if name.startswith("label:") and len(name) > len("label:"):
            self.late = True
            return _label(name.removeprefix("label:"))
        if name not in _VALUES:
            known = ", ".join(f"{{{n}}}" for n in (*_VALUES, "label:NAME"))
            raise ValueError(f"unknown placeholder; known are {known}")
        self.late = self.late or name == "model"
        return _VALUES[name]

    def render(self, x: Exchange) -> bytes:
        """The value for an exchange, UTF-8; control characters of what is put in are dropped. Empty when
        nothing is left of it."""
        out = [p if isinstance(p, str) else _harmless(p(x)) for p in self._parts]
        return "".join(out).strip(" \t").encode("utf-8", "replace")


def _harmless(value: str | None) -> str:
    return _BAD_IN_VALUE.sub("", value[:_LONGEST]) if value else ""


def _name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("write the name of a header field, for instance X-Team")
    if "*" in value:  # a token may hold it, but nobody names a field so: a glob was meant
        raise ValueError("a glob may stand under drop only")
    if value.lower() in _FRAMING:
        raise ValueError(f"{value} frames the message or belongs to one connection; headgate keeps it right itself")
    return value


def _name_glob(value: str) -> str:
    if not _NAME_GLOB.fullmatch(value):
        raise ValueError("write the name of a header field, or a glob such as x-vllm-*")
    return value if "*" in value or "?" in value else _name(value)


def _template(value: str) -> str:
    Template(value)
    return value


Name = Annotated[str, AfterValidator(_name)]
NameGlob = Annotated[str, AfterValidator(_name_glob)]
Text = Annotated[str, AfterValidator(_template)]


class FieldEdits(PolicyOptions):
    """Done in this order: drop, rename, set, add. Names are compared without case.

    Values may hold ``{model}``, ``{caller}``, ``{tenant}``, ``{request_id}``, ``{route}`` and
    ``{label:NAME}``. A value of which nothing is left is not sent.
    """

    drop: list[NameGlob] = Field(default=[], examples=[["x-vllm-*"]])
    """Fields to remove, all their lines. Globs leave framing fields and those of ``allow`` alone."""
    rename: dict[Name, Name] = Field(default={}, examples=[{"X-Team": "X-Tenant"}])
    """Old names and new ones; lines keep their place."""
    set: dict[Name, Text] = Field(default={}, repr=False, examples=[{"X-Model": "{model}"}])
    """One line for each of these fields, instead of all that are there."""
    add: dict[Name, Text | list[Text]] = Field(default={}, repr=False, examples=[{"X-Served-By": "headgate"}])
    """Lines to put at the end, beside those that are there."""


class HeadersOptions(PolicyOptions):
    """What to do with the fields of requests and of replies."""

    request: FieldEdits = FieldEdits()
    """Request fields, before they go to the backend. ``{model}`` and labels are known once the body is
    read: with them in a value, headgate reads the body."""
    response: FieldEdits = FieldEdits()
    """Reply fields, before they go to the client."""
    allow: list[Annotated[str, AfterValidator(str.lower)]] = Field(default=[], examples=[["host"]])
    """Fields that this policy may touch only when named here: ``host``, ``expect``, ``te``,
    ``content-encoding``."""

    @model_validator(mode="after")
    def _only_allowed(self) -> HeadersOptions:
        if wrong := [n for n in self.allow if n not in _GUARDED]:
            raise ValueError(f"allow has {len(wrong)} names that are not among {', '.join(sorted(_GUARDED))}")
        for edits in (self.request, self.response):
            exact = [n for n in edits.drop if "*" not in n and "?" not in n]
            for name in (*exact, *edits.rename, *edits.rename.values(), *edits.set, *edits.add):
                if name.lower() in _GUARDED - set(self.allow):
                    raise ValueError(f"{name} changes what the message means; name it in allow if you mean it")
        return self


class _Edits:
    """The edits of one direction, compiled. now: with what is known at once; late: the rest."""

    def __init__(self, edits: FieldEdits, allow: list[str]) -> None:
        kept = _FRAMING | (_GUARDED - set(allow))
        self._dropped = any_of(edits.drop, fold=True)
        self._kept = kept
        self._any_drop = bool(edits.drop)
        self._renamed = {a.lower().encode(): b.encode() for a, b in edits.rename.items()}
        self._set = [(n, Template(v)) for n, v in edits.set.items()]
        self._add = [(n, Template(v)) for n, vs in edits.add.items() for v in (vs if isinstance(vs, list) else [vs])]
        self.late = any(t.late for _, t in (*self._set, *self._add))
        self.empty = not (edits.drop or edits.rename or self._set or self._add)

    def apply(self, x: Exchange, headers: Headers, *, late_follows: bool) -> None:
        """Do all; late_follows: lines that are to be added by ``apply_late`` are left out."""
        if self._any_drop:
            headers.fields = [f for f in headers.fields if not self._drops(f[0])]
        if self._renamed:
            headers.fields = [(self._renamed.get(k.lower(), k), v) for k, v in headers.fields]
        for name, template in self._set:
            _set(headers, name, template.render(x))
        for name, template in self._add:
            if not (late_follows and template.late):
                _add(headers, name, template.render(x))

    def apply_late(self, x: Exchange, headers: Headers) -> None:
        """Set and add once more what depends on the model and on labels."""
        for name, template in self._set:
            if template.late:
                _set(headers, name, template.render(x))
        for name, template in self._add:
            if template.late:
                _add(headers, name, template.render(x))

    def _drops(self, field: bytes) -> bool:
        name = field.decode("latin-1").lower()
        return name not in self._kept and self._dropped(name)


def _set(headers: Headers, name: str, value: bytes) -> None:
    if value:
        headers.set(name, value.decode("latin-1"))
    else:
        headers.remove(name)


def _add(headers: Headers, name: str, value: bytes) -> None:
    if value:
        headers.add(name, value.decode("latin-1"))


class HeadersPolicy(Policy):
    """Drops, renames, sets and adds header fields of requests and replies."""

    USE = "headers"
    Options = HeadersOptions
    EXAMPLE = """\
request:
  drop: ["x-internal-*"]
  set: {X-Caller: "{caller}"}
response:
  drop: [server, "x-vllm-*"]
  add: {X-Served-By: headgate}
"""

    def __init__(self, name: str, options: HeadersOptions) -> None:
        super().__init__(name, options)
        self._request = _Edits(options.request, options.allow)
        self._response = _Edits(options.response, options.allow)

    def phases(self) -> frozenset[str]:
        request = ["admit"] * (not self._request.empty) + ["inspect"] * self._request.late
        return frozenset(request + ["respond"] * (not self._response.empty))

    def describe(self) -> str:
        """Names of fields only: values may be secrets."""
        parts = [
            f"{side} "
            + ", ".join(
                f"{verb} {' '.join(n)}" for verb in ("drop", "rename", "set", "add") if (n := getattr(edits, verb))
            )
            for side, edits in (("request:", self.options.request), ("response:", self.options.response))
            if edits != FieldEdits()
        ]
        return "; ".join(parts) or "nothing to change"

    @at_once
    def admit(self, x: Exchange) -> None:
        # What depends on the body is set here too, with what is known: a client's own line must not pass as
        # ours on a route whose body nobody reads.
        self._request.apply(x, x.headers, late_follows=self._request.late)

    @at_once
    def inspect(self, x: Exchange, body: RequestBody) -> None:
        self._request.apply_late(x, x.headers)

    def respond(self, x: Exchange, head: ReplyHead) -> None:
        self._response.apply(x, head.headers, late_follows=False)
