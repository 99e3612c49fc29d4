"""Forms: ``multipart/form-data`` in and out (RFC 7578, RFC 2046 5.1), the bodies of audio and image endpoints.

What lives here: reading a form so that what policies see is what any server would read, and writing changed fields back
with every other byte as it was. What must never live here: which field means what (dialects/), anything of a body in an
error.

Servers differ in what they make of a sloppy form: one takes a line end, a padded boundary, an escaped quote or an encoding
for what another does not, so a text could be shown to the policies as a file. All that is read in more than one way is
``NotAForm``; forms as browsers and HTTP libraries write them are none of that.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from proxy import jsonio
from proxy.dialects.leaves import number_text

__all__ = ["Form", "NotAForm", "boundary_of", "read"]

MOST_PARTS = 1000
"""As many fields, and as many files, as Starlette (vLLM's server) takes."""
LONGEST_HEAD = 8192
"""Bytes of one part's header fields."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"[^"\\\x00-\x1f\x7f]*"'  # with a backslash it is read in two ways
_PARAM = re.compile(rb"[ \t]*;[ \t]*(%b)=(%b|%b)" % (_TOKEN, _TOKEN, _QUOTED))
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046 5.1.1
_FIELD = re.compile(rb"(%b):[ \t]*([^\x00\r\n]*)" % _TOKEN)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,4})?")
_ESCAPED = re.compile('[";\\\\\x00-\x1f\x7f]')
_UTF8 = (b"utf-8", b"utf8", b"us-ascii")


class NotAForm(ValueError):
    """The bytes are no form, or one that servers read in different ways. The message names the reason and quotes nothing."""


class _Part(NamedTuple):
    """start: of the delimiter before it. value, end: its content. filename: where that stands in the header, or None for a
    plain field. given: what the document says of it."""

    name: str
    start: int
    value: int
    end: int
    filename: tuple[int, int] | None
    given: Any


class Form:
    """A form that was read. doc: the fields by name, in order, for policies to read and change: text, numbers and booleans as
    JSON has them, a list where a name comes several times; a file is ``{filename, content_type, size}``."""

    __slots__ = ("_boundary", "_close", "_parts", "_raw", "doc")

    def __init__(self, raw: bytes, boundary: bytes, parts: list[_Part], close: int) -> None:
        self._raw = raw
        self._boundary = boundary
        self._parts = parts
        self._close = close
        self.doc: dict[str, Any] = {}
        for name, rows in _by_name(parts).items():
            values = [dict(p.given) if isinstance(p.given, dict) else p.given for p in rows]
            self.doc[name] = values[0] if len(values) == 1 else values

    def __repr__(self) -> str:
        return f"<Form of {len(self._parts)} parts>"

    def encode(self, doc: dict[str, Any]) -> bytes | None:
        """The form with the fields of ``doc``: changed ones in their place, missing and null ones left out, new ones at the
        end. None when nothing was changed. Raises NotAForm when a text cannot be written."""
        out: list[bytes | memoryview] = []
        raw, at = memoryview(self._raw), 0
        known = _by_name(self._parts)
        new: dict[int, Any] = {}
        more: list[tuple[str, Any]] = []
        for name in dict.fromkeys([*known, *doc]):
            value = doc.get(name)
            items = value if isinstance(value, list) else [] if value is None else [value]
            parts = known.get(name, [])
            new.update((p.start, items[n] if n < len(items) else None) for n, p in enumerate(parts))
            more += [(name, item) for item in items[len(parts) :]]
        for part in self._parts:
            for start, end, written in self._changes(part, new[part.start]):
                out += raw[at:start], written
                at = end
        out += [raw[at : self._close], *(self._added(name, value) for name, value in more), raw[self._close :]]
        return b"".join(out) if len(out) > 2 or more else None

    def _changes(self, part: _Part, value: Any) -> list[tuple[int, int, bytes]]:
        """(start, end, new bytes) of a part."""
        if value is None:
            return [(part.start, part.end, b"")]
        if isinstance(part.given, dict):
            name = value.get("filename") if isinstance(value, dict) else None
            if part.filename is None or not isinstance(name, str) or name == part.given["filename"]:
                return []
            return [(*part.filename, _quoted(name))]
        if _text(value) == _text(part.given):
            return []
        return [(part.value, part.end, self._content(value))]

    def _added(self, name: str, value: Any) -> bytes:
        head = b"\r\n--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n" % (self._boundary, _quoted(name))
        return head + self._content(value)

    def _content(self, value: Any) -> bytes:
        try:
            data = _text(value).encode()
        except UnicodeEncodeError:
            raise NotAForm("text that UTF-8 cannot hold") from None
        line = b"--" + self._boundary
        if data.startswith(line) or b"\n" + line in data or b"\r" + line in data:
            raise NotAForm("a text that holds the boundary")
        return data


def _by_name(parts: list[_Part]) -> dict[str, list[_Part]]:
    out: dict[str, list[_Part]] = {}
    for part in parts:
        out.setdefault(part.name, []).append(part)
    return out


def read(raw: bytes, content_type: bytes) -> Form:
    """A body and its Content-Type to a form, in one pass over the bytes. Raises NotAForm."""
    boundary = boundary_of(content_type)
    line = b"--" + boundary
    delimiter = b"\n" + line
    if raw.find(b"\r" + line) >= 0:
        raise NotAForm("a boundary after a bare CR")
    start, after = (0, len(line)) if raw.startswith(line) else _next(raw, delimiter, 0)
    parts: list[_Part] = []
    while raw[after : after + 2] != b"--":
        if raw[after : after + 2] != b"\r\n":
            raise NotAForm("a boundary that does not end its line")
        if len(parts) == MOST_PARTS:
            raise NotAForm("too many parts")
        blank = raw.find(b"\r\n\r\n", after, after + LONGEST_HEAD)
        end, beyond = _next(raw, delimiter, after)
        if blank < 0 or blank + 4 > end:
            raise NotAForm("a part without a head, or with a long one")
        parts.append(_part(raw, start, after + 2, blank + 2, end))
        start, after = end, beyond
    if raw[after + 2 : after + 4] not in (b"\r\n", b"") or raw.find(delimiter, after) >= 0:
        raise NotAForm("a boundary after the last one")
    if not parts:
        raise NotAForm("no parts")
    return Form(raw, boundary, parts, start)


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type gives. Raises NotAForm."""
    kind, found = _params(content_type)
    boundary = found.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise NotAForm("no boundary")
    if found.get(b"charset", b"utf-8").lower() not in _UTF8:
        raise NotAForm("another charset than UTF-8")
    return boundary


def _next(raw: bytes, delimiter: bytes, at: int) -> tuple[int, int]:
    """Where the next delimiter begins, its line end included, and ends."""
    found = raw.find(delimiter, at)
    if found < 0:
        raise NotAForm("no last boundary")
    if found == 0 or raw[found - 1] != 0x0D:
        raise NotAForm("a boundary after a bare LF")
    return found - 1, found + len(delimiter)


def _part(raw: bytes, start: int, head: int, blank: int, end: int) -> _Part:
    """One part. head, blank: of its header fields, line ends included."""
    fields: dict[bytes, tuple[int, bytes]] = {}
    at = head
    while at < blank:
        stop = raw.find(b"\r\n", at)
        found = _FIELD.fullmatch(raw, at, stop)
        key = found[1].lower() if found else b""
        if found is None or key in fields:
            raise NotAForm("a header field that cannot be read")
        fields[key] = found.start(2), found[2].rstrip(b" \t")
        at = stop + 2
    if fields.get(b"content-transfer-encoding", (0, b"binary"))[1].lower() not in (b"7bit", b"8bit", b"binary"):
        raise NotAForm("a transfer encoding")
    kind, found_type = _params(fields.get(b"content-type", (0, b"text/plain"))[1])
    where, disposition = fields.get(b"content-disposition", (0, b""))
    what, named = _params(disposition)
    if what != b"form-data" or b"name" not in named or any(b"*" in key for key in named) or any(
        b";" in text for text in named.values()  # some servers cut there, quoted or not
    ):
        raise NotAForm("a part without a plain name")
    if kind.startswith(b"multipart/"):  # several files in one part (RFC 2388 4.2)
        raise NotAForm("a part of parts")
    value = blank + 2
    name = _decoded(named[b"name"])
    if b"filename" in named:
        known = {"filename": _decoded(named[b"filename"]), "content_type": kind.decode("ascii"), "size": end - value}
        return _Part(name, start, value, end, _span(disposition, where), known)
    if found_type.get(b"charset", b"utf-8").lower() not in _UTF8:
        raise NotAForm("another charset than UTF-8")
    text = _decoded(raw[value:end])
    if name == "_charset_" and text.lower() not in ("utf-8", "utf8"):  # RFC 7578 4.6
        raise NotAForm("another charset than UTF-8")
    return _Part(name, start, value, end, None, text if name == "model" else _scalar(text))


def _params(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """``form-data; name="a"`` to its first word and its parameters, each without quotes. Raises NotAForm."""
    kind = value.partition(b";")[0]
    out: dict[bytes, bytes] = {}
    at = len(kind)
    while at < len(value):
        found = _PARAM.match(value, at)
        if found is None:
            if not value[at:].strip(b" \t;"):
                break
            raise NotAForm("a parameter that cannot be read")
        key, at = found[1].lower(), found.end()
        if key in out:
            raise NotAForm("a parameter twice")
        out[key] = found[2][1:-1] if found[2][:1] == b'"' else found[2]
    kind = kind.strip(b" \t").lower()
    if not kind.isascii():
        raise NotAForm("a type that cannot be read")
    return kind, out


def _span(disposition: bytes, where: int) -> tuple[int, int]:
    """Where the value of ``filename`` stands in the body, quotes included."""
    for found in _PARAM.finditer(disposition, disposition.find(b";")):
        if found[1].lower() == b"filename":
            return where + found.start(2), where + found.end(2)
    raise NotAForm("no filename")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotAForm("text that is not UTF-8") from None


def _scalar(text: str) -> Any:
    """A field as JSON would have it, where it is written in just that way."""
    if text in ("true", "false"):
        return text == "true"
    return jsonio.decode(text.encode()) if _NUMBER.fullmatch(text) else text


def _text(value: Any) -> str:
    """A field as a form has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    return jsonio.encode(value).decode()


def _quoted(text: str) -> bytes:
    """A name or file name, escaped as browsers do (HTML, "multipart form data"), and where servers could cut it."""
    try:
        return b'"%b"' % _ESCAPED.sub(lambda sign: f"%{ord(sign[0]):02X}", text).encode()
    except UnicodeEncodeError:
        raise NotAForm("text that UTF-8 cannot hold") from None
