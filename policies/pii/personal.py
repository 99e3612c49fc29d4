"""What only the words before it make personal: dates of birth, numbers of documents; and postal addresses.

What lives here: these. What must never live here: numbers with a check of their own.
"""

from __future__ import annotations

import re

from policies.pii.entity import Entity, Reach, detector, near

__all__ = ["ENTITIES"]

_LETTER = r"A-Za-z\x{c0}-\x{24f}\x{370}-\x{52f}"
_MONTH = rf"[{_LETTER}]{{3,10}}\.?"
_DATES = (
    r"\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})", r"\d{4}[./-]\d{1,2}[./-]\d{1,2}", r"\d{4}年 ?\d{1,2}月 ?\d{1,2}日",
    r"\d{4}년 ?\d{1,2}월 ?\d{1,2}일", rf"\d{{1,2}}(?:st|nd|rd|th|\.|er|º)? (?:of |de )?{_MONTH},? (?:de )?\d{{4}}",
    rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}",
)  # fmt: skip
_BORN = near(
    r"born|dob\b|d\.o\.b\b|date[ _]?of[ _]?birth|birth[ _]?date|birth[ _]?day|geboren|geburtsdatum|geb\b|né\b|née\b|né\(e\)|"
    r"naissance|nato\b|nata\b|nacimiento|nací\b|nacid[oa]|nasc|urodz|ur\b|födelse|född|syntym|生年月日|誕生日|"
    r"出生|生日|생년월일|출생|рожд|род\b"
)


def _date(value: str) -> bool:
    """A day that a person alive may have been born on."""
    numbers = [int(n) for n in re.findall(r"\d+", value)]
    years = [n for n in numbers if n > 31 or n == 0] or [numbers[-1]]
    rest = [n for n in numbers if n not in years]
    return len(years) == 1 and (1890 <= years[0] <= 2035 or years[0] < 100) and all(1 <= n <= 31 for n in rest)


def _token(low: int, high: int, digits: int) -> re.Pattern[str]:
    return re.compile(rf"(?=(?:[^\d]*\d){{{digits}}})[A-Z0-9]{{{low},{high}}}")


def _document(value: str) -> bool:
    return _token(6, 9, 5).fullmatch(value) is not None


def _licence(value: str) -> bool:
    return _token(5, 18, 4).fullmatch(value) is not None


def _identity(value: str) -> bool:
    digits = sum(c.isdigit() for c in value)
    if re.search(r"[ ./-]", value) and not re.fullmatch(r"(?:[A-Z]{1,2}[ ])?\d+(?:[ ./-][0-9]+)*(?:[ -][A-Z])?", value):
        return False
    return digits >= 5 or (digits >= 1 and 8 <= len(value) <= 12)


_PASSPORT = near(r"passport|reisepass|passeport|pasaporte|passaporto|paspoort|paszport|passaporte|护照|パスポート|여권")
_LICENCE = near(
    r"driv(?:er|ing)|licen[cs]e|\bdl\b|führerschein|permis de conduire|"
    r"patente di guida|carné de conducir|permiso de conducir|rijbewijs|prawo jazdy|carteira de motorista|cnh\b|运转免许|"
    r"驾驶证|運転免許|운전면허"
)
_IDENTITY = near(
    r"national[ _-]?(?:id\b|identity|identification|insurance)|identity (?:card|number|document)|id card|personal id|"
    r"\bid (?:no\b|number|nr\b)|identification (?:no\b|number|code)|citizen(?:ship)? (?:id|no\b|number|card)|"
    r"insurance (?:no\b|number)|social security|tax (?:id|number)|personnummer|identité|identidad|identità|tożsamości|fiscale|"
    r"personalausweis|ausweisnummer|ausweis-?nr|dni\b|nif\b|cédula|carte d'identité|carta d'identità|身份证|身分證|주민등록|"
    r"マイナンバー|個人番号|aadh?aar"
)
_NUMBER = r"\d(?:[^A-Za-z\d\n]?\d){4}|[A-Z0-9]{6}"
_DATE_MARK = (
    r"\d[./-]\d{1,2}[./-]\d|\d{1,4}\? ?\d{1,2}\?|\d(?:st|nd|rd|th)?,? \d{4}|"
    r"\d(?:st|nd|rd|th|\.|er|\?)? (?:of |de )?[A-Za-z?]{3,10}\.?,? (?:de )?\d{4}"
)

_WORD = rf"[A-ZÄÖÜ][{_LETTER}'.-]{{0,19}}"
_UNIT = r"(?:(?:,? (?:Apt|Suite|Ste|Unit|Flat|Studio|Floor|#)\.? ?\w{1,6})?)"
_STATE = "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]|"
_STATE += "A[ESP]|AS|GU|M[HP]|FM|PW|VI)"
_BREAK = r"(?:, ?\n?|\n| )"
_POSTCODE = r"[A-Z]{1,2}\d[A-Z0-9]? ?\d[A-Z]{2}"
_ADDRESSES = (
    # 12 Oak Street, Springfield, IL 62704
    rf"\d{{1,5}}(?: {_WORD}){{1,4}}{_UNIT}{_BREAK}{_WORD}(?: {_WORD}){{0,2}},? {_STATE} \d{{5}}(?:-\d{{4}})?",
    # Flat 3, 12 Oak Street, London SW1A 1AA
    rf"(?:(?:Flat|Studio|Unit|Apartment) \d{{1,4}}\w?{_BREAK})?(?:\d{{1,4}}[A-Za-z]? )?{_WORD}(?: {_WORD}){{0,3}}{_BREAK}"
    rf"{_WORD}(?: {_WORD}){{0,2}}{_BREAK}{_POSTCODE}",
    # Lindenstr. 12, 10969 Berlin
    rf"{_WORD}(?:[ -]{_WORD}){{0,3}} \d{{1,4}}(?:[-/]\d{{1,4}})?[a-z]?{_BREAK}\d{{5}} {_WORD}(?:[ -]{_WORD}){{0,2}}",
)  # fmt: skip
_STREETS = (
    # 12 Oak Street, without a place
    rf"\d{{1,5}} (?:{_WORD} ){{1,3}}(?:Street|Avenue|Ave|Road|Rd|Boulevard|Blvd|Drive|Lane|Ln|Court|Terrace|Parkway|Crescent)\b",
)

ENTITIES = (
    Entity(
        "date_of_birth", "DATE_OF_BIRTH", ("contact",),
        (detector("date_of_birth.1", _DATES, 0.85, _DATE_MARK, Reach.SPACED, validate=_date,
                  context=_BORN),),
        "Date, after a word for birth", "a day that somebody alive may be born on",
    ),
    Entity(
        "passport", "PASSPORT", ("documents",),
        (detector("passport.1", "[A-Z0-9]{6,9}", 0.8, r"\d[A-Z0-9]{3,}\d", Reach.TOKEN, validate=_document,
                  context=_PASSPORT),),
        "Passport number, after a word for it", "6 to 9 letters and digits, 5 of them digits",
    ),
    Entity(
        "driver_licence", "DRIVER_LICENCE", ("documents",),
        (detector("driver_licence.1", "[A-Z0-9]{5,18}", 0.8, r"\d[A-Z0-9]{3,}\d|[A-Z]\d{4}|\d{4}[A-Z]", Reach.TOKEN,
                  validate=_licence, context=_LICENCE),),
        "Driving licence number, after a word for it", "5 to 18 letters and digits, 4 of them digits",
    ),
    Entity(
        "national_id", "NATIONAL_ID", ("national_ids",),
        (detector("national_id.1", r"[A-Z0-9](?:[ ./-]?[A-Z0-9]){5,19}", 0.88, _NUMBER, Reach.SPACED, validate=_identity,
                  context=_IDENTITY),),
        "Any number after a word for an identity card or national number, whatever its check digit", "has digits",
    ),
    Entity(
        "postal_address", "ADDRESS", ("contact",),
        (
            detector("postal_address.1", _ADDRESSES, 0.7, r"\d{5}|\d[A-Z]{2}", Reach.LONG),
            detector("postal_address.2", _STREETS, 0.6, r"\d [A-Z]", Reach.LONG),
        ),
        "Postal address as written in the US, the UK and Germany", "street, place and postcode; or number and kind of street",
    ),
)  # fmt: skip
