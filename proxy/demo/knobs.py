"""Request knobs: how a person or a test asks the demo backend to be slow, to fail, to cut, to speak PII.

Given as `x-demo: key=value; key=value` or behind the model name, `demo;key=value;key=value`.
The header wins over the model name, and both win over the defaults of the server.
Here: the table of knobs (the docs are checked against it) and its parser. Never here: what a knob does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final
from urllib.parse import unquote

MAX_TEXT: Final = 65_536
"""Cap on a knobs text, in characters."""
MAX_TOKENS: Final = 20_000
"""Cap on the pieces of one reply."""
HEAD: Final = -1
"""`cut=head`: close before the head of the reply."""
WHOLE: Final = -1
"""`split=whole`: the whole body in one write."""


class KnobError(ValueError):
    """A knob that does not exist or has a bad value. The message is public."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs of one request. None means not given. Times in ms, lengths in events, bytes or pieces."""

    rate: float | None = None
    ttft: int = 0
    tokens: int | None = None
    fail: int | None = None
    retry_after: int | None = None
    fail_times: int | None = None
    key: str = ""
    cut: int | None = None
    reset: bool = False
    stall: int | None = None
    error: int | None = None
    malformed: int | None = None
    nodone: bool = False
    say: str | None = None
    echo: bool = False
    pii: bool = False
    to: str = "content"
    piece: int | None = None
    escape: bool = False
    tail: bool = False
    split: int = 0
    crlf: bool = False
    comments: bool = False


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or not low <= int(text) <= high:
            raise KnobError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value == 0 or 0.01 <= value <= 100_000):
        raise KnobError("0, or a number from 0.01 to 100000")
    return value


def _flag(text: str) -> bool:
    if text not in ("", "0", "1", "true", "false"):
        raise KnobError("0 or 1")
    return text in ("", "1", "true")


def _words(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise KnobError("URL-encoded UTF-8 text") from None


def _cut(text: str) -> int:
    return HEAD if text == "head" else _whole(0, 10**8)(text)


def _split(text: str) -> int:
    named = {"events": 0, "bytes": 1, "whole": WHOLE}
    return named[text] if text in named else _whole(1, 65_536)(text)


def _to(text: str) -> str:
    if text not in ("content", "reasoning", "both"):
        raise KnobError("content, reasoning or both")
    return text


_count = _whole(0, 10**8)
KNOBS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "rate": (_rate, "events per second of a stream; 0 is as fast as possible"),
    "ttft": (_whole(0, 600_000), "wait so many ms before the head of the reply"),
    "tokens": (_whole(1, MAX_TOKENS), "length of the prose, in pieces"),
    "fail": (_whole(400, 599), "answer with this HTTP status, in the error shape of the API"),
    "retry-after": (_whole(0, 86_400), "Retry-After header of `fail`, in seconds"),
    "fail-times": (_whole(0, 1000), "`fail` (or 503) only for the first N requests with the same `key`"),
    "key": (_words, "name of the counter that `fail-times` counts on"),
    "cut": (_cut, "close the connection after N events (plain replies: N bytes); `head`: before the head"),
    "reset": (_flag, "with `cut`: end with a TCP reset instead of a FIN"),
    "stall": (_count, "fall silent after N events (plain replies: N bytes), connection open"),
    "error": (_count, "an error event inside the 200 stream after N events, then the end"),
    "malformed": (_count, "a broken event after N events; plain replies: the JSON ends after N bytes"),
    "nodone": (_flag, "leave out the event that says the stream is complete"),
    "say": (_words, "speak this URL-encoded text"),
    "echo": (_flag, "speak the last user text"),
    "pii": (_flag, "speak invented personal data"),
    "to": (_to, "where `say`, `echo` and `pii` speak: content, reasoning or both"),
    "piece": (_whole(1, 10_000), "cut the reply in pieces of N characters instead of words"),
    "escape": (_flag, "write generated JSON (tool arguments, structured output) with \\uXXXX escapes"),
    "tail": (_flag, "chat, completions: the last piece travels in the event with the finish_reason"),
    "split": (_split, "bytes per write: a number, `bytes` (1), `events` (default) or `whole`"),
    "crlf": (_flag, "end the lines of a stream with CRLF"),
    "comments": (_flag, "an SSE comment before each event"),
}


def parse(text: str, base: Knobs | None = None) -> Knobs:
    """Read `key=value; key=value` over `base`. `-` and `_` are the same in a name; a flag needs no value.

    Raises KnobError with a message that names the known knobs.
    """
    if len(text) > MAX_TEXT:
        raise KnobError(f"the knobs are longer than {MAX_TEXT} characters")
    found: dict[str, Any] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, _, value = part.partition("=")
        name = name.strip().lower().replace("_", "-")
        if name not in KNOBS:
            raise KnobError(f"unknown knob {name[:40]!r}; the knobs are: {', '.join(KNOBS)}")
        try:
            found[name.replace("-", "_")] = KNOBS[name][0](value.strip())
        except KnobError as problem:
            raise KnobError(f"knob {name!r} takes {problem}") from None
    return replace(base or Knobs(), **found)


def split_model(name: str) -> tuple[str, str]:
    """`demo;rate=5` gives `("demo", "rate=5")`."""
    model, _, rest = name.partition(";")
    return model.strip(), rest


assert {name.replace("-", "_") for name in KNOBS} == {field.name for field in fields(Knobs)}
