"""JSON in and out without loss: the only place of the proxy that turns body bytes into a document and back.

What lives here: ``decode`` and ``encode``. What must never live here: knowledge of any API's fields, and any text of
a body in an error. A document is made of dict, list, str, int, bool, None and, for numbers that a plain int cannot
write back as they came, :class:`Number` and :class:`MinusZero`.

Of a key that occurs twice the last value counts, as it does for vLLM (CPython's json) and JSON.parse; because a body
that a policy read is encoded again from the document, an earlier value cannot reach the backend.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

__all__ = ["Embedded", "JsonError", "MinusZero", "Number", "decode", "decode_reply", "decode_text", "encode", "scan"]

_POSITION = re.compile(r" \(byte (\d+)\)")
_MINUS_ZERO = re.compile(rb"-0(?![0-9.eE])")  # also hits inside strings: then the slower decoder runs, that is all

_LONE = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """The bytes are not one JSON document (RFC 8259). position: byte offset of the fault, or None where unknown.

    The message names the fault and never quotes the body.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class Number(float):
    """A number with a fraction or an exponent; ``text`` is how the body wrote it (``1.0``, ``1e5``, ``1E400``)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        self = float.__new__(cls, text)
        self.text = text
        return self

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return (Number, (self.text,))


class MinusZero(int):
    """The integer ``-0``: equal to 0, written back as it came."""

    text = "-0"


class Embedded:
    """A document inside a document, whose rendering waits for ``encode``, so that many changes cost one rendering.

    doc: changed in place by policies. quoted: it stands in a string (tool-call arguments) and is written as one.
    """

    __slots__ = ("_names", "doc", "quoted")

    def __init__(self, doc: Any, *, quoted: bool) -> None:
        self.doc = doc
        self.quoted = quoted
        self._names: dict[int, tuple[dict[str, Any], dict[str, str]]] = {}

    def rename(self, box: dict[str, Any], old: str, new: str) -> None:
        """Give a key of ``box``, a dict inside ``doc``, another name; it takes effect when the document is rendered."""
        self._names.setdefault(id(box), (box, {}))[1][old] = new

    def render(self) -> Any:
        """The document with all changes; a str where it is quoted."""
        for box, names in self._names.values():
            items = list(box.items())
            box.clear()
            taken: dict[str, int] = {}
            for key, value in items:
                name = wanted = names.get(key, key)
                while name in box:  # two keys that became the same placeholder: neither value may be lost
                    taken[wanted] = taken.get(wanted, 1) + 1
                    name = f"{wanted} {taken[wanted]}"
                box[name] = value
        self._names.clear()
        return encode(self.doc).decode() if self.quoted else self.doc


def _write(value: Any) -> Any:
    if isinstance(value, Number | MinusZero):  # 0.15 us a number
        return msgspec.Raw(value.text)
    if isinstance(value, Embedded):
        return value.render()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


_decoder = msgspec.json.Decoder(float_hook=Number)
_reader = msgspec.json.Decoder()
_text = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder(enc_hook=_write)


def _integer(text: str) -> int:
    return MinusZero(0) if text == "-0" else int(text)


def decode(data: bytes) -> Any:
    """Bytes to a document that ``encode`` writes back with every number as it was. Raises JsonError.

    Refused: empty input, a byte order mark, NaN and Infinity, surrogates that are not a pair, bytes that are not
    UTF-8, anything after the document, nesting deeper than the interpreter's stack (about 1,000), integers of more
    digits than CPython converts (4,300).
    """
    try:
        doc = _decoder.decode(data)
        if b"-" in data and _MINUS_ZERO.search(data):  # faster than `b"-0" in data`, and that by far
            # Valid JSON by now; the standard decoder is the one that shows integers as text.
            doc = json.loads(data.decode(), parse_float=Number, parse_int=_integer)
        return doc
    except UnicodeDecodeError:
        # The codec's own offset is about one string, and its error object holds the body: neither goes on.
        raise JsonError("not UTF-8", _bad_utf8(data)) from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as e:
        raise _fault(str(e)) from None


def decode_reply(data: bytes) -> Any:
    """As ``decode``, but a surrogate without its other half is read as U+FFFD: servers whose strings are UTF-16 cut a
    character in two between events, and each half arrives alone. Raises JsonError."""
    try:
        return decode(data)
    except JsonError as fault:
        if b"\\u" not in data:
            raise
        try:
            doc = json.loads(data.decode(), parse_float=Number, parse_int=_integer, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise fault from None
    return _whole_characters(doc)


def _refuse(name: str) -> Any:
    raise ValueError


def _whole_characters(doc: Any) -> Any:
    """Replace lone surrogates in all strings, keys included."""
    top = [doc]
    todo: list[Any] = [top]
    while todo:
        box = todo.pop()
        if isinstance(box, dict):
            items = list(box.items())
            box.clear()
            box.update((_LONE.sub("\ufffd", key), value) for key, value in items)
        for key, value in box.items() if isinstance(box, dict) else enumerate(box):
            if isinstance(value, str):
                box[key] = _LONE.sub("\ufffd", value)
            elif isinstance(value, dict | list):
                todo.append(value)
    return top[0]


def scan(data: bytes) -> Any:
    """Bytes to plain dict, list, str, int, float, bool, None: for reading only, several times faster on floats.

    Raises JsonError for the same input as ``decode``, and for numbers beyond a double's range.
    """
    try:
        return _reader.decode(data)
    except UnicodeDecodeError:
        raise JsonError("not UTF-8", _bad_utf8(data)) from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as e:
        raise _fault(str(e)) from None


def decode_text(token: bytes) -> str | None:
    """One JSON string with its quotes to its text (about 40 ns); None when the bytes are anything else."""
    try:
        return _text.decode(token)
    except (msgspec.MsgspecError, ValueError):
        return None


def encode(doc: Any) -> bytes:
    """A document to compact JSON in raw UTF-8. Raises JsonError for what JSON cannot hold (lone surrogates)."""
    try:
        return _encoder.encode(doc)
    except UnicodeEncodeError:
        raise JsonError("text that UTF-8 cannot hold") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None


def _bad_utf8(data: bytes) -> int | None:
    try:
        data.decode()
    except UnicodeDecodeError as e:
        return e.start
    return None


def _fault(text: str) -> JsonError:
    found = _POSITION.search(text)
    position = int(found[1]) if found else None
    for known, public in (
        ("truncated", "the document ends too early"),
        ("trailing characters", "more than one document"),
        ("surrogate", "a surrogate that is not part of a pair"),
        ("Integer value", "an integer with too many digits"),
        ("integer string conversion", "an integer with too many digits"),
        ("nested", "nested too deeply"),
    ):
        if known in text:
            return JsonError(public, position)
    return JsonError("not valid JSON", position)
