"""Models that find names, for tests: a real token-classification model made on the spot, and an engine that knows phrases."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from policies.pii.ner_sentences import Name

KNOWN = {
    "john": "B-PER", "mary": "B-PER", "ann": "B-PER", "smith": "I-PER", "lee": "I-PER", "brien": "I-PER", "o": "B-PER",
    "paris": "B-LOC", "berlin": "B-LOC", "new": "B-LOC", "york": "I-LOC", "acme": "B-ORG", "corp": "I-ORG",
}  # fmt: skip
"""Words the tiny model has learnt, and what it calls them wherever they stand."""
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
_WORDS = "the a in lives works at and met with for is was to of sent hello from said mail dr mr "
_SIGNS = ". , ! ? ; : ' - ( ) [ ] { } \" / _"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def needs(extra: str, *modules: str) -> None:
    """Skip the test, or fail it where ``CI`` is true, unless the packages of an extra are installed."""
    for module in modules:
        try:
            import_module(module)
        except ImportError:
            told = f"{module} is not installed: pip install 'headgate[{extra}]'"
            if os.environ.get("CI") in ("true", "1"):
                pytest.fail(told)
            pytest.skip(told)


def tiny_model(path: Path, *, positions: int = 64, labels: Sequence[str] = LABELS, head: bool = True) -> str:
    """A BERT of two layers in a directory; returns the directory. It knows the words of ``KNOWN``, and no others.

    Its weights are set, not learnt: a word's embedding is its label, the layers add nothing to it. "Smithson" is cut in two
    pieces, of which the second one says nothing.
    """
    needs("torch", "torch", "transformers")
    torch, tf = import_module("torch"), import_module("transformers")
    path.mkdir(parents=True, exist_ok=True)
    words = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *KNOWN, *_WORDS.split(), *_SIGNS.split(), "##son"])
    vocabulary = [*words, *(c for c in _LETTERS if c not in words), *(f"##{c}" for c in _LETTERS)]
    (path / "words.txt").write_text("\n".join(vocabulary))
    tokenizer = tf.BertTokenizerFast(str(path / "words.txt"), do_lower_case=True)
    config = tf.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=positions, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    model: Any = (tf.BertForTokenClassification if head else tf.BertForMaskedLM)(config)
    if head:
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.zero_()
            for number, word in enumerate(vocabulary):
                model.bert.embeddings.word_embeddings.weight[number, LABELS.index(KNOWN.get(word, "O"))] = 1
            for number in range(len(labels)):
                model.classifier.weight[number, number] = 1.5
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


class Phrases:
    """An engine that knows phrases, each with its type; it finds one only where it sees all of it."""

    batch = 8

    def __init__(self, known: dict[str, str]) -> None:
        self._known = {phrase.casefold(): type for phrase, type in known.items()}
        self._any = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))), re.IGNORECASE)
        self.asked: list[str] = []
        self.gate = threading.Event()
        """Clear it, and the engine does not answer."""
        self.gate.set()
        self.fails: Exception | None = None

    def ready(self) -> None:
        """Nothing to load."""

    def find(self, text: str) -> list[Name]:
        return [Name(*m.span(), self._known[m[0].casefold()], 0.9) for m in self._any.finditer(text)]

    def names(self, texts: Sequence[str]) -> list[list[Name]]:
        self.asked += texts
        assert self.gate.wait(20)
        if self.fails is not None:
            raise self.fails
        return [self.find(text) for text in texts]
