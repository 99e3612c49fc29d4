"""What only the words before it make personal: dates of birth, numbers of documents.

What lives here: these. What must never live here: numbers with a check of their own.
"""

from __future__ import annotations

import re

from policies.pii.entity import Entity, Reach, detector, near, other_number, words_before
from policies.pii.words import IDENTITY, LICENCE, PASSPORT

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


# At least five figures, or letters among them; words of capitals have none.
_COMPACT = re.compile(r"(?=(?:[^\d]*\d){4})[A-Z0-9]{6,20}|[a-z]{1,2}\d{6,12}")
# D123-4567-8901, 11-02-123456-78, MORGA 753116 SM9IJ
_PARTED = re.compile(r"[A-Z0-9]{1,8}(?:[-/][A-Z0-9]{1,8})+|[A-Z]{0,5}\d{0,8}(?: (?=[A-Z]*\d)[A-Z0-9]{2,8})+")
_TAGGED = re.compile(r"(?:PO|NO|NR|ID|ORD|INV|REF|DOB|EXP|TEL)[ -]")  # a word before the number, in capitals
_PASS_NUMBER = re.compile(
    r"(?=(?:[^\d]*\d){5})(?:[A-Z0-9]{6,10}|[A-Z]{1,3}[ -]\d{5,8}[A-Z]?|\d\d [A-Z]{2} ?\d{5}|\d\d \d\d \d{6})|[a-z]{1,2}\d{6,8}|"
    r"(?=(?:[^\d]*\d){2})[CFGHJK][0-9CFGHJKLMNPRTVWXYZ]{8}"  # German, whose letters are no vowels
)
_MARKED = re.compile(r"\d(?:[^A-Za-z\d\n]?\d){4}|[A-Za-z0-9]{6}")
_YEARS = re.compile(r"(?:19|20)\d\d(?:[-/ .]?\d\d){2}\Z|\d\d[-/.]\d\d[-/.](?:19|20)\d\d\Z|(?:19|20)\d\d[-/](?:19|20)?\d\d\Z")


def _document(value: str) -> bool:
    return _PASS_NUMBER.fullmatch(value) is not None and _YEARS.match(value) is None


def _licence(value: str) -> bool:
    if _YEARS.match(value) or _TAGGED.match(value) or _MARKED.search(value) is None:
        return False
    if _COMPACT.fullmatch(value):
        return True
    return sum(c.isdigit() for c in value) >= 5 and _PARTED.fullmatch(value) is not None


_IDENTITY_GROUPS = re.compile(
    r"(?:[A-Z]{1,3}[ -])?\d{1,8}(?:\.\d{1,4})*(?:[./-]\d{1,7}[A-Z]?)*(?:-?[A-Z0-9])?(?:[ -][A-Z])?|"  # 300-62-2122, 12.345.678-9
    r"(?:[A-Z]{1,3} )?\d{1,6}(?: \d{1,6}| [A-Z](?= \d))+(?: ?[A-Z])?|"  # 2 95 10 99 126 111 93, AB 12 34 56 C
    r"\d{8}[ -]?\d[ -]?[A-Z]{2}\d|"  # 12345678 9 ZZ4
    r"[A-Z]{3} ?[A-Z]{3} \d\d[A-Z]\d\d [A-Z]\d{3}[A-Z]|[A-Z]\d{1,8}(?:[ .-]\d{1,6})+[A-Z]?"  # RSS MRA 80A01 H501U
)


def _identity(value: str) -> bool:
    if _YEARS.match(value) or _TAGGED.match(value):
        return False
    digits = sum(c.isdigit() for c in value)
    if value.isalnum():
        return digits >= 5 or (digits >= 1 and 8 <= len(value) <= 12)
    return digits >= 5 and _IDENTITY_GROUPS.fullmatch(value) is not None


_NO_PASSPORT = words_before(r"<<(?:expir\w*|valid\w*|issued?|fees?|gültig|until|bis|scad\w*|venc\w*|ważn\w*|expire|"
    r"renew\w*)[^\n.]{0,20}\z")
_NO_LICENCE = words_before(
    r"<<(?:software|windows|office|adobe|product|fishing|hunting|business|medical|nursing|liquor|gun|mit|apache|bsd|gpl|seat|"
    r"site|"
    r"volume|tv)\b[^\n.]{0,4}licen[cs]e[^\n.]{0,16}\z|licen[cs]e[ -](?:key|plate|code|server|file|agreement|fee)[^\n.]{0,16}\z|"
    r"permis de (?:construire|séjour|travail)[^\n.]{0,16}\z|"
    r"<<(?:expir\w*|valid\w*|issued?|gültig|until|bis|scad\w*|venc\w*|ważn\w*|points?)[^\n.]{0,20}\z"
)
_PASSPORT = near(PASSPORT, gap=36, unless=lambda before: _NO_PASSPORT(before) or other_number(before))
_LICENCE = near(LICENCE, gap=36, unless=lambda before: _NO_LICENCE(before) or other_number(before))
_EXPIRES = words_before(r"<<(?:expir\w*|valid\w*|issued|gültig|until|bis|scad\w*|venc\w*|ważn\w*|phone|tel|mobile|account|"
    r"konto)[^\n.]{0,16}\z")
_IDENTITY = near(IDENTITY, gap=32, unless=lambda before: _EXPIRES(before) or other_number(before))
_NUMBER = r"\d(?:[^A-Za-z\d\n]?\d){4}|[A-Z0-9]{6}"
_DATE_MARK = (
    r"\d[./-]\d{1,2}[./-]\d|\d{1,4}\? ?\d{1,2}\?|\d(?:st|nd|rd|th)?,? \d{4}|"
    r"\d(?:st|nd|rd|th|\.|er|\?)? (?:of |de )?[A-Za-z?]{3,10}\.?,? (?:de )?\d{4}"
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
        (detector("passport.1", r"[A-Z0-9](?:[ -]?[A-Z0-9]){5,10}|[a-z]{1,2}\d{6,8}", 0.9, _NUMBER, Reach.SPACED,
                  validate=_document, context=_PASSPORT),),
        "Passport number, after a word for it", "6 to 10 letters and digits, 5 of them digits",
    ),
    Entity(
        "driver_licence", "DRIVER_LICENCE", ("documents",),
        (detector("driver_licence.1", (r"[A-Z0-9](?:[ /-]?[A-Z0-9]){5,21}", r"[a-z]{1,2}\d{6,12}"), 0.9, _NUMBER, Reach.SPACED,
                  validate=_licence, context=_LICENCE),),
        "Driving licence number, after a word for it", "6 to 20 letters and digits, 4 of them digits, also in groups",
    ),
    Entity(
        "national_id", "NATIONAL_ID", ("national_ids",),
        (detector("national_id.1", (r"[A-Z0-9](?:[ ./-]?[A-Z0-9]){5,19}", r"\d{17}x"), 0.88, _NUMBER, Reach.SPACED,
                  validate=_identity, context=_IDENTITY),),
        "Any number after a word for an identity card or national number, whatever its check digit", "has digits",
    ),
)  # fmt: skip
