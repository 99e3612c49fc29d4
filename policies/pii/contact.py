"""E-mail addresses and telephone numbers.

What lives here: their shapes and checks. What must never live here: other entities. An e-mail address is ASCII, or of
scripts that put spaces between words, or wholly of one that does not: the words of a Chinese sentence stand right
before an address, and are no part of it. Lengths are those of RFC 5321 4.5.3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from policies.pii.entity import Detector, Entity, Reach, detector, digits_of, near, optional

__all__ = ["ENTITIES", "phone_detectors"]

# Latin, combining marks, Greek, Cyrillic, Armenian, Hebrew, Arabic, Devanagari; ranges, because asking RE2 for a script
# takes a quarter of a second.
_WIDE = r"A-Za-z\x{c0}-\x{24f}\x{300}-\x{52f}\x{531}-\x{5f4}\x{620}-\x{6ff}\x{900}-\x{97f}\x{1e00}-\x{1fff}"
_CJK = r"\x{3041}-\x{30ff}\x{3400}-\x{9fff}\x{ac00}-\x{d7a3}"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_WIDE_LABEL = rf"[{_WIDE}0-9](?:[{_WIDE}0-9-]*[{_WIDE}0-9])?"
_TOP = r"(?:[A-Za-z]{2,24}|[Xx][Nn]--[A-Za-z0-9-]{2,59})"
_CJK_TOP = "(?:中国|中國|公司|网络|網絡|香港|台灣|台湾|みんな|コム|テスト|世界|한국|닷컴|테스트)"
_EMAIL = (
    rf"[A-Za-z0-9_](?:[A-Za-z0-9.%&'+_~-]*[A-Za-z0-9_+-])?@(?:{_LABEL}\.)+{_TOP}",
    rf"[{_WIDE}0-9](?:[{_WIDE}0-9._%+'-]*[{_WIDE}0-9_+-])?@(?:{_WIDE_LABEL}\.)+[{_WIDE}]{{2,}}",
    rf"(?:[A-Za-z0-9_.+-]+|[{_CJK}]+)@(?:[{_CJK}0-9-]+\.)+(?:{_TOP}|{_CJK_TOP})",
    rf"[{_CJK}]+@(?:{_LABEL}\.)+{_TOP}",
)
_NO_ADDRESS = re.compile(r"(?i)^git@|\.(?:png|jpe?g|gif|svg|webp|ico|pdf)$|^(?:ghp|gho|ghs|github_pat|glpat|hf|npm)[_-]")
_USER_INFO = re.compile(r"://[^\s/@]*\Z")


def _address(value: str) -> bool:
    return _NO_ADDRESS.search(value) is None and len(value.partition("@")[0]) <= 64


def _no_user_info(before: str) -> bool:
    """``https://user:word@host``: what stands before the sign is no mailbox."""
    return _USER_INFO.search(before) is None


# A number's own words in the languages that the catalogue knows.
_PHONE_WORDS = (
    r"phone|telephone|tel\b|tél|telefon|telefono|teléfono|telefone|telefoon|mobile|mobil|móvil|mob\b|ph\b|cell\b|cellular|"
    r"handy|fax|pager|landline|hotline|helpline|call(?:ing|ed|s)?\b|ring\b|dial|reach|text me|sms|my number|"
    r"whats ?app|viber|signal|contact|rückruf|anruf|ruf\b|bel\b|llám|numéro|numero\b|número|ligue|celular|komórk|zadzwo|puhelin|"
    r"电话|電話|手机|手機|号码|携帯|전화|휴대폰|연락처|फ़ोन|فون|هاتف"
)
_NO_CALL = r"(?i)(?:order|ticket|invoice|case|account|ref)\W{0,3}(?:no\W|number|#)?[^\n]{0,12}\Z|\bid\W{0,3}\Z"
_CALL = near(_PHONE_WORDS, unless=_NO_CALL)
_RECORD = re.compile(r"@[A-Za-z0-9.-]+\.[A-Za-z]{2,}[\"']?[,;|\t] ?[\"']?\Z")  # a row: the column after the address
_COLUMN = frozenset(",;|\t \"'")
_INSIDE = re.compile(r"\d[ .:\-/]?\(?\Z|[\w-][-_]\Z|[#$€£¥] ?\+?\Z|(?i:isbn|\bid)\W{0,3}\Z")


def _spoken_for(before: str) -> bool:
    return _CALL(before) or (before[-1:] in _COLUMN and _RECORD.search(before) is not None)


def _alone(before: str) -> bool:
    """Not the tail of something longer, a GUID or a price."""
    return _INSIDE.search(before[-12:]) is None


_GAP = r"[ .\-/()\x{a0}\x{2011}]{0,3}"
_EXTENSION = r"(?: ?(?:x|ext\.? ?|#)\d{1,6})?"
_INTERNATIONAL = rf"\(?\+ ?\(?[1-9](?:{_GAP}\d){{6,14}}{_EXTENSION}"
_NATIONAL = rf"\(?\d(?:{_GAP}\d){{6,14}}{_EXTENSION}"
_MARK = r"\d(?:[^A-Za-z\d\n]{0,3}\d){6}"
_DATE = re.compile(r"^(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})(?:\D|$)")
_DOTTED = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")
_DECIMAL = re.compile(r"\d+\.\d+\Z")
_AMERICAN = re.compile(r"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4} ?")
_WRITTEN = re.compile(r"\(|0\d*[ .\-/()]+\d|(?:1[ .-]?)?[2-9]\d\d[ .-]\d")
_BRACKETS = re.compile(r"^[^()]*(?:\([^()]*\)[^()]*)*\Z")


def _shaped(value: str) -> bool:
    main = re.split(r"x|ext|#", value)[0]
    return _BRACKETS.match(main) is not None and not _DATE.match(main) and not _DOTTED.match(main)


def _library() -> Any:
    return optional("phonenumbers")


def _international(value: str) -> bool:
    """A calling code that exists, and a length that E.164 allows. Whether the range is in use today is not asked:
    new ones open faster than lists are brought up to date."""
    lib = _library()
    digits = digits_of(re.split(r"x|ext|#", value)[0])
    if not 7 <= len(digits) <= 16 or not _shaped(value):
        return False
    codes = lib.COUNTRY_CODE_TO_REGION_CODE
    return any(int(digits[:n]) in codes for n in (1, 2, 3))


def _valid_in(regions: Sequence[str]) -> Callable[[str], bool]:
    def valid(value: str) -> bool:
        """Written as a number is: in groups, with the brackets or the leading zero of its country, or as in America."""
        if not _WRITTEN.match(value):
            return False
        main = re.split(r"x|ext|#", value)[0]
        if not _shaped(value) or _DECIMAL.match(main):
            return False
        american = _AMERICAN.fullmatch(main) is not None
        if not american and main[0] not in "(0":
            return False
        lib = _library()
        for region in regions:
            if american != (lib.country_code_for_region(region) == 1):
                continue
            try:
                number = lib.parse(value, region)
            except lib.NumberParseException:
                continue
            if lib.is_valid_number_for_region(number, region):
                return True
        return False

    return valid


def _possible(value: str) -> bool:
    return 7 <= len(digits_of(re.split(r"x|ext|#", value)[0])) <= 15 and _shaped(value)


def phone_detectors(regions: Sequence[str]) -> tuple[Detector, ...]:
    """regions: ISO 3166 codes whose national forms count without a word before them. Raises MissingExtra, or ValueError
    for a region that libphonenumber does not know."""
    lib = _library()
    for region in regions:
        if region not in lib.SUPPORTED_REGIONS:
            raise ValueError(f"no telephone numbers are known for the region {region!r}; use ISO 3166 codes such as US")
    return _phones(regions)


def _phones(regions: Sequence[str]) -> tuple[Detector, ...]:
    wide = Reach.SPACED
    return (
        detector("phone.1", _INTERNATIONAL, 0.85, _MARK, wide, validate=_international, context=_plus),
        detector("phone.2", _NATIONAL, 0.8, _MARK, wide, validate=_possible, context=_spoken_for),
        detector("phone.3", _NATIONAL, 0.6, _MARK, wide, validate=_valid_in(regions), context=_alone),
    )


def _plus(before: str) -> bool:
    return not before or not (before[-1].isalnum() or before[-1] in "+.-#")


ENTITIES = (
    Entity(
        "email", "EMAIL", ("contact",),
        (detector("email.1", _EMAIL, 0.95, "@", Reach.TOKEN, validate=_address, context=_no_user_info),),
        "E-mail address, also of other scripts and in punycode", "shape, lengths; not a file name, not `user@` of a URL",
    ),
    Entity(
        "phone", "PHONE", ("contact",), _phones(("US",)),
        "Telephone number: with `+`, after a word that says so, or valid in one of `regions`",
        "libphonenumber", needs_extra=True, phones=True,
    ),
)  # fmt: skip
