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

from policies.contract import Channel
from proxy import jsonio
from proxy.dialects.contract import Parsed, Part, StreamCodec, Unreadable, set_path
from proxy.sse import parse

__all__ = ["SHARED", "Quiet", "Shape", "Shapes", "quiet", "shape"]

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


class Quiet(NamedTuple):
    """The shape of an event without text: one that opens a choice or ends one, or ``[DONE]``. choices, ends, terminal: as in
    Parsed. finishes: choice to finish reason. The others: as in Shape; ``whole`` is None where nothing varies."""

    choices: tuple[int, ...]
    ends: tuple[int | Channel, ...]
    terminal: bool
    finishes: tuple[tuple[int, str], ...]
    prefix: bytes
    suffix: bytes
    whole: re.Pattern[bytes] | None


class Shapes:
    """The shapes that streams have met, by the kind of their codec: the first text of a new stream need not be learnt. A
    shape is a fact about a codec alone, and holds no value of a stream (what varies is a hole)."""

    __slots__ = ("_known", "_quiet")

    def __init__(self) -> None:
        self._known: dict[type[StreamCodec], list[Shape]] = {}
        self._quiet: dict[type[StreamCodec], list[Quiet]] = {}

    def find(self, raw: bytes, codec: StreamCodec) -> Shape | None:
        """The shape of an event that has one valid text; the latest come first."""
        found = self.read(raw, codec)
        return None if found is None else found[0]

    def read(self, raw: bytes, codec: StreamCodec) -> tuple[Shape, re.Match[bytes], str] | None:
        """As ``find``, with what stands in the holes, and the text."""
        for n, one in enumerate(self._known.get(type(codec), ())):
            found = one.match(raw)
            text = jsonio.decode_text(found["text"]) if found is not None else None
            if found is not None and text:
                if n:
                    self.add(one, codec)
                return one, found, text
        return None

    def add(self, shape: Shape, codec: StreamCodec) -> None:
        known = self._known.setdefault(type(codec), [])
        known[:] = [shape, *(one for one in known if one is not shape)][:_SHAPES]


    def find_quiet(self, raw: bytes, codec: StreamCodec) -> Quiet | None:
        """The shape of an event without text."""
        for one in self._quiet.get(type(codec), ()):
            _, _, _, _, prefix, suffix, whole = one
            if not raw.endswith(suffix) or not raw.startswith(prefix):
                continue
            if whole is None:
                if len(raw) == len(prefix):
                    return one
            elif len(raw) >= len(prefix) + len(suffix) and whole.fullmatch(raw, len(prefix), len(raw) - len(suffix)):
                return one
        return None

    def add_quiet(self, quiet: Quiet, codec: StreamCodec) -> None:
        known = self._quiet.setdefault(type(codec), [])
        known[:] = [quiet, *known][:_SHAPES]


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


def quiet(raw: bytes, parsed: Parsed, codec: StreamCodec) -> Quiet | None:
    """The shape of an event without text, which ``codec`` has read as ``parsed``; None where more has to be minded than which
    choices it opens or ends, or where its form cannot be told for sure."""
    if not codec.quiet or len(raw) > _LONGEST or not _mute(parsed) or parse(raw).has_id:
        return None
    ends = tuple(parsed.ends)
    doc = parsed.doc
    if doc is None:  # nothing but `[DONE]`: a comment may hold anything, and is as quickly read
        return Quiet(parsed.choices, ends, True, (), raw, b"", None) if parsed.terminal else None
    holes = _holes(raw, doc, None, codec)
    if not holes or not _proved(raw, parsed, codec, holes):
        return None
    if not {hole.key for hole in holes}.issuperset(key for key in codec.varying if doc.get(key) is not None):
        return None
    return Quiet(
        parsed.choices, ends, parsed.terminal, _finishes(doc), raw[: holes[0].start], raw[holes[-1].end :],
        re.compile(_pattern(raw, holes), re.DOTALL),
    )  # fmt: skip


def _finishes(doc: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    choices = doc.get("choices")
    found = ((c.get("index", n), c.get("finish_reason")) for n, c in enumerate(choices if isinstance(choices, list) else ()))
    return tuple((index, finish) for index, finish in found if isinstance(index, int) and isinstance(finish, str) and finish)


def _pattern(raw: bytes, holes: list[_Hole]) -> bytes:
    out = b""
    at = holes[0].start if holes else 0
    for hole in holes:
        out += re.escape(raw[at : hole.start]) + hole.pattern
        at = hole.end
    return out


def _holes(raw: bytes, doc: dict[str, Any], text: str | None, codec: StreamCodec) -> list[_Hole] | None:
    """Where the text (if there is one) and the varying values stand, in order; None where the text's place cannot be told. A
    value that cannot be found stays fixed."""
    holes: list[_Hole] = []
    if text is not None:
        token = jsonio.encode(text)
        at = raw.find(token)
        if at < 0 or raw.find(token, at + 1) >= 0:
            return None
        holes.append(_Hole(at, at + len(token), "", b"(?P<text>" + _STRING[1:], jsonio.encode(_PROBE)))
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
    try:
        probe = codec.parse(parse(event + raw[at:]))
        want = jsonio.decode_reply(parse(raw).data or b"")
    except (Unreadable, jsonio.JsonError):
        return False
    parts: list[Part] = []
    for part in parsed.parts:
        parts.append(part._replace(text=_PROBE))
        set_path(want, part.path, _PROBE)
    for hole in holes:
        if hole.key.strip():
            want[hole.key] = _OTHER_WORD if hole.pattern is _WORD else _OTHER_NUMBER
    return (
        (_lone(probe) if parts else _mute(probe)) and probe.parts == parts and probe.doc == want
        and probe.choices == parsed.choices and probe.ends == parsed.ends and probe.track == parsed.track
        and probe.terminal == parsed.terminal
    )  # fmt: skip


def _lone(parsed: Parsed) -> bool:
    """One text and nothing else that counts."""
    return parsed.simple and not (
        parsed.follows or parsed.copies or parsed.ends or parsed.terminal or parsed.error or parsed.usage is not None
    )


def _mute(parsed: Parsed) -> bool:
    """No text, and nothing to mind but which choices are there and which end."""
    return not (parsed.parts or parsed.follows or parsed.copies or parsed.track or parsed.error or parsed.usage is not None)
