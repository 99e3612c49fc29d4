"""Names of people, places and organisations, which no pattern can tell: the tier that asks a model.

What lives here: its options, the three entities, and Names, which asks an engine in threads of its own. What must never
live here: an engine's packages (``ner_torch.py``, ``ner_presidio.py`` import them when a model is loaded); a name in an
error; what is done with a find.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol
from weakref import WeakValueDictionary

from pydantic import Field, model_validator

from policies.contract import PolicyOptions
from policies.inference import Overloaded, Workers
from policies.pii.ner_presidio import PresidioEngine
from policies.pii.ner_sentences import LEAST, Joiner, Name, Piece, Splitter
from policies.pii.ner_tags import Aggregation
from policies.pii.ner_torch import TransformersEngine
from policies.units import Duration

__all__ = ["GROUP", "LABELS", "NAMES", "Engine", "Names", "NerOptions", "Pieces", "Unread"]

NAMES: dict[str, str] = {"person": "PERSON", "location": "LOCATION", "organization": "ORGANIZATION"}
"""The entities that only a model finds, with their labels in placeholders. They are in no group but ``names``: they cost a
thousand times what the others do, and ``all`` must not change its price."""
GROUP = "names"

NameType = Literal["person", "location", "organization"]

LABELS: dict[str, str] = {
    "PER": "person", "PERSON": "person", "LOC": "location", "LOCATION": "location", "GPE": "location", "FAC": "location",
    "ORG": "organization", "ORGANIZATION": "organization", "ORGANISATION": "organization",
}  # fmt: skip
"""What labels mean when ``labels`` is left out: those of CoNLL-2003 and OntoNotes, which most models use."""
_PRESIDIO = {label: LABELS[label] for label in ("PERSON", "LOCATION", "ORGANIZATION")}

_NEEDS = {"transformers": ("torch", ("torch", "transformers")), "presidio": ("presidio", ("presidio_analyzer", "spacy"))}
_KNOWN = 4096
_LETTER = re.compile(r"[^\W\d_]")


class NerOptions(PolicyOptions):
    """The model that finds names."""

    engine: Literal["transformers", "presidio"] = "transformers"
    """``transformers``: a token-classification model, with ``headgate[torch]``. ``presidio``: Microsoft Presidio with a
    spaCy pipeline, with ``headgate[presidio]``."""
    model: Annotated[str, Field(min_length=1)] = Field(examples=["/models/ner"])
    """A directory, or a name on the Hugging Face hub; weights as safetensors. Of ``presidio``, a spaCy pipeline (installed,
    or a directory), or an analyzer configuration (``.yaml``)."""
    revision: str | None = Field(default=None, examples=["d1a3e8f"])
    """Commit or tag of a model on the hub."""
    labels: dict[str, NameType] = Field(default={}, examples=[{"PER": "person", "LOC": "location", "ORG": "organization"}])
    """What the model's labels mean, without ``B-`` and ``I-``; others count as no name. Empty: ``PER``, ``LOC``, ``ORG``
    and their usual variants."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Names of which the model is less sure are none."""
    aggregation: Aggregation = "first"
    """What the pieces of a word say of it: the first one, their average, or the surest one."""
    languages: Annotated[list[str], Field(min_length=1)] = ["en"]
    """Of ``presidio``: every text is looked at in each of these."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes a GPU where PyTorch sees one; weights are in half precision there."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Questions answered at once in each worker process, each on one core."""
    queue: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Questions that may wait or be under way; one more fails at once."""
    timeout: Duration = 4.0
    """Time for one question, with its time in the queue. Keep it below the policy's own ``timeout``."""
    hold: Annotated[int, Field(ge=LEAST, le=4000)] = 400
    """Characters that a sentence of a reply may have; a longer one is looked at in overlapping parts."""
    on_error: Literal["closed", "open"] = "closed"
    """When there is no answer: ``closed`` is an error of the policy, and the policy's own ``on_error`` decides. ``open``
    lets names pass; all other entities are looked for as ever, and the finding ``names``, ``unread`` says so."""

    @model_validator(mode="after")
    def _sound(self) -> NerOptions:
        extra, packages = _NEEDS[self.engine]
        lacking = [p for p in packages if not _installed(p)]
        if lacking:
            raise ValueError(
                f"the engine {self.engine} needs {' and '.join(lacking)}, not installed: pip install 'headgate[{extra}]'"
            )
        if self.model.startswith(("/", "./", "../", "~")) and not Path(self.model).exists():
            raise ValueError("model: there is no such directory")
        return self


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # what is in sys.modules without a spec
        return False


class Unread(Exception):
    """A text has not been looked at for names. The message says why, without text."""


class Engine(Protocol):
    """Finds names. ``ready`` and ``names`` are called in threads. batch: how many texts it likes at once, once it is ready:
    few enough that a stream's sentence does not wait long behind a request."""

    batch: int

    def ready(self) -> None: ...

    def names(self, texts: Sequence[str]) -> list[list[Name]]: ...


_ENGINES: WeakValueDictionary[str, Engine] = WeakValueDictionary()
"""By options: a reload of the policy file, or a second policy, does not load the same model again."""


def engine_for(options: NerOptions, wanted: Sequence[str]) -> Engine:
    """The engine of these options, not loaded unless somebody else has. wanted: types."""
    own = {"timeout", "queue", "threads", "hold", "on_error"}
    key = f"{options.model_dump_json(exclude=own)}{sorted(wanted)}"
    found = _ENGINES.get(key)
    if found is None:
        found = _made(options, sorted(wanted))
        _ENGINES[key] = found
    return found


def _made(o: NerOptions, wanted: list[str]) -> Engine:
    given: dict[str, str] = dict(o.labels)
    if o.engine == "presidio":
        return PresidioEngine(
            o.model, wanted=wanted, labels=given or _PRESIDIO, languages=o.languages, threshold=o.threshold
        )
    return TransformersEngine(
        o.model, wanted=wanted, labels=given, usual=LABELS, revision=o.revision,
        aggregation=o.aggregation, threshold=o.threshold, device=o.device,
    )  # fmt: skip


class Names:
    """The names tier of one policy. wanted: types that are looked for."""

    def __init__(self, options: NerOptions, wanted: Sequence[str]) -> None:
        self.options = options
        self._engine = engine_for(options, wanted)
        self._workers: Workers[list[Name]] | None = None
        # What a text held, by a hash under a key that nobody knows: conversations send their history again.
        self._known: dict[bytes, list[Name]] = {}
        self._key = secrets.token_bytes(32)

    async def open(self) -> None:
        """Load the model, in a thread, and ask it once. Raises what loading raises."""
        o = self.options
        self._workers = Workers(
            self._engine.names, ready=self._engine.ready, threads=o.threads, queue=o.queue, name="ner"
        )
        await self._workers.ask(["A first sentence, so that no request pays for what comes with it."], 0)
        self._workers.batch = self._engine.batch

    def close(self) -> None:
        """End the threads."""
        if self._workers is not None:
            self._workers.stop()

    async def ask(self, texts: Sequence[str]) -> list[list[Name]]:
        """The names in each text. Raises Unread."""
        if self._workers is None:
            raise Unread("asked before it was ready")
        telling = [n for n, text in enumerate(texts) if _LETTER.search(text)]  # no name without a letter
        out: list[list[Name]] = [[] for _ in texts]
        try:
            found = await self._workers.ask([texts[n] for n in telling], self.options.timeout)
        except Overloaded:
            raise Unread("too many questions wait") from None
        except TimeoutError:
            raise Unread("no answer in time") from None
        except Exception as error:  # whatever a model throws; its message may hold text
            raise Unread(f"the engine failed: {type(error).__name__}") from None
        for n, names in zip(telling, found, strict=True):
            out[n] = names
        return out

    def pieces(self, texts: Sequence[str], whose: str) -> Pieces:
        """A request's texts made ready for ``of_request``; may be called in a thread. whose: nobody else's request can tell
        that a text has been seen before."""
        pieces = [(n, piece) for n, text in enumerate(texts) for piece in _split(text, self.options.hold)]
        keys = [blake2b(f"{whose}\0{p.text}".encode("utf-8", "surrogatepass"), key=self._key).digest() for _, p in pieces]
        return Pieces(len(texts), pieces, keys)

    async def of_request(self, given: Pieces) -> list[list[Name]]:
        """The names in each of a request's texts. Raises Unread."""
        known = self._known
        new = {key: piece.text for key, (_, piece) in zip(given.keys, given.pieces, strict=True) if key not in known}
        found = {key: known[key] for key in given.keys if key in known}
        if new:
            found.update(zip(new, await self.ask(list(new.values())), strict=True))
        for key in found:  # the last ones used are the last ones to go
            known.pop(key, None)
            known[key] = found[key]
        while len(known) > _KNOWN:
            del known[next(iter(known))]
        out: list[list[Name]] = [[] for _ in range(given.texts)]
        at = [Joiner() for _ in out]
        for key, (n, piece) in zip(given.keys, given.pieces, strict=True):
            out[n] += at[n].take(piece, found[key])
        return out


class Pieces(NamedTuple):
    """texts: how many. pieces: of which text, and the piece. keys: under which what they hold is remembered."""

    texts: int
    pieces: list[tuple[int, Piece]]
    keys: list[bytes]


def _split(text: str, bound: int) -> list[Piece]:
    if not _LETTER.search(text):
        return []
    splitter = Splitter(bound, fill=True)
    return [*splitter.push(text), *splitter.close()]
