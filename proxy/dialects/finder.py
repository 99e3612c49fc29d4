"""Collects the text of a request as Segments, and names the places that hold none that can be read.

What lives here: the shapes that several dialects share: content parts, tool calls, tool definitions, free JSON. What
must never live here: a judgement about text. Addresses never contain a key that the caller chose.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from policies.contract import Segment, Trust
from proxy import jsonio
from proxy.dialects.leaves import Place, number_text, place_at, places, strings

__all__ = ["TRUST", "Finder", "trust_of"]

TRUST: dict[str, Trust] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip

_PART_TEXT = frozenset(
    ("text", "refusal", "thinking", "reasoning", "summary", "transcript", "title", "context", "name")
)
_PART_NESTED = frozenset(("content", "output", "source"))
# Fields of content parts that carry what a text policy cannot read: images, audio, files, tensors.
_PART_OPAQUE = frozenset((
    "image_url", "image_embeds", "image_pil", "input_image", "audio_url", "input_audio", "audio_embeds", "audio",
    "video_url", "video", "image", "prompt_embeds", "file", "file_id", "file_data", "file_url", "encrypted_content", "data",
))  # fmt: skip
_PART_META = frozenset((
    "type", "id", "uuid", "role", "tool_use_id", "tool_call_id", "call_id", "cache_control", "detail", "format", "is_error",
    "status", "signature", "index", "citations", "annotations", "media_type", "logprobs", "phase",
))  # fmt: skip
METADATA = ("user", "safety_identifier", "metadata")
_KNOWN = _PART_TEXT | _PART_NESTED | _PART_OPAQUE | {"arguments", "input"}


def _is_blob(source: Any) -> bool:
    """An Anthropic source block that is an image or a file by reference, not text."""
    return isinstance(source, dict) and source.get("type") not in ("text", "content")


def _is_picture(part: dict[str, Any], name: str) -> bool:
    """A picture that a Responses tool made, in base64."""
    return name == "result" and part.get("type") == "image_generation_call"


def trust_of(role: str) -> Trust:
    """Who stands behind a message role; an unknown role is a user's."""
    return TRUST.get(role, "user")


class Finder(msgspec.Struct, eq=False):
    """segments: in the order found. opaque: ``place: kind``."""

    segments: list[Segment] = []  # each finder gets its own
    opaque: list[str] = []

    def text(self, box: Any, key: Any, where: str, role: str = "user", trust: Trust | None = None) -> bool:
        """``box[key]`` when it is a string; False when it is anything else."""
        value = box[key]
        if not isinstance(value, str):
            return False
        self.segments.append(Segment(where, value, partial(box.__setitem__, key), role, trust or trust_of(role)))
        return True

    def texts(self, box: Any, key: Any, where: str, role: str = "user", trust: Trust | None = None) -> None:
        """``box[key]``: a string or a list of strings (others are left out)."""
        if not self.text(box, key, where, role, trust) and isinstance(box[key], list):
            for n in range(len(box[key])):
                self.text(box[key], n, f"{where}[{n}]", role, trust)

    def prompt(self, box: Any, key: Any, where: str) -> None:
        """A completion's prompt or an embedding's input: text, texts, token ids, lists of token ids, or parts."""
        value = box[key]
        if self.text(box, key, where) or not isinstance(value, list):
            return
        ids = False
        for n, item in enumerate(value):
            if isinstance(item, dict):
                self.part(value, n, f"{where}[{n}]", "user", "user")
            elif not self.text(value, n, f"{where}[{n}]"):
                ids = True
        if ids:
            self.opaque.append(f"{where}: token ids")

    def content(self, box: Any, key: Any, where: str, role: str, trust: Trust | None = None) -> None:
        """A message's content: a string or a list of parts; null has no text."""
        trust = trust or trust_of(role)
        value = box[key]
        if self.text(box, key, where, role, trust):
            return
        if isinstance(value, dict):
            self.part(box, key, where, role, trust)
        elif isinstance(value, list):
            for n in range(len(value)):
                self.part(value, n, f"{where}[{n}]", role, trust)

    def part(self, box: Any, key: Any, where: str, role: str, trust: Trust, depth: int = 0) -> None:
        """One content part (or a bare string in its place), whatever its type says: vLLM goes by the keys it has.
        A key that nobody knows is read as free JSON: a new kind of part must not be a way around the policies."""
        value = box[key]
        if self.text(box, key, where, role, trust) or not isinstance(value, dict):
            return
        if value.get("type") in ("tool_result", "function_call_output", "web_search_tool_result"):
            trust = "tool"
        for name in list(value):
            at = f"{where}.{name}" if name in _KNOWN else f"{where}.*"
            if name in _PART_META or value[name] is None:
                continue
            if name == "data" and value.get("type") == "text":  # the source of an Anthropic text document
                self.text(value, name, at, role, trust)
            elif name in _PART_OPAQUE or (name == "source" and _is_blob(value[name])):
                self.opaque.append(f"{where}: {name}")
            elif name == "arguments":
                self.arguments(value, name, at, role, trust)
            elif name in _PART_TEXT or name in _PART_NESTED:
                self._nested(value, name, at, role, trust, depth)
            elif _is_picture(value, name):
                self.opaque.append(f"{where}: {name}")
            else:
                self.free(value, name, at, role, trust)

    def _nested(self, box: Any, key: Any, where: str, role: str, trust: Trust, depth: int) -> None:
        if self.text(box, key, where, role, trust):
            return
        value = box[key]
        if depth > 8:  # no API nests parts that deep; free() reads any depth without recursion
            self.free(box, key, where, role, trust)
        elif isinstance(value, dict):
            self.part(box, key, where, role, trust, depth + 1)
        elif isinstance(value, list):
            for n in range(len(value)):
                self.part(value, n, f"{where}[{n}]", role, trust, depth + 1)

    def free(
        self, box: Any, key: Any, where: str, role: str, trust: Trust, *, keys: bool = True, numbers: bool = True
    ) -> None:
        """Any JSON, every leaf a segment (``where#7`` is the eighth). Keys and numbers are text to a tool, too: a changed
        number becomes a string."""
        if isinstance(box[key], str):
            self.text(box, key, where, role, trust)
            return
        if not isinstance(box[key], dict | list):
            return
        whole = jsonio.Embedded(box[key], quoted=False)
        self._leaves(whole, box, key, where, role, trust, keys, numbers)

    def arguments(self, box: Any, key: Any, where: str, role: str, trust: Trust) -> None:
        """JSON text in a string: its leaves as the tool will read them; the whole string when it is not JSON."""
        value = box[key]
        if not isinstance(value, str):
            self.free(box, key, where, role, trust)
            return
        try:
            doc = jsonio.decode(value.encode())
        except (jsonio.JsonError, UnicodeEncodeError):
            doc = None
        if not isinstance(doc, dict | list):
            self.text(box, key, where, role, trust)
            return
        self._leaves(jsonio.Embedded(doc, quoted=True), box, key, where, role, trust, True, True)

    def _leaves(
        self, whole: jsonio.Embedded, box: Any, key: Any, where: str, role: str, trust: Trust, keys: bool, numbers: bool
    ) -> None:
        count = 0
        for place, value in places(Place([whole.doc], 0)):
            if value is None:
                if keys:
                    self._leaf(where, count, place.key, _renamer(whole, place, box, key), role, trust)
                    count += 1
            elif isinstance(value, str):
                self._leaf(where, count, value, _setter(whole, place, box, key), role, trust)
                count += 1
            elif numbers:
                self._leaf(where, count, number_text(value), _setter(whole, place, box, key), role, trust)
                count += 1

    def _leaf(self, where: str, n: int, text: str, write: Callable[[str], None], role: str, trust: Trust) -> None:
        if text:
            self.segments.append(Segment(f"{where}#{n}", text, write, role, trust))

    def schema(self, box: Any, key: Any, where: str, trust: Trust = "system") -> None:
        """Free JSON that describes something to the model (tools, response formats): its strings, not its keys."""
        self.free(box, key, where, "system", trust, keys=False, numbers=False)

    def loose(self, box: Any, key: Any, where: str, role: str, trust: Trust) -> None:
        """The strings below a key that no shape has (``where#7`` is the eighth), but identifiers and opaque blobs."""
        for n, (path, text) in enumerate(strings(box[key])):
            self.segments.append(Segment(f"{where}#{n}", text, place_at(box, (key, *path)).set, role, trust))

    def metadata(self, doc: dict[str, Any]) -> None:
        """What a request says about its sender; not for the model, but the backend's operator reads it."""
        for name in METADATA:
            if name in doc:
                self.free(doc, name, name, "user", "user", keys=False, numbers=False)

    def fields(self, doc: Any, names: tuple[str, ...], read: Callable[[Any, str, str], None], prefix: str = "") -> None:
        """``read(doc, name, where)`` for each of the names that ``doc`` has with a value."""
        for name in names:
            if doc.get(name) is not None:
                read(doc, name, prefix + name)

    def opaque_fields(self, doc: Any, names: tuple[str, ...]) -> None:
        """Note fields that point to content this request does not show."""
        self.opaque += [f"{name}: not in this request" for name in names if doc.get(name)]


def _setter(whole: jsonio.Embedded, place: Place, box: Any, key: Any) -> Callable[[str], None]:
    def write(text: str) -> None:
        place.set(text)
        if whole.quoted:
            box[key] = whole

    return write


def _renamer(whole: jsonio.Embedded, place: Place, box: Any, key: Any) -> Callable[[str], None]:
    old = place.key

    def write(text: str) -> None:
        whole.rename(place.box, old, text)
        box[key] = whole

    return write
