"""The engine ``transformers``: a token-classification model from a directory or the Hugging Face hub.

What lives here: loading, windows, batches, and the numbers that ``ner_tags.py`` reads. What must never live here: threads;
code of the model's own (``trust_remote_code``), weights in pickles. Packages are imported when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from policies.pii.ner_sentences import Name
from policies.pii.ner_tags import Aggregation, Labels, Token, names_of, read_labels

__all__ = ["TransformersEngine"]

_MOST_TOKENS = 512
"""Longer windows cost more for each token, and models of 512 positions are what most have learnt with."""
_OVERLAP = 64
"""Tokens that two windows share, at most a quarter of a window. Each is read where it stands further from the edge."""
_BATCH_CPU, _BATCH_GPU = 256, 32_768
"""Tokens of one run of the model, padding included. Larger batches make a CPU slower, not faster."""

_Read = tuple[list[list[float]], list[list[bool]]]


class TransformersEngine:
    """Finds names with a token-classification model.

    model: a directory or a name on the hub. revision: of the hub. labels: the model's to types; empty: the usual
    ones. wanted: types. device: ``auto`` takes a GPU, in half precision, where there is one.
    """

    batch = 8

    def __init__(
        self,
        model: str,
        *,
        wanted: Sequence[str],
        labels: dict[str, str],
        usual: dict[str, str],
        revision: str | None = None,
        aggregation: Aggregation = "first",
        threshold: float = 0.6,
        device: str = "auto",
    ) -> None:
        self._name = model
        self._wanted = tuple(wanted)
        self._meaning = labels
        self._usual = usual
        self._revision = revision
        self._aggregation: Aggregation = aggregation
        self._threshold = threshold
        self._device = device
        self._model: Any = None

    def load(self) -> None:
        """Read the model; done once. Raises OSError (not there), ValueError (not of this kind, labels that it does not
        have), ImportError."""
        if self._model is not None:
            return
        torch, transformers = import_module("torch"), import_module("transformers")
        transformers.utils.logging.disable_progress_bar()  # headgate's own log is on the same stream
        given: dict[str, Any] = {"trust_remote_code": False}
        if self._revision:
            given["revision"] = self._revision
        tokenizer = transformers.AutoTokenizer.from_pretrained(self._name, **given)
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError("ner: the model's tokenizer tells no offsets; it needs a fast one (tokenizer.json)")
        model, told = transformers.AutoModelForTokenClassification.from_pretrained(
            self._name, use_safetensors=True, output_loading_info=True, **given
        )
        if told["missing_keys"]:  # else transformers makes a head of random numbers, and warns
            raise ValueError("ner: the model has no head for token classification")
        config = model.config
        labels = {int(i): str(label) for i, label in config.id2label.items()}
        self._labels = read_labels(labels, self._meaning or self._usual, self._wanted, strict=bool(self._meaning))
        self._torch = torch
        self._where, self._gpu = self._place()
        model = model.eval().to(self._where)
        model = model.half() if self._gpu else model.float()
        self.batch = 64 if self._gpu else self.batch
        self._tokenizer, self._content = _windowing(tokenizer, model)
        self._pad = int(tokenizer.pad_token_id or 0)
        self._typed = "token_type_ids" in tokenizer.model_input_names
        self._onto = self._grouping(self._labels)
        self._model = model
        try:
            self.names(["a " * 2 * self._content[0]])  # a full window: else the first long text finds out
        except Exception:
            self._model = None
            raise

    def _place(self) -> tuple[str, bool]:
        """Where the model is to run, and whether in half precision and large batches."""
        gpu = self._device == "cuda" or (self._device == "auto" and self._torch.cuda.is_available())
        return ("cuda", True) if gpu else ("cpu", False)

    def ready(self) -> None:
        """To be called in each thread that will ask: the model is there, and the thread uses one core."""
        self.load()
        self._torch.set_num_threads(1)

    def names(self, texts: Sequence[str]) -> list[list[Name]]:
        """The names in each text, offsets in code points. To be called after ``ready``, by any number of threads."""
        encoded = self._tokenizer.encode_batch([_clean(text) for text in texts])
        windows = [(at, window) for at, first in enumerate(encoded) for window in (first, *first.overflowing)]
        read: dict[int, _Read | None] = {}
        order = sorted(range(len(windows)), key=lambda i: len(windows[i][1]))
        for batch in self._batches(order, [len(w) for _, w in windows]):
            read.update(zip(batch, self._run([windows[i][1] for i in batch]), strict=True))
        parts: list[list[tuple[Any, _Read | None]]] = [[] for _ in texts]
        for i, (at, window) in enumerate(windows):
            parts[at].append((window, read[i]))
        return [self._of(text, some) for text, some in zip(texts, parts, strict=True)]

    def _of(self, text: str, windows: list[tuple[Any, _Read | None]]) -> list[Name]:
        if all(read is None for _, read in windows):  # as most sentences: nothing of it is worth a look
            return []
        tokens = self._joined([_tokens(window, read or self._nothing(window)) for window, read in windows])
        return names_of(text, tokens, self._labels.types, aggregation=self._aggregation, threshold=self._threshold)

    def _nothing(self, window: Any) -> _Read:
        count = len(self._labels.types)
        return [[1.0] + [0.0] * count] * len(window), [[False] * count] * len(window)

    def _batches(self, order: list[int], sizes: list[int]) -> list[list[int]]:
        """Windows of about one length together."""
        most = _BATCH_GPU if self._gpu else _BATCH_CPU
        out: list[list[int]] = []
        for i in order:  # lengths grow, so the new one decides how long all are
            if out and (len(out[-1]) + 1) * sizes[i] <= most and sizes[i] <= 2 * sizes[out[-1][0]] + 16:
                out[-1].append(i)
            else:
                out.append([i])
        return out

    def _run(self, windows: list[Any]) -> list[_Read | None]:
        """Per window: scores by column and beginnings by type, for each of its tokens; None where none is likely to be of a
        name. Then no word is, by any aggregation."""
        torch = self._torch
        longest = max(len(w) for w in windows)

        def tensor(rows: list[list[int]], fill: int) -> Any:
            return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], device=self._where)

        given = {
            "input_ids": tensor([w.ids for w in windows], self._pad),
            "attention_mask": tensor([[1] * len(w) for w in windows], 0),
        }
        if self._typed:
            given["token_type_ids"] = tensor([w.type_ids for w in windows], 0)
        with torch.inference_mode():
            chances = self._model(**given).logits.float().softmax(-1)
            columns, beginning, inside = self._onto
            scores = chances @ columns
            begins = (chances[..., None, :] * beginning).amax(-1) > (chances[..., None, :] * inside).amax(-1)
            some = (scores[..., 1:].amax(-1) > scores[..., 0]).any(-1).tolist()
            scores, begins = scores.cpu(), begins.cpu()
        return [
            (scores[n, : len(w)].tolist(), begins[n, : len(w)].tolist()) if some[n] else None for n, w in enumerate(windows)
        ]

    def _grouping(self, labels: Labels) -> tuple[Any, Any, Any]:
        """Labels by columns; and by type, those that begin a name and those that do not."""
        torch, count = self._torch, len(labels.types)
        columns = torch.zeros(len(labels.column), count + 1)
        beginning, inside = torch.zeros(count, len(labels.column)), torch.zeros(count, len(labels.column))
        for i, column in enumerate(labels.column):
            columns[i, column] = 1
            if column:
                (beginning if labels.begins[i] else inside)[column - 1, i] = 1
        return columns.to(self._where), beginning.to(self._where), inside.to(self._where)

    def _joined(self, windows: list[list[Token]]) -> list[Token]:
        """The tokens of a whole text: of those in two windows, the one with more text around it."""
        if len(windows) == 1:
            return windows[0]
        size, shared = self._content
        best: dict[int, tuple[int, Token]] = {}
        last = len(windows) - 1
        for n, window in enumerate(windows):
            for i, token in enumerate(window):
                room = min(i if n else size, len(window) - 1 - i if n < last else size)
                at = n * (size - shared) + i
                if at not in best or best[at][0] < room:
                    best[at] = room, token
        return [best[at][1] for at in sorted(best)]


def _windowing(tokenizer: Any, model: Any) -> tuple[Any, tuple[int, int]]:
    """A tokenizer of our own that cuts windows (set once, so that threads may share it), with the tokens of text in a
    window and those that two share."""
    most = min(_MOST_TOKENS, int(tokenizer.model_max_length))
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        embeddings: Any = getattr(model.base_model, "embeddings", None)
        if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa and its kin count from behind the padding
            positions -= int(embeddings.padding_idx) + 1
        most = min(most, positions)
    special = tokenizer.num_special_tokens_to_add(pair=False)
    size = most - special
    if size < 4:
        raise ValueError("ner: the model reads no more than a few tokens at a time")
    shared = min(_OVERLAP, size // 4)
    own = import_module("tokenizers").Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.enable_truncation(max_length=most, stride=shared)
    own.no_padding()
    return own, (size, shared)


def _tokens(window: Any, read: _Read) -> list[Token]:
    rows = zip(window.offsets, window.word_ids, window.special_tokens_mask, *read, strict=True)
    return [Token(start, end, word, s, b) for (start, end), word, special, s, b in rows if not special]


def _clean(text: str) -> str:
    """Without lone surrogates, which tokenizers do not take; of the same length."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
