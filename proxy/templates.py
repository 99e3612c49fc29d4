"""The shapes of events that one stream has met, each on its line: the hot path of the gated tier.

What lives here: Template (an event's text by its bytes alone), and which templates a stream has. What must never live here:
how a shape is told (shapes.py), gates, order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from policies.contract import Channel
from proxy import jsonio
from proxy.channels import Choice, Line
from proxy.dialects.contract import Parsed, StreamCodec
from proxy.shapes import SHARED, Quiet, Shape, quiet, shape

__all__ = ["Template", "Templates"]

_MOST = 8
_TRIES = 32  # events looked at per stream: a backend whose events never repeat must not cost more than parsing


class Template:
    """A shape and the line that its text belongs to, as one stream has it. number: the ``sequence_number`` of the event
    read last, or -1. tracked: see Shape."""

    __slots__ = (
        "_least", "_middle", "_number", "_prefix", "_start", "_stop", "_suffix", "_text", "line", "number", "owner", "shape",
        "tracked",
    )  # fmt: skip

    def __init__(
        self, shape: Shape, line: Line, raw: bytes | None = None, found: re.Match[bytes] | None = None
    ) -> None:  # fmt: skip
        """raw: an event of the shape; what stands in it, and does not vary from one event to the next by what it means,
        is taken as fixed. None: it was seen to vary. found: what ``shape`` finds in ``raw``, where that is known."""
        self.shape = shape
        self.line = line
        self.owner: Choice = line.owner
        self.number = shape.number
        self.tracked = shape.tracked
        self._prefix, self._suffix = shape.prefix, shape.suffix
        between: re.Pattern[bytes] | None = shape.whole
        if found is None and raw is not None:
            found = shape.match(raw)
        quotes = 0
        if raw is not None and found is not None:
            if shape.tail is None:
                quotes, between = 1, None
                self._prefix, self._suffix = raw[: found.start("text") + 1], raw[found.end("text") - 1 :]
            else:
                self._prefix, between = raw[: found.start("tail")], shape.tail
        self._middle = between.fullmatch if between is not None else None
        groups = between.groupindex if between is not None else {}
        self._text, self._number = groups.get("text", 0), groups.get("number", 0)
        self._start = len(self._prefix) - quotes
        self._stop = quotes - len(self._suffix)
        self._least = len(self._prefix) + len(self._suffix)

    def read(self, raw: bytes) -> str | None:
        """The text of an event of this shape; None for any other. Exact: what is in the hole is one valid JSON string."""
        if not raw.startswith(self._prefix) or not raw.endswith(self._suffix) or len(raw) < self._least:
            return None
        if self._middle is None:
            return jsonio.decode_text(raw[self._start : len(raw) + self._stop])
        found = self._middle(raw, self._start, len(raw) + self._stop)
        if found is None:
            return None
        if self._number:
            self.number = int(found[self._number])
        return jsonio.decode_text(found[self._text])

    def fill(self, raw: bytes, text: str) -> bytes:
        """An event of this shape with another text. Raises JsonError when that cannot be written."""
        start, stop = self._start, len(raw) + self._stop
        if self._middle is not None:
            found = self._middle(raw, start, stop)
            assert found is not None, "not an event of this template"
            start, stop = found.span(self._text)
        return raw[:start] + jsonio.encode(text) + raw[stop:]


class Templates:
    """line: makes a channel's line when it shows up. learns: no template is ever made without. known: the latest first."""

    __slots__ = ("_codec", "_line", "_misses", "_tries", "known")

    def __init__(self, codec: StreamCodec, line: Callable[[Channel], Line], *, learns: bool) -> None:
        self.known: list[Template] = []
        self._codec = codec
        self._line = line
        self._tries = self._misses = _TRIES if learns else 0

    def borrow(self, raw: bytes, without: Container[int]) -> tuple[Template, str] | None:
        """A template for an event that has none, from what other streams have met, and the event's text. The codec has then
        seen the event. without: choices that have been cut."""
        codec = self._codec
        if not self._tries:
            return None
        self._tries -= 1
        read = SHARED.read(raw, codec) if codec.ready else None
        if read is None or read[0].part.channel.choice in without:
            return None
        found, match, text = read
        codec.skipped(raw, found.choices)
        template = self._keep(found, raw, match)
        if found.numbered:
            template.number = int(match["number"])
        return template, text

    def quiet(self, raw: bytes) -> Quiet | None:
        """The shape of an event without text, where some stream has met it."""
        if not self._misses:
            return None
        found = SHARED.find_quiet(raw, self._codec)
        if found is None:
            self._misses -= 1
        return found

    def learn_quiet(self, raw: bytes, parsed: Parsed) -> None:
        """Keep the shape of an event without text that was read as ``parsed``, where that can be done for sure."""
        if self._tries and self._codec.quiet:
            self._tries -= 1
            found = quiet(raw, parsed, self._codec)
            if found is not None and SHARED.find_quiet(raw, self._codec) is None:  # it may have been met while others waited
                SHARED.add_quiet(found, self._codec)

    def learn(self, raw: bytes, parsed: Parsed) -> None:
        """Make a template of an event that was read as ``parsed``, where that can be done for sure."""
        if not self._tries:
            return
        found = SHARED.find(raw, self._codec) or shape(raw, parsed, self._codec)
        if found is not None:
            if found.general:
                SHARED.add(found, self._codec)
            self._keep(found, raw)

    def _keep(self, found: Shape, raw: bytes, match: re.Match[bytes] | None = None) -> Template:
        """The second of a shape on its line: what was taken as fixed does vary."""
        line, known = self._line(found.part.channel), self.known
        kept = [t for t in known if t.shape is not found or t.line is not line]
        template = Template(found, line, raw, match) if len(kept) == len(known) else Template(found, line)
        known[:] = [template, *kept[: _MOST - 1]]
        return template
