"""Windows of reply text for a classifier: when it is asked, with how much text, and what may leave meanwhile.

What lives here: the options of windows, and WindowGate. What must never live here: the classifier itself; sockets, clocks
(the driver tells the time); reply text beyond the window under way and its context.

A classifier sees no end of a match, so what it is asked about depends on when the text came, and a verdict may come out
differently under another split. What does not depend on it: with ``hold``, no character leaves that was not part of a
window with a clean verdict; with ``lag``, at most ``lag`` characters leave beyond the last clean window.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from pydantic import Field

from policies.contract import Cut, JudgedGate, PolicyOptions
from policies.units import Duration

__all__ = ["Ask", "WindowGate", "WindowOptions", "tokens"]

Ask = Callable[[str, str], Awaitable[Cut | None]]
"""(context, window) to a Cut that ends the reply before the window, or None. The context has had its verdict."""

_SENTENCE = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f\n]")
_OVERLAP = 4  # characters in which a sentence's end may be cut

Tokens = Annotated[int, Field(ge=1, le=100_000)]


class WindowOptions(PolicyOptions):
    """How much text one question holds. A token is counted as four bytes of UTF-8, about what tokenizers make of English
    and of Chinese."""

    first: list[Tokens] = [8, 16, 32, 64]
    """Tokens of the first windows of a channel, one after the other: harm at the beginning is found early, and the first
    words are not held for long."""
    tokens: Tokens = 64
    """Tokens of every window after those."""
    time: Duration = 0.25
    """Text that has waited for this long is asked about, however little it is; looked at ten times a second."""
    context: Annotated[int, Field(ge=0, le=100_000)] = 400
    """Characters before a window that the classifier reads again with it."""
    max_characters: Annotated[int, Field(ge=64, le=1_000_000)] = 4000
    """The longest window; more text, such as a whole reply, is asked about in several."""


def tokens(text: str) -> int:
    """Bytes of UTF-8, of which four count as one token."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class WindowGate(JudgedGate):
    """Collects text until there is enough to ask about.

    ask: see Ask. lag: characters that may leave beyond the last clean window; None: none (``hold``). ahead: told how many
    have, whenever text leaves unjudged. Windows after the growing ones also end with a sentence, once they are as long
    as the shortest of those.
    """

    def __init__(
        self,
        ask: Ask,
        window: WindowOptions,
        lag: int | None = None,
        ahead: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._ask = ask
        self._window = window
        self._lag = lag
        self._ahead = ahead
        self._sizes = [4 * n for n in window.first]
        self._least = 4 * min([*window.first, window.tokens])
        self._round = 0  # windows with a verdict
        self._text: list[str] = []  # not asked about yet
        self._size = 0  # of that, bytes
        self._sentence = False  # a sentence ends in it
        self._last = ""
        self._context = ""
        self._pushed = 0
        self._judged = 0  # characters before this have their verdict
        self._failed = 0  # characters of the window whose question failed
        self._clear = 0
        self._since: float | None = None
        self._busy = False
        self._hurried = False
        self._closed = False
        self._stop: Cut | None = None

    # -- text --------------------------------------------------------------------------------------------------

    def lead(self, text: str) -> None:
        keep = self._window.context
        self._context = text[-keep:] if keep else ""

    def push(self, text: str) -> int:
        if text:
            self._text.append(text)
            self._pushed += len(text)
            self._size += tokens(text)
            near = self._last + text
            self._sentence = self._sentence or _SENTENCE.search(near) is not None
            self._last = near[-_OVERLAP:]
        return self._decided()

    def close(self) -> int:
        self._closed = True
        return self._decided()

    def _decided(self) -> int:
        if self._stop is not None:
            raise Cut(self._stop.reason, self._stop.message, self._judged)
        clear = self._judged
        if self._lag is not None:
            clear = min(self._pushed, self._judged + self._lag)
            if self._ahead is not None:
                self._ahead(clear - self._judged)
        self._clear = max(clear, self._clear)
        return self._clear

    # -- questions ---------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        return self._judged < self._pushed

    @property
    def settled(self) -> bool:
        return self._closed and (self._judged == self._pushed or self._stop is not None)

    def hurry(self) -> None:
        self._hurried = bool(self._text)

    def due(self, now: float) -> bool:
        if self._stop is not None or not self._text:
            return False
        if self._since is None:
            self._since = now
        if self._busy:
            return False
        if self._closed or self._hurried or now - self._since >= self._window.time:
            return True
        if self._lag is not None and self._pushed - self._judged >= self._lag:
            return True  # from here on it holds
        growing = self._round < len(self._sizes)
        if self._size >= (self._sizes[self._round] if growing else 4 * self._window.tokens):
            return True
        return self._sentence and not growing and self._size >= self._least

    async def judge(self) -> None:
        window = self._take(self._window.max_characters)
        self._busy = True
        try:
            stop = await self._ask(self._context, window)
        except BaseException:
            self._text.insert(0, window)
            self._size += tokens(window)
            self._failed = len(window)
            raise
        finally:
            self._busy = False
        if stop is not None:
            self._stop = stop
        else:
            self._pass(window)

    def forgive(self) -> None:
        if self._failed:
            self._pass(self._take(self._failed))
            self._failed = 0

    def _take(self, most: int) -> str:
        """The next window: what is there, up to so many characters."""
        text = "".join(self._text)
        window, rest = text[:most], text[most:]
        self._text = [rest] if rest else []
        self._size = tokens(rest)
        self._sentence = _SENTENCE.search(rest) is not None if rest else False
        self._last = ""
        self._since = None
        self._hurried = self._hurried and bool(rest)
        return window

    def _pass(self, window: str) -> None:
        self._round += 1
        self._judged += len(window)
        keep = self._window.context
        self._context = (self._context + window)[-keep:] if keep else ""
