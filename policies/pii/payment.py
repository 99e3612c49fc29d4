"""Cards and bank accounts.

What lives here: their shapes, brands and checks. What must never live here: other entities. Card lengths by first
digits: ISO/IEC 7812 and the networks' published ranges.
"""

from __future__ import annotations

import re

from policies.pii.checks import aba, iban, luhn
from policies.pii.entity import Entity, Reach, detector, digits_of, near, other_number, words_before
from policies.pii.words import ACCOUNT, CARD

__all__ = ["ENTITIES"]

_GAP = r"[ \-\x{a0}\x{2011}]?"
_EVEN = re.compile(r"^\d+$|^\d{4}([ \-\u00a0\u2011])\d{4}(\1\d{4}){1,2}(\1\d{1,3})?$|^\d{4}([ \-\u00a0\u2011])\d{6}\4\d{4,5}\Z")
_IN_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: \w{4}){0,6} \Z")
_BRANDS = (  # first digits from, to; lengths
    (34, 34, (15,)), (37, 37, (15,)),  # American Express
    (300, 305, (14, 16, 17, 18, 19)), (3095, 3095, (14, 16)), (36, 36, (14, 16, 17, 18, 19)), (38, 39, (14, 16)),  # Diners
    (2221, 2720, (16,)), (51, 55, (16,)),  # Mastercard
    (4, 4, (13, 16, 19)),  # Visa
    (6011, 6011, (16, 19)), (644, 649, (16, 19)), (65, 65, (16, 19)),  # Discover
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (62, 62, (16, 17, 18, 19)), (81, 81, (16, 19)),  # UnionPay
    (50, 50, (12, 13, 14, 15, 16, 17, 18, 19)), (56, 58, (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (63, 63, (16, 18, 19)), (67, 68, (12, 13, 14, 15, 16, 17, 18, 19)),
    (2200, 2204, (16, 17, 18, 19)), (9792, 9792, (16,)),  # Mir, Troy
    (60, 60, (16,)), (508500, 508999, (16,)),  # RuPay
)  # fmt: skip
_SIZES: dict[str, set[int]] = {}
for _low, _high, _some in _BRANDS:
    for _first in range(_low, _high + 1):
        _SIZES.setdefault(str(_first), set()).update(_some)


def _card(value: str) -> bool:
    """Of 15 or 16 digits, or in groups: of other lengths chance makes too many."""
    return (len(value) in (15, 16) or not value.isdigit()) and _any_card(value)


def _any_card(value: str) -> bool:
    if not _EVEN.match(value):
        return False
    digits = digits_of(value)
    if not any(len(digits) in _SIZES.get(digits[:n], ()) for n in (1, 2, 3, 4, 6)):
        return False
    return len(set(digits)) > 1 and luhn(digits)


_BIC = r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"
_ISO = """
AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA
GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR
MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE
RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR
TT TV TW TZ UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
"""
_COUNTRIES = frozenset(_ISO.split())


def _bic(value: str) -> bool:
    return value[4:6] in _COUNTRIES


_NO_ACCOUNT = words_before(r"[A-Za-z]-\z|<<(?:routing|phone|telefon\w*|ssn|opened|closed|since|id|created|eröffnet|ouvert|login|"
    r"code|pin|코드|コード)[^\n.;]{0,12}\z")
_ACCOUNT = near(ACCOUNT, gap=32, unless=lambda before: other_number(before) or _NO_ACCOUNT(before))
_CARD = near(CARD, gap=32)
_GROUPS = re.compile(r"\d+\Z|\d{1,6}(?:[ \u00a0]\d{1,6})+\Z|\d{1,7}(?:[-\u2011]\d{1,7})+\Z")
_DATES = re.compile(r"(?:19|20)\d\d-\d\d(?:-\d\d)?\Z|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\Z")


def _account(value: str) -> bool:
    """Groups of up to seven digits, parted alike; no date."""
    return _GROUPS.match(value) is not None and _DATES.match(value) is None


def _free(before: str) -> bool:
    """Not the rest of an IBAN."""
    return before[-1:] != " " or _IN_IBAN.search(before[-40:]) is None


_DIGITS = rf"\d(?:{_GAP}\d){{11,18}}"
_DIGITS_MARK = r"\d(?:[^A-Za-z\d\n]?\d){11}"

ENTITIES = (
    Entity(
        "credit_card", "CARD", ("payment",),
        (
            detector("credit_card.1", _DIGITS, 0.95, _DIGITS_MARK, Reach.SPACED, validate=_card, context=_free),
            detector("credit_card.2", _DIGITS, 0.95, _DIGITS_MARK, Reach.SPACED, validate=_any_card, context=_CARD),
        ),
        "Payment card number, with blanks or hyphens; of 12 to 14 or 17 to 19 digits in one after a word for it",
        "Luhn, first digits and length of a brand, even groups",
    ),
    Entity(
        "iban", "IBAN", ("payment",),
        (detector("iban.1", rf"[A-Z]{{2}}\d{{2}}(?:{_GAP}[A-Z0-9]){{11,30}}", 0.97, r"[A-Z]{2}\d\d[^a-z\n]", Reach.SPACED,
                  validate=iban),),
        "International bank account number", "mod 97, and the country's length",
    ),
    Entity(
        "bic", "BIC", ("payment",),
        (detector("bic.1", _BIC, 0.8, r"[A-Z]{6}", Reach.TOKEN, validate=_bic, context=near(r"bic\b|swift")),),
        "Bank identifier code, after `BIC` or `SWIFT`", "country code",
    ),
    Entity(
        "us_routing", "ROUTING", ("payment",),
        (detector("us_routing.1", r"\d{9}", 0.9, r"\d{9}", Reach.TOKEN, validate=aba,
                  context=near(r"routing|aba\b|rtn\b|transit (?:number|no\b)|ach\b")),),
        "US bank routing number, after a word for it", "weights 3-7-1, first digits in use",
    ),
    Entity(
        "bank_account", "ACCOUNT", ("payment",),
        (detector("bank_account.1", rf"\d(?:{_GAP}\d){{5,25}}", 0.65, r"\d(?:[^A-Za-z\d\n]?\d){5}", Reach.SPACED,
                  context=_ACCOUNT, validate=_account),),
        "Bank account number, after a word for it", "none exists",
    ),
)  # fmt: skip
