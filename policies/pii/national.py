"""National identity, tax and social security numbers.

What lives here: a table of shapes, checks and words. What must never live here: other entities. Where a number is
nothing but digits, chance passes its check digit often (one in ten or eleven): such a number counts with a word before
it, and without one only below the usual threshold. Check digits are those of python-stdnum, but for the US and UK
rules, which are a line each (SSA publication 05-10633 and the IRS's ITIN ranges; HMRC's NIM39110).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from policies.pii.entity import Detector, Entity, Reach, detector, digits_of, near, other_number, remembered, stdnum

__all__ = ["ENTITIES"]

_GAP = r"[ \x{a0}]?"
_ADVERTISED = ("078051120", "219099999", "123456789", "111111111", "333333333")


def _ssn(value: str) -> bool:
    d = digits_of(value)
    even = value[3] == value[6] if len(value) == 11 else len(value) == 9
    return even and d[:3] not in ("000", "666") and d[0] != "9" and d[3:5] != "00" and d[5:] != "0000" \
        and d not in _ADVERTISED  # fmt: skip


def _itin(value: str) -> bool:
    d = digits_of(value)
    group = int(d[3:5])
    return d[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


_NO_NINO = {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}


def _nino(value: str) -> bool:
    return not (set(value[:2]) & set("DFIQUV")) and value[1] != "O" and value[:2] not in _NO_NINO


def _date(yy: str, mm: str, dd: str) -> bool:
    return yy.isdigit() and 1 <= int(mm) <= 12 and 1 <= int(dd) <= 31


def _rrn(value: str) -> bool:
    """Given since October 2020 without a check digit: the date and the century's digit are all that can be asked."""
    d = digits_of(value)
    return _date(d[:2], d[2:4], d[4:6]) and d[6] in "12345678"


def _formatted(check: Callable[[str], bool], shape: str) -> Callable[[str], bool]:
    pattern = re.compile(shape)
    return lambda value: pattern.fullmatch(value) is not None and check(value)


class _Row(NamedTuple):
    """bare: confidence without a word before it; shaped: the same in this form."""

    name: str
    label: str
    text: str
    pattern: str
    check: Callable[[str], bool]
    validator: str
    words: str
    bare: float
    shaped: tuple[str, float] | None = None
    group: str = "national_ids"
    extra: bool = True


_TIN = r"tax (?:id|number|identification)|tin\b|steuer"
_ROWS = (
    _Row("us_ssn", "SSN", "US social security number", r"\d{3}[ -]?\d{2}[ -]?\d{4}", _ssn,
         "areas, groups and serials that are given out; not the advertised ones",
         r"ssn|social sec|soc\.? sec|\bss ?(?:no\b|number|#)|social (?:is|was|number|no\b|#)|(?:my|his|her|their|your) social",
         0.3, (r"\d{3}([ -])\d\d\1\d{4}", 0.85), "us_ids", False),
    _Row("us_itin", "ITIN", "US individual taxpayer number", r"9\d{2}[ -]?\d{2}[ -]?\d{4}", _itin, "IRS ranges",
         r"itin|taxpayer|tax id|ssn", 0.3, (r"\d{3}([ -])\d\d\1\d{4}", 0.8), "us_ids", False),
    _Row("uk_nhs", "NHS", "UK NHS number", r"\d{3}[ -]?\d{3}[ -]?\d{4}", stdnum("gb.nhs"), "mod 11",
         r"nhs|patient (?:no|number|id)|health (?:service )?number", 0.3),
    _Row("uk_nino", "NINO", "UK national insurance number", rf"[A-Z]{{2}}{_GAP}\d{{2}}{_GAP}\d{{2}}{_GAP}\d{{2}}{_GAP}[A-D]",
         _nino, "HMRC's prefixes", r"national insurance|nino|ni (?:no|number)|insurance", 0.8, None, "national_ids", False),
    _Row("de_steuer_id", "STEUER_ID", "German tax number of a person", rf"\d{{2}}{_GAP}\d{{3}}{_GAP}\d{{3}}{_GAP}\d{{3}}",
         stdnum("de.idnr"), "ISO 7064 mod 11,10, digit counts", rf"{_TIN}|idnr|identifikationsnummer", 0.4),
    _Row("fr_nir", "NIR", "French social security number",
         rf"[12]{_GAP}\d{{2}}{_GAP}\d{{2}}{_GAP}(?:\d{{2}}|2[AB]){_GAP}\d{{3}}{_GAP}\d{{3}}{_GAP}\d{{2}}", stdnum("fr.nir"),
         "97-key", r"s[ée]curit[ée] sociale|s[ée]cu\b|nir\b|insee|assur[ée]|carte vitale|n° ?ss\b", 0.85),
    _Row("es_nif", "NIF", "Spanish DNI or NIF", r"\d{8}[ -]?[A-Z]", stdnum("es.nif"), "letter mod 23",
         r"dni\b|nif\b|identidad|documento", 0.8),
    _Row("es_nie", "NIE", "Spanish number of a foreigner", r"[XYZ][ -]?\d{7}[ -]?[A-Z]", stdnum("es.nie"), "letter mod 23",
         r"nie\b|nif\b|extranjero|identidad|documento", 0.85),
    _Row("it_codice_fiscale", "CODICE_FISCALE", "Italian tax code, also its variants for equal names",
         r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]", stdnum("it.codicefiscale"),
         "check letter", r"codice fiscale|cod\.? ?fisc|c\.?f\.?\b|fiscal", 0.95),
    _Row("nl_bsn", "BSN", "Dutch citizen service number", r"\d{9}|\d{4}[. ]\d{2}[. ]\d{3}", stdnum("nl.bsn"), "11-test",
         r"bsn|burgerservice|sofi|persoonsnummer|identiteit", 0.3),
    _Row("pl_pesel", "PESEL", "Polish PESEL", r"\d{11}", stdnum("pl.pesel"), "date, weighted mod 10", r"pesel\w*", 0.4),
    _Row("se_personnummer", "PERSONNUMMER", "Swedish personal number", r"(?:\d{2})?\d{6}[-+]?\d{4}",
         stdnum("se.personnummer"), "date, Luhn", r"person(?:al )?(?:nummer|number|nr)|pnr\b", 0.3,
         (r"(\d{2})?\d{6}[-+]\d{4}", 0.6)),
    _Row("fi_hetu", "HETU", "Finnish personal identity code", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", stdnum("fi.hetu"),
         "date, mod 31", r"hetu|henkilötunnus|personbeteckning", 0.9),
    _Row("br_cpf", "CPF", "Brazilian CPF", r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", stdnum("br.cpf"), "two digits mod 11", r"cpf",
         0.4, (r"\d{3}\.\d{3}\.\d{3}-\d{2}", 0.9)),
    _Row("br_cnpj", "CNPJ", "Brazilian CNPJ", r"\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}", stdnum("br.cnpj"), "two digits mod 11",
         r"cnpj", 0.4, (r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}", 0.9)),
    _Row("in_aadhaar", "AADHAAR", "Indian Aadhaar", r"\d{4}[ -]?\d{4}[ -]?\d{4}", stdnum("in_.aadhaar"), "Verhoeff",
         r"aadh?aar|adhaar|uidai|uid\b|आधार", 0.4),
    _Row("in_pan", "PAN", "Indian PAN", r"[A-Z]{5}\d{4}[A-Z]", stdnum("in_.pan"), "holder's letter",
         r"pan\b|permanent account", 0.7),
    _Row("cn_id", "CN_ID", "Chinese resident identity number", r"\d{17}[0-9Xx]", stdnum("cn.ric"), "date, ISO 7064 mod 11-2",
         r"身份证|身份證|身分證|证件|證件|resident id|identity|id card|id (?:no\b|number)", 0.85),
    _Row("ca_sin", "SIN", "Canadian social insurance number", r"\d{3}[ -]?\d{3}[ -]?\d{3}", stdnum("ca.sin"), "Luhn",
         r"sin\b|social insurance|nas\b|assurance sociale", 0.4),
    _Row("au_tfn", "TFN", "Australian tax file number", r"\d{3} ?\d{3} ?\d{2,3}", stdnum("au.tfn"), "weighted mod 11",
         r"tfn|tax file", 0.3),
    _Row("kr_rrn", "RRN", "Korean resident registration number", r"\d{6}-\d{7}", _rrn, "date, century",
         r"주민|rrn\b|resident registration", 0.75, None, "national_ids", False),
    _Row("jp_my_number", "MY_NUMBER", "Japanese individual number", r"\d{4}[ -]?\d{4}[ -]?\d{4}", stdnum("jp.in_"),
         "mod 11", r"マイナンバー|個人番号|my ?number", 0.3),
)  # fmt: skip


def _mark(row: _Row) -> str:
    if row.name == "it_codice_fiscale":
        return r"[A-Z]{6}[0-9L-V]{2}[A-Z]"
    if row.name == "in_pan":
        return r"[A-Z]{5}\d{4}"
    return r"\d(?:[^a-z\d\n]{0,2}\d){5}"


def _without_references(shape: str) -> str:
    """RE2 syntax that takes what the shape takes, and more where that refers to its first group."""
    group = re.search(r"\((\[[^\]]*\])\)", shape)
    return shape if group is None else shape.replace(group[0], group[1]).replace(r"\1", group[1])


def _entity(row: _Row) -> Entity:
    mark, check = _mark(row), row.check
    ways: list[Detector] = [
        detector(f"{row.name}.1", row.pattern, 0.96, mark, Reach.SPACED, validate=check, context=near(row.words)),
        detector(f"{row.name}.2", row.pattern, row.bare, mark, Reach.SPACED, validate=check, context=_alone),
    ]
    if row.shaped:
        shape, score = row.shaped
        ways.append(
            detector(f"{row.name}.3", _without_references(shape), score, mark, Reach.SPACED, validate=_formatted(check, shape),
                     context=_alone)
        )  # fmt: skip
    return Entity(row.name, row.label, (row.group,), tuple(ways), row.text, row.validator, row.extra)


_TAIL = re.compile(r"[\w#][-./]\Z|[0-9] \Z|#\Z")


@remembered
def _alone(before: str) -> bool:
    """Not the tail of something longer, nor what calls itself an order."""
    return _TAIL.search(before) is None and not other_number(before)


ENTITIES = tuple(_entity(row) for row in _ROWS)
