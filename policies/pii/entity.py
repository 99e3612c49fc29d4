"""What an entity is: its detectors, each a rule with a confidence and the mark by which a text is known to lack it.

What lives here: the data types, left context, and the door to the optional packages. What must never live here: any
one entity; a text that outlives the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Any

from policies.detect import Rule
from policies.pii.engine import WordSet

__all__ = [
    "LOOK_BEHIND", "Detector", "Entity", "Hinted", "MissingExtra", "Near", "Reach", "detector", "digits_of", "humped",
    "humps", "maybe_of", "near", "other_number", "remembered", "stdnum", "words_before",
]  # fmt: skip

_DIGITS = re.compile("[0-9]+")
LOOK_BEHIND = 64
"""Characters to the left that may speak for a value. A stream never shows what stands to the right."""


class MissingExtra(RuntimeError):
    """An entity needs a package that is not installed. The message names the entities and the extra."""


class Reach(IntEnum):
    """How far from its mark a match may stand (``prefilter.py``). Every match of a detector holds a match of its mark
    (BEFORE: or has it in the look-behind), and
    TOKEN: holds no ASCII white space; SPACED: has at most 80 characters; LONG: at most 240; BEFORE: holds no ASCII
    white space; BLOCK: lies wholly inside the mark."""

    TOKEN = 0
    SPACED = 80
    LONG = 240
    BEFORE = -1
    BLOCK = -2


@dataclass(frozen=True)
class Detector:
    """rule: what to look for. score: how sure a match of it is, 0 to 1. mark: see ``Reach``; an RE2 pattern of ASCII
    characters."""

    rule: Rule
    score: float
    mark: str
    reach: Reach
    needs: str = ""
    """An RE2 pattern that every match holds too, of characters beyond ASCII: a text without one is not read for the mark."""


@dataclass(frozen=True)
class Entity:
    """A kind of personal data. name: as a policy writes it. label: as a placeholder shows it. groups: beside ``all``.
    detectors: in any order. needs_extra: its check needs ``headgate[pii]``. whole: a gate knows the whole value;
    without it, a gate acts on the first characters that are sure and swallows the rest (values without a bound)."""

    name: str
    label: str
    groups: tuple[str, ...]
    detectors: tuple[Detector, ...]
    description: str
    validator: str
    needs_extra: bool = False
    whole: bool = True
    phones: bool = False
    """Its detectors depend on the regions that are asked for."""

    @property
    def score(self) -> float:
        """Of its surest detector."""
        return max(d.score for d in self.detectors)

    def rules(self) -> list[Rule]:
        """One per detector; names are ``entity.number``."""
        return [d.rule for d in self.detectors]


def detector(
    name: str,
    patterns: str | Sequence[str],
    score: float,
    mark: str,
    reach: Reach,
    *,
    validate: Callable[[str], bool] | None = None,
    context: Callable[[str], bool] | None = None,
    whole_word: bool = True,
    value: bool = True,
    look_behind: int = LOOK_BEHIND,
    needs: str = "",
) -> Detector:
    """A detector whose rule says the usual: no letter or digit beside it, all of the value known."""
    rule = Rule(
        name,
        (patterns,) if isinstance(patterns, str) else tuple(patterns),
        whole_word=whole_word,
        validate=validate,
        context=context,
        look_behind=look_behind,
        value=value,
    )
    return Detector(rule, score, mark, reach, needs)


# Letters of scripts that put spaces between words. Thai, Chinese, Japanese and Korean do not: their words begin anywhere.
_LETTERS = (
    r"A-Za-z\x{aa}\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{52f}\x{531}-\x{587}\x{5d0}-\x{6ff}\x{900}-\x{97f}"
    r"\x{1e00}-\x{1fff}"
)
_BEGIN = rf"(?:\A|[^{_LETTERS}0-9])"
_END = rf"(?:[^{_LETTERS}0-9;!?\n]|\z)"
# The class stands first, for that is found fast; what must be before it is asked then.
_HUMP = re.compile(r"[A-Z\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af](?:(?<=[a-z][A-Z])|(?<=[A-Za-z][^A-Z]))")
_SHORT = "no|nr|num|núm|nº|n|tel|mob|ph|dr|mr|mrs|ms|st|ext|id|lic|ref"  # whose dot ends no sentence
_NUMBERED = r"[0-9][\"')\]]{0,2}\s?[:=]"  # phone2: , "phone_1":
_LINE = r"(?:[:：][ \t*_\"']{0,3}\r?\n[ \t>*•-]{0,4})?"  # Phone:\n 555 ...


def humped(before: str) -> str:
    """With a space at humps."""
    return _HUMP.sub(_spaced, before)


def humps(text: str) -> list[int]:
    """Where ``humped`` puts them."""
    return [found.start() for found in _HUMP.finditer(text)]


def _spaced(found: re.Match[str]) -> str:  # a template would be expanded where nothing is found, too
    return " " + found[0]


def source_of(pattern: str) -> str:
    """RE2 syntax from that of ``words_before``."""
    source = re.sub(r"\\b(?=[(\[\\]*[a-zà-ÿ])", "", pattern).replace(r"\b", _END).replace("<<", _BEGIN)
    return source.replace(r"\w", rf"[{_LETTERS}0-9_]")


# As _END, where the text goes on behind the word, with the value for one.
_END_THERE = rf"(?:[^{_LETTERS}]|\z)"


def maybe_of(pattern: str) -> str:
    """RE2 syntax of what is in every text, ``humped``, in which the pattern finds something behind ``<<``."""
    source = re.sub(r"\\b(?=[(\[\\]*[a-zà-ÿ])", "", pattern).replace(r"\b", _END_THERE)
    return rf"{_BEGIN}(?:{source})".replace(r"\w", rf"[{_LETTERS}0-9_]")


def words_before(pattern: str) -> Callable[[str], bool]:
    """A search of the text before a value, without regard to case and in linear time: RE2.

    pattern: RE2 syntax; ``<<`` is where a word begins, also at a hump of camelCase and anywhere in scripts without
    spaces; ``\\b`` behind a word is its end, in all scripts.
    """
    found = WordSet([source_of(pattern)]).numbers
    return lambda before: bool(found(humped(before)))


def remembered(judge: Callable[[str], bool]) -> Callable[[str], bool]:
    """The same, not asked twice in a row about one text: a value is judged at each of its possible ends, with the same
    text before it. Kept is a hash, never the text; its key is the process's own (PYTHONHASHSEED), so nobody
    can choose two texts that share it."""
    last: list[tuple[int, bool]] = [(hash(""), judge(""))]

    def asked(before: str) -> bool:
        key = hash(before)
        known, verdict = last[0]
        if key != known:
            verdict = judge(before)
            last[0] = key, verdict
        return verdict

    return asked


class Near:
    """A check of the text before a value; use ``near``. source: an RE2 pattern that finds, in the text ``humped`` and
    without regard to case, the words where they speak for the value: several are asked at once (``reader.py``). unless:
    then refuses it all the same. maybe: RE2, finds something wherever the check passes."""

    __slots__ = ("_found", "_last", "maybe", "source", "unless")

    def __init__(self, words: str, gap: int, unless: Callable[[str], bool] | None) -> None:
        between = rf"(?:[^0-9.;!?。！？；\n]|[^A-Za-z0-9.;!?\n](?:{_SHORT})\.|nr\.|{_NUMBERED}){{0,{gap}}}"
        self.source = source_of(rf"<<(?:{words})\.?{between}{_LINE}\z")
        self.maybe = maybe_of(words)
        self.unless = unless
        self._found = WordSet([self.source]).numbers
        self._last = hash(""), False  # see ``remembered``

    def __call__(self, before: str) -> bool:
        key = hash(before)
        known, verdict = self._last
        if key != known:
            verdict = self.surely(before)
            self._last = key, verdict
        return verdict

    def surely(self, before: str) -> bool:
        """The same, not remembered."""
        return bool(self._found(humped(before))) and (self.unless is None or not self.unless(before))


class Hinted:
    """A check of the text before a value that can only pass where there is a match of an RE2 pattern, read without regard
    to case. maybe: that pattern. surely: the check."""

    __slots__ = ("maybe", "surely")

    def __init__(self, maybe: str, surely: Callable[[str], bool]) -> None:
        self.maybe = maybe
        self.surely = surely

    def __call__(self, before: str) -> bool:
        return self.surely(before)


def near(words: str, *, gap: int = 24, unless: str | Callable[[str], bool] | None = None) -> Near:
    """A check that one of these words stands before the value, with no digit and no end of a sentence between (the
    dot of ``Tel.`` and ``no.`` is none, nor is a line end after a colon).

    words: alternatives, of RE2 syntax; words of scripts with spaces begin at a word's beginning, so that ``lic`` is not
    found in ``duplicate``, and end with one only where ``\\b`` says so. gap: characters between. unless: what must not
    stand there: a check, or an expression of ``re``.
    """
    if isinstance(unless, str):
        pattern = re.compile(unless)
        return Near(words, gap, lambda before: pattern.search(before) is not None)
    return Near(words, gap, unless)


_OTHERS = (
    r"order|ord|inv|ticket|invoice|receipt|case|reference|ref|tracking|parcel|shipment|booking|reservation|serial|sku|asin|ean|upc|gtin|"
    r"imei|vin|isbn|issn|doi|pmid|batch|transaction|po|p\.o\.|rfc|cve|bug|commit|build|version|epoch|timestamp|checksum|"
    r"(?:bestell|auftrags?|rechnungs?|kunden|sendungs?|artikel|vorgangs?|vertrags?|serien|mitglieds?|buchungs?|beleg|teile|"
    r"liefer|paket|zähler|matrikel|rezept)-?(?:nummer|nr|id)|personalnummer|aktenzeichen|rechnung|bestellung|commande|facture|"
    r"dossier|colis|suivi|contrat|réservation|série|lot|pedido|factura|seguimiento|paquete|expediente|contrato|reserva|serie|"
    r"ordine|fattura|spedizione|pratica|contratto|prenotazione|ordernummer|bestelling|bestelnummer|factuurnummer|factuur|"
    r"klantnummer|pakket|dossiernummer|zamówieni\w|faktur\w|przesyłki|rezerwacji|seryjny|umowy|encomenda|fatura|"
    r"protocolo|заказ\w?|сч[её]т\w?"
)
_OTHERS_WITH_KIND = (  # only as "customer number", "employee id"
    r"customer|client|part|article|model|policy|claim|contract|payment|issue|job|task|request|session|message|trace|event|"
    r"product|item|asset|record|row|flight|employee|staff|student|member|membership|subscription|meter|device|lot|cliente|"
    r"klienta|nota fiscal"
)
_CJK_OTHERS = (
    "(?:注文|請求書?|追跡|伝票|주문|송장|운송장|청구|订单|訂單|发票|發票|快递|快遞|运单|流水|交易)(?:番号|번호|号码|號碼|单号|編號|编号|号|號)?|"
    "(?:会員|予約|受付|管理|製造|商品|顧客|契約|問い?合わせ|예약|회원|상품|접수|고객|会员|會員|客户|产品|合同|序列|批|案件|工单)"
    "(?:番号|번호|号码|號碼|单号|編號|编号|号|號)"
)
_KIND = r"(?:number|num|no|nr|nummer|id|code|ref|numer|número|numéro|numero|n°|nº|№|#)"
other_number = remembered(
    words_before(
        rf"(?:<<(?:(?:{_OTHERS})(?:[ _.:/-]{{0,2}}{_KIND}){{0,2}}|(?:{_OTHERS_WITH_KIND})(?:[ _.:/-]{{0,2}}{_KIND}){{1,2}}|"
        rf"{_KIND}\.? (?:de |di |du |da |der |van |of )?(?:la |el |the |l')?(?:{_OTHERS}|{_OTHERS_WITH_KIND}))|{_CJK_OTHERS})"
        rf"[^{_LETTERS}0-9]{{0,3}}(?:is|was|ist|lautet|est|es|è|é|to|of|は|는|은|是|為|为)?[^{_LETTERS}0-9\x{{3040}}-\x{{d7a3}}]{{0,4}}\z"
    )
)
"""The value is called something else right before it: an order, a tracking or a serial number."""


def digits_of(value: str) -> str:
    """Its ASCII digits."""
    return "".join(_DIGITS.findall(value))


def stdnum(module: str) -> Callable[[str], bool]:
    """The check of a module of python-stdnum (``nl.bsn``), imported when first asked."""
    known: list[Callable[[str], bool]] = []

    def valid(value: str) -> bool:
        if not known:
            known.append(optional(f"stdnum.{module}").is_valid)
        return bool(known[0](value))

    return valid


def optional(module: str) -> Any:
    """A module of the extra. Raises MissingExtra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module.split('.')[0]} is not installed: pip install 'headgate[pii]'") from error
