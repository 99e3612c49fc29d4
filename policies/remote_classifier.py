"""A classifier behind an HTTP endpoint in the shape of OpenAI's moderations API.

What lives here: its options, the question, the reading of the answer, the memory of failures, and its gates. What must
never live here: sockets (``Deps`` are lent by the proxy), text in errors or findings.

The shape: POST ``{"input": text, "model": name}``, answered by ``{"results": [{"flagged": bool, "categories": {name: bool},
"category_scores": {name: 0..1}}]}`` (https://platform.openai.com/docs/api-reference/moderations).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from policies.contract import Cut, Deps, Exchange, PolicyOptions, Post
from policies.units import Duration
from policies.windows import WindowGate, WindowOptions

__all__ = ["ClassifierDown", "ClassifierError", "ClassifierOptions", "Classifying", "RemoteClassifier"]


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("write an address such as https://host/v1/moderations, without user names in it")
    return value


def _key(value: str) -> str:
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a key is printable ASCII without spaces")
    return value


Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "pattern": "^https?://[^\\s#@]+$"})]
Score = Annotated[float, Field(ge=0.0, le=1.0)]


class ClassifierOptions(PolicyOptions):
    """A service that is asked about windows of the reply, and what happens at its verdicts."""

    url: Url = Field(examples=["https://classifier.internal/v1/moderations"])
    """Where to POST ``{"input": text, "model": name}``, as to the OpenAI moderations endpoint."""
    key: Annotated[str, AfterValidator(_key)] | None = Field(default=None, repr=False, examples=["${CLASSIFIER_KEY}"])
    """Sent as ``Authorization: Bearer``."""
    model: str | None = None
    """The model to name in the question; without it, none is named."""
    thresholds: dict[str, Score] = Field(default={}, examples=[{"violence": 0.5}])
    """Categories that count, each from this score on. Empty: whatever the answer says is ``flagged``."""
    action: Literal["block", "flag"] = "block"
    """``block`` ends the reply before the window, ``flag`` only notes it."""
    mode: Literal["hold", "lag"] = "hold"
    """``hold``: no text leaves before its verdict. ``lag``: text leaves at once, at most ``lag`` characters beyond the last
    verdict."""
    lag: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Characters that may leave unjudged with ``mode: lag``; from there on text is held."""
    channels: list[str] = Field(default=[], examples=[["content", "reasoning"]])
    """Only these channels, as in a rule. Empty means all; every tool name is a question of its own then."""
    window: WindowOptions = WindowOptions()
    """How much text one question holds."""
    timeout: Duration = 2.0
    """Time for one answer; then the policy's ``on_error`` says what happens. Keep it below the policy's ``timeout``."""
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Questions under way at once, per worker; more wait, within their ``timeout``."""
    failures: Annotated[int, Field(ge=1)] = 5
    """After so many failures in a row nobody is asked for ``pause``: ``on_error`` decides at once."""
    pause: Duration = 10.0
    """How long; then one question tries whether the service is back."""

    def on(self, kind: str, field: str) -> bool:
        return not self.channels or kind in self.channels or field in self.channels


class ClassifierError(Exception):
    """The service gave no usable answer. The message holds nothing that it said."""


class ClassifierDown(ClassifierError):
    """Nobody was asked: the service has failed too often just now, or too many questions are under way."""


class RemoteClassifier:
    """Asks the service. One for each policy and worker. post: see contract.Post. clock: monotonic seconds."""

    def __init__(self, options: ClassifierOptions, post: Post, clock: Callable[[], float]) -> None:
        self._options = options
        self._post = post
        self._clock = clock
        self._slots = asyncio.Semaphore(options.max_concurrent)
        self._failed = 0  # in a row
        self._closed_until = 0.0
        self._trying = False  # one question finds out whether it is back
        self._fields = {"Content-Type": "application/json", "Accept": "application/json"}
        if options.key is not None:
            self._fields["Authorization"] = f"Bearer {options.key}"

    async def labels(self, text: str) -> list[str]:
        """The categories that count for this text; none for a clean one. Raises ClassifierError."""
        trial = self._may_ask()
        question: dict[str, Any] = {"input": text}
        if self._options.model is not None:
            question["model"] = self._options.model
        body = json.dumps(question, ensure_ascii=False).encode("utf-8", "replace")
        asked = False
        self._trying = self._trying or trial
        try:
            async with asyncio.timeout(self._options.timeout or None), self._slots:
                asked = True
                status, answer = await self._post(self._options.url, self._fields, body, self._options.timeout)
            found = self._read(status, answer)
        except (TimeoutError, OSError, ClassifierError) as error:
            if asked:
                self._failure()
            elif isinstance(error, TimeoutError):
                raise ClassifierDown("too many questions under way") from None
            if isinstance(error, ClassifierError):
                raise
            raise ClassifierError("no answer in time" if isinstance(error, TimeoutError) else "no connection") from None
        finally:
            if trial:
                self._trying = False
        self._failed = 0
        return found

    def _may_ask(self) -> bool:
        """True when this question is the one that tries whether the service is back. Raises ClassifierDown."""
        if self._failed < self._options.failures:
            return False
        if self._trying or self._clock() < self._closed_until:
            raise ClassifierDown("it has failed too often")
        return True

    def _failure(self) -> None:
        self._failed += 1
        if self._failed >= self._options.failures:
            self._closed_until = self._clock() + self._options.pause

    def _read(self, status: int, answer: bytes) -> list[str]:
        if status != 200:
            raise ClassifierError(f"status {status}")
        try:
            results = json.loads(answer)["results"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ClassifierError("an answer that is none") from None
        if not isinstance(results, list) or not results:
            raise ClassifierError("an answer without results")
        return sorted({label for result in results for label in self._flagged(result)})

    def _flagged(self, result: Any) -> list[str]:
        """The categories that count in one result."""
        if not isinstance(result, dict):
            raise ClassifierError("a result that is no object")
        thresholds = self._options.thresholds
        if not thresholds:
            flagged, categories = result.get("flagged"), result.get("categories")
            if not isinstance(flagged, bool):
                raise ClassifierError("a result without `flagged`")
            named = [_label(name) for name, on in categories.items() if on is True] if isinstance(categories, dict) else []
            return (named or ["flagged"]) if flagged else []
        scores = result.get("category_scores")
        if not isinstance(scores, dict):
            raise ClassifierError("a result without scores")
        found = []
        for name, least in thresholds.items():
            score = scores.get(name)
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise ClassifierError("a score is missing, or is none")
            if score >= least:
                found.append(_label(name))
        return found


_ODD = re.compile(r"[^A-Za-z0-9_./-]+")


def _label(name: str) -> str:
    """A category's name as findings, metrics and header fields may show it."""
    return _ODD.sub("_", name)[:64] or "flagged"


class Classifying:
    """The classifier of one policy: its gates, and what verdicts do. policy: its name, for findings. message: the public
    text of a cut."""

    def __init__(self, options: ClassifierOptions, policy: str, message: str | None) -> None:
        self.options = options
        self._policy = policy
        self._message = message
        self._remote: RemoteClassifier | None = None

    async def open(self, deps: Deps) -> None:
        """Before the first gate asks. Raises OSError."""
        self._remote = RemoteClassifier(self.options, await deps.poster(), deps.clock)

    def gate(self, x: Exchange, where: str) -> WindowGate:
        """A gate for one channel. where: its address, for findings."""
        lag = self.options.lag if self.options.mode == "lag" else None

        def ahead(characters: int) -> None:
            if characters > (x.ahead or 0):
                x.ahead = characters

        if lag is not None and x.ahead is None:
            x.ahead = 0
        return WindowGate(partial(self._ask, x, where), self.options.window, lag, ahead if lag is not None else None)

    async def _ask(self, x: Exchange, where: str, context: str, window: str) -> Cut | None:
        if self._remote is None:
            raise ClassifierError("asked before it was ready")
        labels = await self._remote.labels(context + window)
        for label in labels:
            x.find(self._policy, label, where=where, action=self.options.action)
        if not labels or self.options.action == "flag":
            return None
        return Cut(labels[0], self._message)
