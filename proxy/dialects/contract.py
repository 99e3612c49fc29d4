"""The contract of a dialect: one wire shape, told as text that policies can read and write.

What lives here: the records that dialects, gates and the relay share. What must never live here: sockets, a clock,
policies, and any state that outlives a stream. A Dialect is stateless; what one stream needs is in its StreamCodec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from policies.contract import Channel, Segment, Usage
from proxy import jsonio
from proxy.dialects.usage import merge
from proxy.sse import Event, reframe

__all__ = [
    "ALL", "ANY", "Dialect", "Mode", "Parsed", "Part", "Path", "Row", "StreamCodec", "Unreadable", "get_path", "json_event",
    "set_path", "where",
]  # fmt: skip

ALL = -1
"""In ``Parsed.ends``: every channel of the stream ends."""

Path = tuple[str | int, ...]
Mode = Literal["text", "whole", "repeat"]


class Unreadable(ValueError):
    """A reply or an event that is not what its dialect says. The message never quotes it."""


class Part(NamedTuple):
    """Text inside one event or whole reply.

    path: where in the document. mode: ``text`` goes on where the channel's last part ended; ``whole`` stands for
    itself (a tool's name); ``repeat`` is all of the channel's text once more. embedded: the value at ``path`` is a JSON
    document and ``text`` is its encoding.
    """

    channel: Channel
    text: str
    path: Path
    mode: Mode = "text"
    embedded: bool = False


class Parsed:
    """One event, read.

    doc: the decoded data (for reading only), None without any. parts: its text. choices: the choices it speaks of.
    ends: choices (or ALL, or single channels) whose text is complete with this event. usage: token counts it carries.
    copies: it spells text in a form that cannot be matched to its parts (logprobs out of step, token ids): a gated
    event loses it. follows: choices, channels or ALL; when their text was changed before, the event loses its copies
    (a signature, a stop string). simple: one text part and nothing else to mind. track: ``StreamCodec.left`` wants to
    hear of it. terminal: the reply is complete. error: the backend reports a failure.
    """

    __slots__ = (
        "choices", "copies", "doc", "ends", "error", "follows", "parts", "simple", "terminal", "track", "usage",
    )  # fmt: skip

    def __init__(self, doc: dict[str, Any] | None) -> None:
        self.doc = doc
        self.parts: list[Part] = []
        self.choices: tuple[int, ...] = ()
        self.ends: list[int | Channel] = []
        self.follows: list[int | Channel] = []
        self.usage: Usage | None = None
        self.copies = False
        self.simple = False
        self.track = False
        self.terminal = False
        self.error = False

    @property
    def counts_only(self) -> bool:
        """Nothing but token counts: the chunk that ``stream_options.include_usage`` asks for."""
        return self.usage is not None and not self.parts and self.doc is not None and self.doc.get("choices") == []


class Row(NamedTuple):
    """A line of the coverage table. field: the Channel's. whole, stream: where the text is ('' where it cannot be)."""

    field: str
    whole: str
    stream: str


class StreamCodec:
    """What one stream of a dialect needs to be read, rewritten and ended. Every method is synchronous and pure but for
    ``saw``, ``skipped``, ``left`` and ``said``, which keep what an ending needs."""

    repeats: ClassVar[bool] = False
    """Later events hold the whole text of a channel again."""
    per_choice: ClassVar[bool] = False
    """A choice can end while the others go on."""
    varying: ClassVar[tuple[str, ...]] = ()
    """Keys at the top of an event whose number or string may be any other without changing what ``parse`` returns."""
    pads: ClassVar[bool] = False
    """Makers put spaces before the last brace of an event, to hide how long its text is."""
    field: ClassVar[str] = "content"
    """The channel that every choice has; asked for a gate when an event has copies but no text yet."""

    quiet: ClassVar[bool] = False
    """Of an event without text, token counts and failure, ``saw`` keeps nothing but what ``skipped`` and ``ended`` keep."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.choices: dict[int, bool] = {}
        """Choices seen so far; True when finished."""
        self.reasons: dict[int, str] | None = None
        """Why choices were cut, for those who have asked for annotations of an ending; None: nobody has."""
        self.length = False
        """The reply is ended because it is too long for a limit, and not for what it says."""
        self.events = 0
        """Text events seen: vLLM writes one token each."""
        self.ready = True
        """``skipped`` is enough for an event that is nothing but text; False: this stream's first one must be parsed."""

    def parse(self, event: Event) -> Parsed:
        """Read one event; raises Unreadable. Changes nothing."""
        raise NotImplementedError

    def saw(self, parsed: Parsed) -> None:
        """An event came from the backend."""
        if parsed.usage is not None:
            self.usage = merge(self.usage, parsed.usage)
        for index in parsed.choices:
            self.choices.setdefault(index, False)
        if parsed.ends:
            self.ended(parsed.ends)

    def ended(self, ends: Sequence[int | Channel]) -> None:
        """Choices have ended (``Parsed.ends``)."""
        for end in ends:
            if isinstance(end, int) and end in self.choices:
                self.choices[end] = True

    def left(self, parsed: Parsed, texts: Sequence[str]) -> None:
        """A tracked event was sent, with these texts in its parts."""

    def skipped(self, raw: bytes, choices: Sequence[int]) -> None:
        """As ``saw``, for the first event of a shape that is nothing but text, known from another stream: nobody parses
        it. choices: those it speaks of."""
        for index in choices:
            self.choices.setdefault(index, False)

    def said(self, channel: Channel, text: str, number: int) -> None:
        """As ``left``, of a tracked event that was nothing but text (``Parsed.simple``). number: its ``sequence_number``, -1
        without one."""

    def rewrite(
        self,
        event: Event,
        parsed: Parsed,
        texts: Sequence[str],
        *,
        drop: frozenset[int] = frozenset(),
        unfinished: frozenset[int] = frozenset(),
    ) -> bytes:
        """The event with other texts in its parts, and without what spells them elsewhere. drop: choices to leave out.
        unfinished: choices that go no further than this, so that the event must not say that they ended well. Raises
        JsonError when a text cannot be written."""
        doc = jsonio.decode_reply(event.data or b"")
        for part, text in zip(parsed.parts, texts, strict=True):
            if text != part.text:
                set_path(doc, part.path, jsonio.decode(text.encode()) if part.embedded else text)
        self.scrub(doc, parsed, texts, drop=drop, unfinished=unfinished)
        return reframe(event.raw, jsonio.encode(doc))

    def scrub(
        self, doc: Any, parsed: Parsed, texts: Sequence[str], *, drop: frozenset[int], unfinished: frozenset[int]
    ) -> None:
        """Drop from ``doc`` what repeats the text in another form."""

    def cut(self, message: str | None, *, include_usage: bool) -> bytes:
        """The ending of a reply that a policy stops here (sections "finish_reason", "incomplete_details", "stop_reason" of
        the makers' API references). message: public text to show, where the dialect has a place for it."""
        raise NotImplementedError

    def cut_choice(self, index: int, message: str | None) -> bytes:
        """The ending of one choice; only where ``per_choice``."""
        raise NotImplementedError

    def error(self, message: str, type: str, code: str | None) -> bytes:
        """An event that says the reply broke off. No terminal event follows it."""
        return json_event({"error": {"message": message, "type": type, "param": None, "code": code}})


class Dialect:
    """One wire shape. Stateless: one instance serves all requests."""

    name: ClassVar[str] = ""
    shape: ClassVar[Literal["openai", "anthropic"]] = "openai"
    """The shape of an error body."""
    counts: ClassVar[bool] = False
    """Replies carry token counts."""
    asks_usage: ClassVar[bool] = False
    """A stream tells its token counts only when ``stream_options.include_usage`` asks for them."""
    needles: ClassVar[tuple[bytes, ...]] = ()
    """A stream event with none of these holds no usage, finish, end or error: the watched tier skips it unread."""
    max_event: ClassVar[int] = 0
    """Bytes an event may need in any case: a terminal event that holds the whole reply."""
    request_rows: ClassVar[tuple[str, ...]] = ()
    """Coverage: the places of request text."""
    per_choice: ClassVar[bool] = False
    """A choice of a whole reply can be cut while the others stay."""
    rows: ClassVar[tuple[Row, ...]] = ()
    """Coverage: the channels of a reply."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Coverage: what repeats the text and what becomes of it."""

    def peek(self, doc: Any) -> tuple[str | None, bool]:
        """(model, stream) of a request."""
        if not isinstance(doc, dict):
            return None, False
        model = doc.get("model")
        return (model if isinstance(model, str) else None), doc.get("stream") is True

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        """The text of a request, in document order, and the places that no text policy can read."""
        return [], []

    def lead(self, doc: Any, channel: Channel) -> str:
        """The text of a request that a channel of its reply goes on with, at most its last characters; empty for none."""
        return ""

    def reply(self, doc: Any) -> list[tuple[Channel, Segment]]:
        """The text of a whole reply; assigning a segment's text writes it back."""
        return [
            (p.channel, Segment(where(p.path), p.text, _writer(doc, p), "assistant", "assistant"))
            for p in self.parts(doc)
        ]

    def parts(self, doc: Any) -> list[Part]:
        """The text of a whole reply as parts. Raises Unreadable."""
        return []

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        """Drop from a whole reply what repeats the text of the changed channels in another form."""

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        """The whole reply as it looks when a policy stopped it. cuts: choice to (reason, public message)."""
        raise NotImplementedError

    def codec(self) -> StreamCodec | None:
        """What one stream needs; None where the dialect has no streams."""
        return None

    def plain(self, body: bytes) -> str | None:
        """The text of a whole reply that is not JSON, where the dialect has such replies."""
        return None


def json_event(doc: Any, event: str | None = None) -> bytes:
    """An event of our own, in the shape vLLM writes."""
    head = b"" if event is None else b"event: " + event.encode() + b"\n"
    return head + b"data: " + jsonio.encode(doc) + b"\n\n"


def place(value: Any, default: int) -> int:
    """An index as clients understand it: 1.0 is the same number as 1. ``default`` for what is no index."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else default


ANY: Any = object()


def get_path(doc: Any, path: Sequence[str | int], default: Any = None) -> Any:
    """The value at a path; ``default`` where it leads nowhere."""
    for key in path:
        if isinstance(doc, dict):
            doc = doc.get(key, ANY)
        elif isinstance(doc, list) and isinstance(key, int) and 0 <= key < len(doc):
            doc = doc[key]
        else:
            return default
        if doc is ANY:
            return default
    return doc


def set_path(doc: Any, path: Sequence[str | int], value: Any) -> None:
    """Put a value at a path that exists."""
    for key in path[:-1]:
        doc = doc[key]
    doc[path[-1]] = value


def where(path: Path) -> str:
    """A path as people read it: ``choices[0].message.content``."""
    out = ""
    for key in path:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else key
    return out


def _writer(doc: Any, part: Part) -> Callable[[str], None]:
    def write(text: str) -> None:
        set_path(doc, part.path, jsonio.decode(text.encode()) if part.embedded else text)

    return write
