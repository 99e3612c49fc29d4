"""Other ways to read a text: what a rule may see through when its ``views`` say so.

What lives here: for one character, the texts it may stand for. What must never live here: rules, offsets. A view
never changes the text: the automaton steps over a character as if it were one of its readings, so a match always
has its place in the original, with everything that was skipped inside, and nothing need be mapped back.

Sources: compatibility forms are Unicode's NFKD; invisible characters are those with the property
Default_Ignorable_Code_Point; look-alikes are the Latin letters' entries of Unicode TS 39 (confusables) for Greek,
Cyrillic, Armenian, Cherokee and a few more; tag characters are U+E0020 to U+E007E (Unicode 23.9).
"""

from __future__ import annotations

import unicodedata
from enum import IntFlag
from functools import lru_cache

__all__ = ["NAMES", "View", "decomposed", "invisible", "mark", "readings"]


class View(IntFlag):
    """nfkc: full-width, ligature, circled, mathematical and decomposed forms. invisible: zero-width, bidi, tag
    characters and variation selectors are skipped, tags are also read as what they tag. marks: accents and
    combining marks are skipped. homoglyphs: letters that look Latin. leet: digits and signs for letters. spaced:
    phrases with a sign between any two letters."""

    NFKC = 1
    INVISIBLE = 2
    MARKS = 4
    HOMOGLYPHS = 8
    LEET = 16
    SPACED = 32


NAMES = {view.name.lower(): view for view in View if view.name}

_LOOK_ALIKES = {
    # Cyrillic
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "ё": "e", "ғ": "f", "ց": "g", "һ": "h", "і": "i", "ї": "i",
    "ј": "j", "к": "k", "ӏ": "l", "м": "m", "п": "n", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s", "т": "t",
    "ц": "u", "ѵ": "v", "ѡ": "w", "ԝ": "w", "х": "x", "у": "y", "ү": "y", "А": "A", "В": "B", "С": "C", "Ԁ": "D",
    "Е": "E", "Ё": "E", "Ғ": "F", "Ԍ": "G", "Н": "H", "І": "I", "Ї": "I", "Ј": "J", "К": "K", "Ӏ": "Il", "М": "M",
    "О": "O", "Р": "P", "Ԛ": "Q", "Ѕ": "S", "Т": "T", "Ѵ": "V", "Ԝ": "W", "Х": "X", "У": "Y", "Ү": "Y", "З": "3",
    "ԍ": "g", "ɢ": "g", "ь": "b", "Ь": "b",
    # Greek
    "α": "a", "β": "b", "ϲ": "c", "δ": "d", "ε": "e", "γ": "y", "η": "n", "ι": "i", "κ": "k", "μ": "u", "ν": "v",
    "ο": "o", "ρ": "p", "σ": "o", "τ": "t", "υ": "u", "χ": "x", "ω": "w", "ϳ": "j", "Α": "A", "Β": "B", "Ϲ": "C",
    "Ε": "E", "Ζ": "Z", "Η": "H", "Ι": "I", "Ϳ": "J", "Κ": "K", "Μ": "M", "Ν": "N", "Ο": "O", "Ρ": "P", "Τ": "T",
    "Υ": "Y", "Χ": "X",
    # Armenian, Cherokee, Latin letters of other alphabets
    "հ": "h", "ո": "n", "օ": "o", "ս": "u", "զ": "q", "ւ": "l", "Օ": "O", "Տ": "S", "Ս": "U", "Ꭺ": "A", "Ᏼ": "B",
    "Ꮯ": "C", "Ꭰ": "D", "Ꭼ": "E", "Ꮐ": "G", "Ꮋ": "H", "Ꭻ": "J", "Ꮶ": "K", "Ꮮ": "L", "Ꮇ": "M", "Ꮲ": "P", "Ꭱ": "R",
    "Ꮪ": "S", "Ꭲ": "T", "Ꮩ": "V", "Ꮃ": "W", "Ꮓ": "Z", "ı": "i", "ȷ": "j", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ɪ": "i",
    "ℓ": "l", "ƅ": "b", "ⅼ": "l", "ʏ": "y", "ᴀ": "a", "ʙ": "b", "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ꜰ": "f", "ʜ": "h",
    "ᴊ": "j", "ᴋ": "k", "ʟ": "l", "ᴍ": "m", "ɴ": "n", "ᴏ": "o", "ᴘ": "p", "ʀ": "r", "ꜱ": "s", "ᴛ": "t", "ᴜ": "u",
    "ᴠ": "v", "ᴡ": "w", "ᴢ": "z", "ø": "o", "Ø": "O", "đ": "d", "ħ": "h", "ł": "l", "Ł": "L",
}  # fmt: skip

_LEET = {
    "0": "o", "1": "il", "2": "z", "3": "e", "4": "a", "5": "s", "6": "gb", "7": "t", "8": "b", "9": "g", "@": "a",
    "$": "s", "!": "i", "|": "li", "+": "t", "(": "c", "€": "e", "£": "l", "¡": "i",
}  # fmt: skip

# Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and three more that show nothing: U+FEFF is in it,
# the interlinear annotation marks and the object replacement are not.
_INVISIBLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


def invisible(char: str) -> bool:
    code = ord(char)
    return code >= 0xAD and any(low <= code <= high for low, high in _INVISIBLE)


def mark(char: str) -> bool:
    """A combining mark: an accent, a cedilla, the strokes of overdone ("Zalgo") text."""
    return char >= "\u0300" and unicodedata.category(char) in ("Mn", "Me")


def decomposed(text: str) -> str:
    """NFKD. Composing could not be done in a stream: the accent may come with the next chunk."""
    return text if text.isascii() else unicodedata.normalize("NFKD", text)


@lru_cache(maxsize=8192)
def readings(char: str) -> tuple[tuple[View, str], ...]:
    """What a character may stand for beside itself, and which view says so.

    At most a few characters each (the longest compatibility form has 18). A character of a reading may be read in
    its turn: a full-width 4 is a 4, which is an a.
    """
    out: list[tuple[View, str]] = []
    plain = decomposed(char)
    if plain != char:
        out.append((View.NFKC, plain))
        if not mark(plain[0]) and all(mark(c) for c in plain[1:]) and len(plain) > 1:
            out.append((View.MARKS, plain[0]))
    if 0xE0020 <= ord(char) <= 0xE007E:
        out.append((View.INVISIBLE, chr(ord(char) - 0xE0000)))
    out += [(View.HOMOGLYPHS, c) for c in _LOOK_ALIKES.get(char, "")]
    out += [(View.LEET, c) for letters in (_LEET.get(char, ""),) for c in letters + letters.upper()]
    return tuple(out)
