"""The engine ``presidio``: Microsoft Presidio's analyzer, with a spaCy pipeline or a configuration of its own.

What lives here: making the analyzer, and reading its results. What must never live here: threads; Presidio's patterns
(headgate has its own), unless the user's configuration names them; a download.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from policies.pii.ner_sentences import Name, trimmed

__all__ = ["PresidioEngine"]


class PresidioEngine:
    """Finds names with Presidio.

    model: a spaCy pipeline, installed or a directory; or a Presidio analyzer configuration (``*.yaml``), for several
    languages or recognizers of one's own. languages: every text is looked at in each. labels: Presidio's entities to
    types. wanted: types.
    """

    batch = 4

    def __init__(
        self,
        model: str,
        *,
        wanted: Sequence[str],
        labels: dict[str, str],
        languages: Sequence[str],
        threshold: float = 0.6,
    ) -> None:
        self._name = model
        self._types = {label: type for label, type in labels.items() if type in wanted}
        self._languages = tuple(languages)
        self._threshold = threshold
        self._analyzer: Any = None

    def load(self) -> None:
        """Make the analyzer; done once. Raises OSError (no such pipeline), ValueError, ImportError."""
        if self._analyzer is not None:
            return
        presidio = import_module("presidio_analyzer")
        if self._name.endswith((".yaml", ".yml")):
            if not Path(self._name).is_file():
                raise OSError("ner: there is no such configuration file")
            provider = presidio.AnalyzerEngineProvider(analyzer_engine_conf_file=self._name)
            for model in _models(provider.configuration):
                _is_there(model)
            analyzer = provider.create_engine()
        else:
            _is_there(self._name)
            analyzer = self._with_spacy(presidio)
        has = {e for language in self._languages for e in analyzer.get_supported_entities(language)}
        if missing := sorted(set(self._types).difference(has)):
            raise ValueError(f"ner: Presidio finds no {', '.join(missing)} here; it finds {', '.join(sorted(has)[:40])}")
        self._analyzer = analyzer

    def _with_spacy(self, presidio: Any) -> Any:
        engine = import_module("presidio_analyzer.nlp_engine").NlpEngineProvider(
            nlp_configuration={
                "nlp_engine_name": "spacy",
                "models": [{"lang_code": language, "model_name": self._name} for language in self._languages],
                "ner_model_configuration": {"model_to_presidio_entity_mapping": _SPACY, "labels_to_ignore": []},
            }
        ).create_engine()
        registry = presidio.RecognizerRegistry(supported_languages=list(self._languages))
        for language in self._languages:
            registry.add_recognizer(
                presidio.predefined_recognizers.SpacyRecognizer(
                    supported_language=language, supported_entities=sorted(set(_SPACY.values()))
                )
            )
        return presidio.AnalyzerEngine(
            nlp_engine=engine, registry=registry, supported_languages=list(self._languages)
        )

    def ready(self) -> None:
        """To be called in each thread that will ask."""
        self.load()

    def names(self, texts: Sequence[str]) -> list[list[Name]]:
        """The names in each text, offsets in code points; they may overlap."""
        return [self._of(text) for text in texts]

    def _of(self, text: str) -> list[Name]:
        out: list[Name] = []
        entities = list(self._types)
        for language in self._languages:
            found = self._analyzer.analyze(text, language=language, entities=entities, score_threshold=self._threshold)
            for one in found:
                start, end = trimmed(text, one.start, one.end)
                if any(c.isalpha() for c in text[start:end]):
                    out.append(Name(start, end, self._types[one.entity_type], float(one.score)))
        return out


def _models(configuration: Any) -> list[str]:
    """The spaCy pipelines that an analyzer configuration names. Raises ValueError where it names none: Presidio would take
    its own."""
    nlp = configuration.get("nlp_configuration") if isinstance(configuration, dict) else None
    named = nlp.get("models") if isinstance(nlp, dict) else None
    names = [m.get("model_name") for m in named if isinstance(m, dict)] if isinstance(named, list) else []
    found = [n.get("spacy") if isinstance(n, dict) else n for n in names]
    if not found or not all(isinstance(name, str) for name in found):
        raise ValueError("ner: write the models of Presidio's nlp_configuration into the analyzer configuration")
    return [str(name) for name in found]


def _is_there(pipeline: str) -> None:
    """Presidio would download it otherwise. Raises OSError."""
    if not import_module("spacy").util.is_package(pipeline) and not Path(pipeline).is_dir():
        raise OSError(f"ner: the spaCy pipeline is not installed: python -m spacy download {pipeline}")


_SPACY = {
    "PER": "PERSON", "PERSON": "PERSON", "LOC": "LOCATION", "LOCATION": "LOCATION", "GPE": "LOCATION", "FAC": "LOCATION",
    "ORG": "ORGANIZATION", "ORGANIZATION": "ORGANIZATION",
}  # fmt: skip
"""What spaCy's pipelines call names, and Presidio's words for it."""
