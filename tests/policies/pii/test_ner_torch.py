"""The engine ``transformers`` on a real model and a real tokenizer, both made on the spot."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from policies.pii.ner import LABELS
from policies.pii.ner_torch import TransformersEngine
from tests.kits import names as kit

ALL = ("location", "organization", "person")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return kit.tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(model: str) -> TransformersEngine:
    made = make(model)
    made.ready()
    return made


def make(model: str, wanted: Sequence[str] = ALL, **given: Any) -> TransformersEngine:
    return TransformersEngine(model, wanted=wanted, **{"labels": {}, "usual": LABELS, "device": "cpu", **given})


def found(engine: TransformersEngine, text: str) -> list[str]:
    (names,) = engine.names([text])
    return [f"{text[n.start : n.end]}/{n.type}" for n in names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mary Smith of Acme Corp lives in New York.", ["Mary Smith/person", "Acme Corp/organization", "New York/location"]),
        ("\U0001f600 to Paris", ["Paris/location"]),
        ("Smithson and Johnson, Ann", ["Smithson/person", "Johnson/person", "Ann/person"]),
        ("met O'Brien's", ["O'Brien/person"]),
        ("MARY", ["MARY/person"]),
        ('{"a": "Paris", "b": ["John Smith"]}', ["Paris/location", "John Smith/person"]),
        ("nobody", []),
        ("", []),
        ("\ud800 Mary \udc00", ["Mary/person"]),
        ("\u200bMary\u200b", ["Mary/person"]),
    ],
)
def test_names_with_offsets_in_code_points(engine: TransformersEngine, text: str, expected: list[str]) -> None:
    assert found(engine, text) == expected


def test_many_texts_at_once_are_what_each_is_alone(engine: TransformersEngine) -> None:
    texts = ["Mary", "x", "", "to Paris " * 40, "John Smith met Mary. " * 7, "in New York"] * 5
    alone = [[(n.start, n.end, n.type) for n in engine.names([t])[0]] for t in texts]
    assert [[(n.start, n.end, n.type) for n in names] for names in engine.names(texts)] == alone
    assert [len(a) for a in alone[:6]] == [1, 0, 0, 40, 14, 1]


class Shy:
    """In the place of the model: a word of the tiny model's is a name only where it sees the word before and the one
    behind it, as a model needs some text around a name."""

    def __init__(self, model: Any) -> None:
        self.model, self.rows = model, 0

    def __call__(self, **given: Any) -> Any:
        told = self.model(**given)
        mask = given["attention_mask"]
        self.rows += mask.shape[0]
        for row in range(mask.shape[0]):
            last = int(mask[row].sum()) - 2  # behind it stands [SEP]
            for edge in (*range(1, 4), *range(last - 2, last + 1)):
                told.logits[row, edge] = 0
                told.logits[row, edge, 0] = 9
        return told


@pytest.mark.parametrize("at", range(40, 75))
def test_a_name_where_two_windows_meet_is_found_whole(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    shy = Shy(engine._model)
    monkeypatch.setattr(engine, "_model", shy)
    text = "the " * at + "John Smith Lee" + " the" * 60
    assert found(engine, text) == ["John Smith Lee/person"]
    assert shy.rows > 1


def test_a_threshold_that_no_name_reaches(model: str) -> None:
    shy = make(model, threshold=0.999)
    shy.ready()
    assert found(shy, "Mary") == []


def test_only_the_types_that_were_asked_for(model: str) -> None:
    one = make(model, ["location"])
    one.ready()
    assert found(one, "Mary in Paris") == ["Paris/location"]


def test_threads_may_share_an_engine(engine: TransformersEngine) -> None:
    texts = [f"{'the ' * n}Mary Smith of Paris" for n in range(40)]
    answers: list[list[list[str]]] = []

    def work() -> None:
        engine.ready()
        answers.append([found(engine, text) for text in texts])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [[["Mary Smith/person", "Paris/location"]] * 40] * 4


def test_a_threads_work_takes_one_core(engine: TransformersEngine) -> None:
    torch = import_module("torch")
    seen: list[int] = []

    def work() -> None:
        engine.ready()
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert seen == [1]


def test_half_precision_and_large_batches_find_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on the CPU."""
    monkeypatch.setattr(TransformersEngine, "_place", lambda self: ("cpu", True))
    half = make(model)
    half.ready()
    assert next(half._model.parameters()).dtype == import_module("torch").float16
    assert half.batch > make(model).batch
    text = "Mary Smith of Acme Corp lives in New York. "
    expected = ["Mary Smith/person", "Acme Corp/organization", "New York/location"]
    assert [[f"{text[n.start : n.end]}/{n.type}" for n in names] for names in half.names([text] * 50)] == [expected] * 50


def test_weights_and_labels_that_cannot_be_used_are_refused(tmp_path: Path, model: str) -> None:
    headless = make(kit.tiny_model(tmp_path / "headless", head=False))
    with pytest.raises(ValueError, match="no head"):
        headless.ready()
    with pytest.raises(ValueError, match="PERS"):
        make(model, labels={"PERS": "person"}, wanted=["person"]).ready()
    with pytest.raises(OSError):
        make(str(tmp_path / "nothing")).ready()


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    path = Path(kit.tiny_model(tmp_path / "pickled"))  # skips loudly where torch is not installed
    torch = import_module("torch")
    (path / "model.safetensors").unlink()
    torch.save({}, path / "pytorch_model.bin")
    with pytest.raises(OSError):
        make(str(path)).ready()


def test_code_of_the_models_own_is_not_run(tmp_path: Path) -> None:
    path = Path(kit.tiny_model(tmp_path / "code"))
    config = (path / "config.json").read_text()
    (path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto = '"auto_map": {"AutoConfig": "own.Own", "AutoModelForTokenClassification": "own.Own"}, "model_type": "own",'
    (path / "config.json").write_text(config.replace('"model_type": "bert",', auto))
    assert "auto_map" in (path / "config.json").read_text()
    with pytest.raises(ValueError):
        make(str(path)).ready()
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_of_another_kind_marks_words_by_blanks(tmp_path: Path) -> None:
    """Byte-level BPE, as RoBERTa's: blanks belong to tokens, and signs to the words before them."""
    kit.needs("torch", "torch", "transformers")
    tf, tokenizers = import_module("transformers"), import_module("tokenizers")
    torch = import_module("torch")
    own = tokenizers.ByteLevelBPETokenizer()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    learnt = ["John Smith met Mary in Paris, (Paris) and so on. " * 50]
    own.train_from_iterator(learnt, vocab_size=400, special_tokens=list(special.values()))
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=own._tokenizer, **special)
    labels = {0: "O", 1: "PER"}
    config = tf.RobertaConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, pad_token_id=2, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    model = tf.RobertaForTokenClassification(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.zero_()
        for word in ("Mary", " Mary", " Smith", "John"):
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            model.roberta.embeddings.word_embeddings.weight[ids[0], 1] = 1
        for n in range(2):
            model.classifier.weight[n, n] = 6
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = make(str(tmp_path), ["person"], aggregation="max", threshold=0.5)
    engine.ready()
    assert found(engine, "John Smith met Mary, \U0001f600 Mary.") == ["John Smith/person", "Mary/person", "Mary/person"]
    assert found(engine, "so on " * 60 + "met Mary" + " so on" * 60) == ["Mary/person"]
