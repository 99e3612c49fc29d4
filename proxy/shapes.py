"""Events that differ from an earlier one in their text, and in values that nobody reads: told by their bytes alone.

What lives here: Shape (such a form), the proof that one holds (``shape``), and the shapes that all streams share. What must
never live here: gates, order, any API's fields by name (a codec's ``varying`` and ``pads`` say which).

A shape is fixed bytes with holes: one for the text, which has to be one JSON string; the others take a whole number, a
string without escapes, or spaces. JSON can be read in one way only, so an event of this form holds what the event it was
learnt from holds, but for the values in the holes; that those are the text and what the codec calls varying is proved
by reading an event with other values in all of them. Whatever does not fit is read in full.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from proxy import jsonio
from proxy.dialects.contract import Parsed, Part, StreamCodec, Unreadable, set_path
from proxy.sse import parse

__all__ = ["SHARED", "Shape", "Shapes", "shape"]

_PROBE = "\x7fheadgate\x7f"
_OTHER_NUMBER, _OTHER_WORD, _OTHER_SPACE = 987654321012345, " !#[]~headgate", "     "
# One string, escapes and all (what is between the quotes is checked when it is decoded), and the other holes.
_STRING = rb'("(?:[^"\\]++|\\.)*+")'
_NUMBER = rb"(?:0|[1-9][0-9]{0,14})"  # no more digits than a double holds for sure
_WORD = rb'"[ !#-\[\]-~]{0,256}"'
_SPACE = rb" *"
_IS_WORD = re.compile(_WORD)
_PADDED = re.compile(rb"( +)\}[\r\n]+\Z")
_ALWAYS = frozenset(("sequence_number", "obfuscation", " "))  # vary from one event to the next, by what they mean
_NUMBERED = "sequence_number"
_LONGEST = 4096  # bytes of an event whose shape is shared
_SHAPES = 8  # per codec


class Shape(NamedTuple):
    """part: the text's place and channel. choices: those an event speaks of. prefix, suffix: the bytes before the first
    hole and behind the last. whole: reads what is between. tail: what is between, from the first hole on that is the text
    or always varies; None where the text alone does. number: what stands in ``sequence_number``, where that is no
    hole; -1 without one. tracked: ``StreamCodec.said`` wants to hear of it. general: holds for other streams, too."""

    part: Part
    choices: tuple[int, ...]
    prefix: bytes
    suffix: bytes
    whole: re.Pattern[bytes]
    tail: re.Pattern[bytes] | None
    number: int
    numbered: bool
    tracked: bool
    general: bool

    def match(self, raw: bytes) -> re.Match[bytes] | None:
        """``text`` and ``number`` of an event of this shape; that ``text`` is valid is still to be seen."""
        prefix, suffix = self.prefix, self.suffix
        if not raw.startswith(prefix) or not raw.endswith(suffix) or len(raw) < len(prefix) + len(suffix):
            return None
        return self.whole.fullmatch(raw, len(prefix), len(raw) - len(suffix))


class Shapes:
    """The shapes that streams have met, by the kind of their codec: the first text of a new stream need not be learnt. A
    shape is a fact about a codec alone, and holds no value of a stream (what varies is a hole)."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[type[StreamCodec], list[Shape]] = {}

    def find(self, raw: bytes, codec: StreamCodec) -> Shape | None:
        """The shape of an event that has one valid text; the latest come first."""
        known = self._known.get(type(codec), ())
        for n, one in enumerate(known):
            found = one.match(raw)
            if found is not None and jsonio.decode_text(found["text"]):
                if n:
                    self.add(one, codec)
                return one
        return None

    def add(self, shape: Shape, codec: StreamCodec) -> None:
        known = self._known.setdefault(type(codec), [])
        known[:] = [shape, *(one for one in known if one is not shape)][:_SHAPES]


SHARED = Shapes()
"""Of all streams of this process."""


class _Hole(NamedTuple):
    """start, end: where in the event. key: the varying key; empty for the text, a space for padding."""

    start: int
    end: int
    key: str
    pattern: bytes
    other: bytes


def shape(raw: bytes, parsed: Parsed, codec: StreamCodec) -> Shape | None:
    """The shape of an event, which ``codec`` has read as ``parsed``; None where it is more than one text, or its form
    cannot be told for sure."""
    doc = parsed.doc
    if doc is None or not _lone(parsed):
        return None
    holes = _holes(raw, doc, parsed.parts[0].text, codec)
    if holes is None or not _proved(raw, parsed, codec, holes):
        return None
    number = doc.get(_NUMBERED)
    keys = {hole.key for hole in holes}
    first = next(n for n, hole in enumerate(holes) if not hole.key or hole.key in _ALWAYS)
    tail = _pattern(raw, holes[first:])
    whole = _pattern(raw, holes[:first])
    whole += (re.escape(raw[holes[first - 1].end : holes[first].start]) if first else b"") + b"(?P<tail>" + tail + b")"
    return Shape(
        parsed.parts[0]._replace(text=""),
        parsed.choices,
        raw[: holes[0].start],
        raw[holes[-1].end :],
        re.compile(whole, re.DOTALL),
        re.compile(tail, re.DOTALL) if keys & _ALWAYS else None,
        number if type(number) is int else -1,
        _NUMBERED in keys,
        parsed.track,
        len(raw) <= _LONGEST and not parse(raw).has_id
        and all(key in keys for key in codec.varying if doc.get(key) is not None),
    )  # fmt: skip


def _pattern(raw: bytes, holes: list[_Hole]) -> bytes:
    out = b""
    at = holes[0].start if holes else 0
    for hole in holes:
        out += re.escape(raw[at : hole.start]) + hole.pattern
        at = hole.end
    return out


def _holes(raw: bytes, doc: dict[str, Any], text: str, codec: StreamCodec) -> list[_Hole] | None:
    """Where the text and the varying values stand, in order; None where the text's place cannot be told. A value that
    cannot be found stays fixed."""
    token = jsonio.encode(text)
    at = raw.find(token)
    if at < 0 or raw.find(token, at + 1) >= 0:
        return None
    holes = [_Hole(at, at + len(token), "", b"(?P<text>" + _STRING[1:], jsonio.encode(_PROBE))]
    for key in codec.varying:
        hole = _varying(raw, key, doc.get(key))
        if hole is not None:
            holes.append(hole)
    padding = _PADDED.search(raw) if codec.pads else None
    if padding is not None:
        holes.append(_Hole(padding.start(1), padding.end(1), " ", _SPACE, _OTHER_SPACE.encode()))
    holes.sort()
    return holes if all(one.end <= two.start for one, two in pairwise(holes)) else None


def _varying(raw: bytes, key: str, value: Any) -> _Hole | None:
    """Where a value stands, if it is one that a hole may take."""
    if type(value) is int and 0 <= value < 10**15:
        token, pattern, other = b"%d" % value, _NUMBER, b"%d" % _OTHER_NUMBER
        pattern = b"(?P<number>" + pattern + b")" if key == _NUMBERED else pattern
    elif type(value) is str and value.isascii() and _IS_WORD.fullmatch(token := b'"%b"' % value.encode()):
        pattern, other = _WORD, b'"%b"' % _OTHER_WORD.encode()
    else:
        return None
    for colon in (b":", b": "):
        name = b'"%b"%b' % (key.encode(), colon)
        at = raw.find(name + token)
        end = at + len(name + token)
        if at >= 0 and raw.find(name + token, at + 1) < 0 and raw[end : end + 1] in (b",", b"}", b" "):
            return _Hole(at + len(name), end, key, pattern, other)
    return None


def _proved(raw: bytes, parsed: Parsed, codec: StreamCodec, holes: list[_Hole]) -> bool:
    """Other values in all holes are read as those values, and nothing else changes."""
    event, at = b"", 0
    for hole in holes:
        event += raw[at : hole.start] + hole.other
        at = hole.end
    part = parsed.parts[0]
    try:
        probe = codec.parse(parse(event + raw[at:]))
        want = jsonio.decode_reply(parse(raw).data or b"")
    except (Unreadable, jsonio.JsonError):
        return False
    set_path(want, part.path, _PROBE)
    for hole in holes:
        if hole.key.strip():
            want[hole.key] = _OTHER_WORD if hole.pattern is _WORD else _OTHER_NUMBER
    return (
        _lone(probe) and probe.parts == [part._replace(text=_PROBE)] and probe.doc == want
        and probe.choices == parsed.choices and probe.track == parsed.track
    )  # fmt: skip


def _lone(parsed: Parsed) -> bool:
    """One text and nothing else that counts."""
    return parsed.simple and not (
        parsed.follows or parsed.copies or parsed.ends or parsed.terminal or parsed.error or parsed.usage is not None
    )
