"""The engine ``presidio``: a real analyzer over a spaCy pipeline that is made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from policies.pii.ner_presidio import PresidioEngine
from tests.kits import names as kit

LABELS = {"PERSON": "person", "LOCATION": "location", "ORGANIZATION": "organization"}
CONFIG = """
supported_languages: [en, de]
nlp_configuration:
  nlp_engine_name: spacy
  models: [{{lang_code: en, model_name: {0}}}, {{lang_code: de, model_name: {1}}}]
  ner_model_configuration:
    model_to_presidio_entity_mapping: {{PERSON: PERSON, GPE: LOCATION}}
    labels_to_ignore: []
recognizer_registry:
  supported_languages: [en, de]
  recognizers:
    - {{name: SpacyRecognizer, type: predefined, supported_languages: [en, de]}}
    - name: Ship
      supported_language: en
      supported_entity: SHIP
      type: custom
      patterns: [{{name: ship, regex: 'HMS \\w+', score: 0.9}}]
"""


def pipeline(path: Path, language: str, **known: str) -> str:
    """A spaCy pipeline in a directory that knows phrases: phrase=label, ``_`` for blanks."""
    kit.needs("presidio", "presidio_analyzer", "spacy")
    nlp = import_module("spacy").blank(language)
    patterns = [{"label": label, "pattern": phrase.replace("_", " ")} for phrase, label in known.items()]
    nlp.add_pipe("entity_ruler").add_patterns(patterns)
    nlp.to_disk(path)
    return str(path)


@pytest.fixture
def spacy(tmp_path: Path) -> str:
    return pipeline(tmp_path / "en", "en", John_Smith="PERSON", Paris="GPE", Acme_Corp="ORG", Monday="DATE")


def make(model: str, wanted: Sequence[str] = tuple(LABELS.values()), **given: Any) -> PresidioEngine:
    engine = PresidioEngine(model, wanted=wanted, **{"labels": LABELS, "languages": ["en"], **given})
    engine.ready()
    return engine


def found(engine: PresidioEngine, text: str) -> list[str]:
    (names,) = engine.names([text])
    return [f"{text[n.start : n.end]}/{n.type}" for n in sorted(names)]


def test_names_with_offsets_in_code_points(spacy: str) -> None:
    engine = make(spacy)
    text = "\U0001f600 John Smith of Acme Corp, j@x.org, in Paris on Monday"
    assert found(engine, text) == ["John Smith/person", "Acme Corp/organization", "Paris/location"]
    assert engine.names(["no one", "Paris"])[0] == []


def test_only_the_types_that_were_asked_for_and_are_sure_enough(spacy: str) -> None:
    assert found(make(spacy, ["location"]), "John Smith in Paris") == ["Paris/location"]
    assert found(make(spacy, threshold=0.9), "John Smith in Paris") == []


def test_a_pipeline_that_is_not_there_is_not_downloaded(tmp_path: Path) -> None:
    kit.needs("presidio", "presidio_analyzer", "spacy")
    with pytest.raises(OSError, match="spacy download en_core_web_nope"):
        make("en_core_web_nope")
    with pytest.raises(OSError, match="no such configuration"):
        make(str(tmp_path / "no.yaml"))
    (tmp_path / "presidio.yaml").write_text(CONFIG.format("en_core_web_nope", "de_core_news_nope"))
    with pytest.raises(OSError, match="spacy download en_core_web_nope"):
        make(str(tmp_path / "presidio.yaml"))
    (tmp_path / "empty.yaml").write_text("supported_languages: [en]\n")
    with pytest.raises(ValueError, match="nlp_configuration"):
        make(str(tmp_path / "empty.yaml"))


def test_a_configuration_with_two_languages_and_a_recognizer_of_ones_own(spacy: str, tmp_path: Path) -> None:
    german = pipeline(tmp_path / "de", "de", Hans_Meier="PERSON")
    (tmp_path / "presidio.yaml").write_text(CONFIG.format(spacy, german))
    engine = make(
        str(tmp_path / "presidio.yaml"),
        languages=["en", "de"],
        labels={"PERSON": "person", "LOCATION": "location", "SHIP": "organization"},
    )
    assert found(engine, "John Smith, Hans Meier and HMS Pinafore in Paris") == [
        "John Smith/person", "Hans Meier/person", "HMS Pinafore/organization", "Paris/location",
    ]  # fmt: skip


def test_an_entity_that_presidio_does_not_find_is_refused(spacy: str) -> None:
    with pytest.raises(ValueError, match=r"no SHIP here; it finds LOCATION"):
        make(spacy, labels={"SHIP": "organization"})
