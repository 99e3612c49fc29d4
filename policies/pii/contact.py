"""E-mail addresses and telephone numbers.

What lives here: their shapes and checks. What must never live here: other entities. An e-mail address is ASCII, or of
scripts that put spaces between words, or wholly of one that does not: the words of a Chinese sentence stand right
before an address, and are no part of it. Lengths are those of RFC 5321 4.5.3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from policies.pii.entity import (
    Detector,
    Entity,
    Hinted,
    Reach,
    detector,
    digits_of,
    near,
    optional,
    other_number,
    remembered,
    words_before,
)
from policies.pii.words import PHONE

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


_NO_CALL = words_before(
    r"<<(?:account|acct|a/c|konto\w*|iban|passport|licen[cs]e|ssn|social security|zip|postcode|postal code|plz|isbn|口座|계좌|"
    r"账号|账户)"
    r"[^\n.]{0,12}\z|<<id[^A-Za-z0-9]{0,3}\z"
)
_CALL = near(PHONE, gap=36, unless=lambda before: other_number(before) or _NO_CALL(before))
_RECORD = re.compile(r"@[A-Za-z0-9.-]+\.[A-Za-z]{2,}[\"']?[,;|\t] ?[\"']?\Z")  # a row: the column after the address
_COLUMN = frozenset(",;|\t \"'")
# The second of two: "0151 2345678 or".
_SECOND = re.compile(
    r"\A(.*?)[+(]?\d[\d ()./+-]{5,24}?\s?(?:[,/|&]|、|or|and|oder|bzw\.|und|ou|et|o|y|e|of|en|lub|i|または|或|또는)\s?\Z", re.S
)
_INSIDE = re.compile(r"\d[ .:\-/]?\(?\Z|[\w-][-_]\Z|[#$€£¥] ?\+?\Z|(?i:isbn|\bid)\W{0,3}\Z")


# What stands before it in any case.
_TO_SECOND = re.compile(r"[\d ()./+-]\s?(?:[,/|&]|、|or|and|oder|bzw\.|und|ou|et|o|y|e|of|en|lub|i|または|或|또는)\s?\Z")


@remembered
def _spoken_for(before: str) -> bool:
    if _CALL(before):
        return True
    if before[-1:] in _COLUMN and _RECORD.search(before) is not None:
        return True
    if _TO_SECOND.search(before[-12:]) is None:
        return False
    first = _SECOND.match(before)
    return first is not None and _CALL(first[1])


@remembered
def _alone(before: str) -> bool:
    """Not the tail of something longer, a GUID, a price or an order."""
    return _INSIDE.search(before[-12:]) is None and not other_number(before)


_GAP = r"[ .\-/()\x{a0}\x{2010}-\x{2013}\x{202f}\x{2212}\x{ff08}\x{ff09}\x{ff0d}]{0,3}"
_EXTENSION = r"(?:(?: ?x|,? ?(?:[Ee]xt\.? ?|extension |Durchwahl |poste |int\.? ?|内線|내선 ?)|#)\d{1,6})?"
_DIGITS = rf"\d(?:{_GAP}\d){{6,14}}{_EXTENSION}"
_INTERNATIONAL = rf"\(?[+\x{{ff0b}}] ?\(?[1-9](?:{_GAP}\d){{6,14}}{_EXTENSION}"
_NATIONAL = (_DIGITS, rf"\({_DIGITS}")
# What ``_valid_in`` takes of these, as far as a pattern says: most numbers in a text are dates, amounts and ids.
_UNSPOKEN = (
    rf"0(?:{_GAP}\d){{6,14}}{_EXTENSION}",
    rf"\({_DIGITS}",
    rf"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{{4}}{_EXTENSION}",
    rf"(?:1[3-9]\d[ -]\d{{4}}[ -]\d{{4}}|[67]\d\d \d\d \d\d \d\d|[6-9]\d{{4}}[ -]\d{{5}}|[1-9]\d 9\d{{4}}-\d{{4}}){_EXTENSION}",
)
_MARK = r"\d(?:[^A-Za-z\d\n]{0,3}\d){6}"
_MAIN = re.compile(r",? ?(?:x|[Ee]xt|#|Durchwahl|poste|int|内線|내선)")
_DATE = re.compile(r"^(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})(?:\D|$)")
_DOTTED = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")
_DECIMAL = re.compile(r"\d+\.\d+\Z")
# A day without signs between, an amount in thousands, a decimal fraction.
_NO_NUMBER = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\Z|[1-9]\d?(?:[ .]\d{3}){2,}\Z|[1-9]\d{0,2}\.\d+\Z"
)
_POSTCODES = re.compile(r"\d{5}-\d{3,4}\Z")  # Brazil's, and ZIP+4
_AMERICAN = re.compile(r"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4} ?")
_PUNCTUATED = re.compile(r"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}|[2-9]\d\d([.-])[2-9]\d\d\1\d{4}) ?\Z")
_WRITTEN = re.compile(r"\(|0\d*[ .\-/()（）]+\d|(?:1[ .-]?)?[2-9]\d\d[ .-]\d")
# National forms without a zero or brackets that little else has: China and Spain mobile, India, Brazil.
_GROUPED = {
    "CN": re.compile(r"1[3-9]\d([ -])\d{4}\1\d{4}\Z"),
    "ES": re.compile(r"[67]\d\d \d\d \d\d \d\d\Z"),
    "IN": re.compile(r"[6-9]\d{4}[ -]\d{5}\Z"),
    "BR": re.compile(r"[1-9]\d 9\d{4}-\d{4}\Z"),
}
_BRACKETS = re.compile(r"^[^()]*(?:\([^()]*\)[^()]*)*\Z")


def _main(value: str) -> str:
    """Without the extension."""
    return _MAIN.split(value)[0]


def _shaped(value: str) -> bool:
    main = _main(value)
    return _BRACKETS.match(main) is not None and not _DATE.match(main) and not _DOTTED.match(main)


def _library() -> Any:
    return optional("phonenumbers")


def _international(value: str) -> bool:
    """A calling code that exists, and a length that E.164 allows. Whether the range is in use today is not asked:
    new ones open faster than lists are brought up to date."""
    lib = _library()
    digits = digits_of(_main(value))
    if not 7 <= len(digits) <= 16 or not _shaped(value):
        return False
    codes = lib.COUNTRY_CODE_TO_REGION_CODE
    return any(int(digits[:n]) in codes for n in (1, 2, 3))


def _valid_in(regions: Sequence[str]) -> Callable[[str], bool]:
    american = [r for r in regions if r in _NANP]
    others = [r for r in regions if r not in _NANP]
    plans: list[tuple[str, re.Pattern[str]]] = []

    def valid(value: str) -> bool:
        """Written as a number is: in groups, with the brackets or the leading zero of its country, or as in America."""
        main = _main(value)
        if not _shaped(value) or _DECIMAL.match(main) or _POSTCODES.match(main):
            return False
        if _AMERICAN.fullmatch(main):
            return bool(american) and (_PUNCTUATED.match(main) is not None or _valid(value, american))
        if any(r in _GROUPED and _GROUPED[r].match(main) for r in others):
            return True
        if _WRITTEN.match(value) is None or main[0] not in "(0":
            return False
        if not plans:
            plans.extend((r, _plan(r)) for r in others)
        digits = digits_of(main)
        return _exit_code(main) or _valid(value, [r for r, plan in plans if plan.fullmatch(digits)])

    return valid


_NANP = frozenset({"US", "CA", "PR", "DO", "JM", "TT", "BS", "BB", "BM", "GU", "VI"})  # +1: written alike


def _plan(region: str) -> re.Pattern[str]:
    """The digits that a number of the region may have, with its trunk prefix or without: asked before the library, whose
    answer takes some 50 us."""
    known = _library().PhoneMetadata.metadata_for_region(region)
    return re.compile(f"{known.national_prefix or ''}(?:{known.general_desc.national_number_pattern})|"
                      f"(?:{known.general_desc.national_number_pattern})")  # fmt: skip


def _exit_code(main: str) -> bool:
    """``0049 30 901820``: a calling code after 00, and a number that its country can have."""
    lib = _library()
    if not re.match(r"00[1-9]", main):
        return False
    try:
        return bool(lib.is_valid_number(lib.parse("+" + digits_of(main)[2:])))
    except lib.NumberParseException:
        return False


def _valid(value: str, regions: Sequence[str]) -> bool:
    lib = _library()
    for region in regions:
        try:
            number = lib.parse(value, region)
        except lib.NumberParseException:
            continue
        if lib.is_valid_number_for_region(number, region):
            return True
    return False


def _possible(value: str) -> bool:
    main = _main(value)
    return 7 <= len(digits_of(main)) <= 15 and _shaped(value) and _NO_NUMBER.match(main) is None and len(set(digits_of(main))) > 1


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
        detector("phone.2", _NATIONAL, 0.8, _MARK, wide, validate=_possible, context=Hinted(f"{_CALL.maybe}|@", _spoken_for)),
        detector("phone.3", _UNSPOKEN, 0.6, _MARK, wide, validate=_valid_in(regions), context=_alone),
    )


def _plus(before: str) -> bool:
    """Not in a sum or a word; the words of scripts without spaces stand right before a number."""
    return not before or not (before[-1] in "+.-#_" or (before[-1].isalnum() and ord(before[-1]) < 0xE00))


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
