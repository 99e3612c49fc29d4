"""Passwords: what follows a word for one, in prose, settings, code, commands and statements.

What lives here: those words, what joins them to a value, what a value must look like. What must never live here: keys
that are known by their own shape. A value is one run of signs without white space; its first characters alone are judged,
since it has no greatest length. Three ways to be named ask for three degrees of looking like a password: after ``password:``,
after ``the password for the portal is``, and right after the bare word.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from policies.pii.engine import WordSet
from policies.pii.entity import Detector, Near, Reach, detector, maybe_of, source_of

__all__ = ["DETECTORS"]

# Unlike others, these also stand at the end of a name: dbpassword, PGPASSWORD.
_ANYWHERE = "password|passwd|passphrase|passcode|pwd|kennwort|passwort|wachtwoord"
_WORDS = (
    r"pass|pass[ -](?:word|phrase|code)|pw|psw|pswd|psswd|pword|p/w|secret word|log-?in code|access code|losungswort|zugangscode|"
    r"mots? de passe|mdp|phrase secrète|code d['’]accès|code secret|contraseñ?a|contrasena|contrasenya|clave(?: secreta|"
    r" de acceso)?|"
    r"parola(?: d['’]ordine)?|parolă|password d['’]accesso|mijn ww|toegangscode|hasł(?:o|em|a)|haslo|palavra[ -](?:passe|chave)|"
    r"senha|"
    r"пароль|паролем|şifre|sifre|lösenord|adgangskode|passord|salasana|heslo|jelszó|jelszo|κωδικός|סיסמה|סיסמא|كلمة المرور|"
    r"كلمة السر|"
    r"पासवर्ड|mật khẩu|kata sandi|รหัสผ่าน|密码|密碼|口令|パスワード|パスフレーズ|暗証番号|비밀번호|패스워드|비번|암호"
)
_CUE = rf"(?:(?:{_ANYWHERE})|<<(?:{_WORDS}))"
# What makes another thing of it: password_hash, "password policy:".
_KINDS = (
    r"(?:[ _.-]?(?:confirm\w*|confirmation|again|repeat|new|old|current|temp\w*|value|field|input|text|str|string|plain|\d))?"
)
_NOT_ONE = re.compile(
    r"(?i)(?:pass\w*|pwd|kennwort|wachtwoord|contrase\w+|senha|has\w+)[ _-]?(?:hash\w*|salt|policy|length|min\w*|max\w*|"
    r"expir\w*|age|"
    r"hint|reset|strength|regex|pattern|rule\w*|url|uri|file|path|type|format|encoder|manager|field|label|placeholder|history|"
    r"changed?\w*|updated?\w*|created?\w*|attempts?|count|digest|algo\w*|encryption|protected|less)\w*[\"'\]`]?\s*(?:[:=]|"
    r"is)\W{0,3}\Z"
)
_FILLER = (
    r"(?:,? (?:for|of|to|on|at|in|from|with|by|für|zu|zum|zur|von|vom|des|der|im|am|bei|pour|du|de|d['’]|sur|para|del|da|do|di|"
    r"dell['’]|"
    r"della|per|su|al|alla|voor|van|na|op|dla|od|w|no|na|för|til|til|för|для|от)[^\n:=;!?]{1,48}?)?"
)
_COPULA = (
    r"(?:(?:['’]s|\s(?:is|was|will be|should be|are|ist|war|lautet|wäre|heißt|est|était|c['’]est|sera|es|era|será|è|é|sarà|is|"
    r"luidt|"
    r"wordt|jest|to|brzmi|är|er|on|je|este|это|adalah|là))"
    r"(?:\s(?:now|currently|still|just|simply|then|set to|changed to|reset to|been (?:set|changed|reset) to|to|jetzt|nun|"
    r"maintenant|"
    r"ahora|adesso|ora|nu|teraz|agora|always|probably|the same[,:]|:)){0,3}"
    r"|\s(?:to|from|von|as|was|has been|been|set|reset|changed|into|auf|à|en|a|in|naar|na|para){1,3}"
    r"| ?(?:は|が|を|는|은|이|가|를|是|为|為|改为|改成|→|->|—|–)|\s-)"
)
_OPEN = r"[\"'`“”‘’«»„「『（(*_]{0,3}"
_ASSIGN = (
    r"[\"'`\]})*]{0,3}\s{0,4}(?::=|=>|->|==?|:|：|＝|→|\|)\s{0,4}(?:\r?\n[ \t]{0,4})?"
)
_ASSIGNED = rf"{_CUE}{_KINDS}{_ASSIGN}{_OPEN}\z"
_TOLD = (
    rf"{_CUE}{_KINDS}{_FILLER}(?:\s?[\"'”’)\]]{{1,2}})?{_COPULA}:?\s{{0,2}}{_OPEN}\z|"
    rf"{_CUE}{_FILLER}:\s{{1,2}}{_OPEN}\z"
)
_LOGINS = (
    r"credentials?|creds|log-?ins?|sign-?in|zugangsdaten|anmeldedaten|identifiants?|credenciales|credenziali|inloggegevens|"
    r"dane logowania|acesso|ログイン|로그인|账号|帐号|账户"
)
_LOGIN = (
    rf"<<(?:{_LOGINS})(?:\b[^\n]{{0,16}})?[\s:：=][A-Za-z0-9_.@+-]{{2,40}}\s{{0,2}}(?:/|\||:|,|;|、|，|和|と|및)\s{{0,2}}"
)
_BARE = (
    rf"(?:{_CUE}\s{{1,2}}|{_LOGIN}|identified (?:with \w{{1,30}} )?by |--?(?:{_ANYWHERE}|pass|pw|secret)[ =]|\s-p |"
    rf"\s-u [^\s:]{{1,40}}:|<(?:\w{{1,20}}:)?(?:{_ANYWHERE}|pass)>|"
    rf"(?:name|key|id)=[\"'](?:\w{{0,20}}[._-])?(?:{_ANYWHERE})[\"'] (?:value|content)=|"
    rf"\([\"'](?:\w{{0,20}}[._-])?(?:{_ANYWHERE})[\"'],? |[\"'](?:\w{{0,20}}[._-])?(?:{_ANYWHERE})[\"'], ?){_OPEN}\z"
)

_ODD_CASE = re.compile("[A-Z]{2}[a-z]|[a-z][A-Z]{2}")
_SIGNS = frozenset("!#$%&*+@^~=|?")
_CODE = re.compile(
    r"\$[{(]|\$[A-Za-z_]\w*(?:\Z|[)\]\[-])|[a-z]{2,}(?:[A-Z][a-z]+)+\d?\Z|[A-Z]{3,}\(|\{\{|\{%|%[({]|<|\[|"
    r"(?:[a-z_][a-z_0-9]{3,}|md5|[a-z]{2,}(?:[A-Z][a-z]{2,})+)[(\[]|"
    r"[a-z_]\w{2,}\.[A-Za-z_]\w*|&[a-z]+|\*[a-z_]+\Z|!(?:vault|secret|Ref|Sub|env|ENV|GetAtt)\b|\*+\Z|[xX*•.]{4,}|test[_A-Z]|"
    r"@?(?:string|null|none|undefined|true|false)\b|https?:|www\.|(?:Optional|Secret|str|List)\b|[~.]{0,2}/[\w.-]+/|[A-Z]:\\"
)
_TECHNICAL = re.compile(
    r"(?i)base-?64|sha-?[1-9]|md-?5|aes-?[0-9]|utf-?8|argon2|pbkdf|bcrypt|scrypt|rsa-?\d|oauth-?2|http|2fa|\d+[- ]?(?:char|"
    r"digit|letter|"
    r"bit|day|zeich|stell|caract|hour|min|time|month|year)|your[-_ ]|example|placeholder|redacted|changeme|change[-_]me|"
    r"1password|"
    r"p@ssw0rd-protected|e-?mail|user[-_]?name|pass(?:word|phrase|wd)?[-_]?\d{0,2}\Z"
)


def _plain(value: str) -> bool:
    return _CODE.match(value) is None and _TECHNICAL.match(value) is None


def _kinds(value: str) -> int:
    """How many there are of: small letters, capitals, figures, signs."""
    small = any(c.islower() for c in value)
    large = any(c.isupper() for c in value)
    return small + large + any(c.isdigit() for c in value) + any(not c.isalnum() and c not in "_.,'" for c in value)


def _lenient(value: str) -> bool:
    """A letter, and a figure, a sign or a case that names in code do not have."""
    odd = any(c.isdigit() or c in _SIGNS for c in value) or _ODD_CASE.search(value)
    return any(c.isalpha() for c in value) and bool(odd) and _plain(value)


def _fair(value: str) -> bool:
    """A figure among letters, or a sign among those; not what is said of passwords (``base64-encoded``, ``8-digit``)."""
    signs = any(c in _SIGNS for c in value) and _kinds(value) >= 2
    odd = signs or any(c.isdigit() for c in value) or _ODD_CASE.search(value) is not None
    return _plain(value) and any(c.isalpha() for c in value) and odd \
        and not re.match(r"[\d.:/-]+\Z|[a-z]+-[a-z]+", value)  # fmt: skip


def _strict(value: str) -> bool:
    """Three of: small letters, capitals, figures, signs."""
    return _kinds(value) >= 3 and any(c.isdigit() or c in _SIGNS for c in value) and _plain(value) \
        and re.match(r"[A-Z][a-z]+-?\d+\Z|[\w-]+/[\w-]+|[A-Z]+-\d+", value) is None  # fmt: skip


def _short(value: str) -> bool:
    return value.isascii() and _strict(value) and not set(value) & set("()[]{}/.:")


def _figures(value: str) -> bool:
    """A PIN-like password of figures alone, no date."""
    return len(set(value)) > 1 and re.match(r"(?:19|20)\d{6}\Z", value) is None


class _Way(Near):
    """source, maybe: as in ``Near``, but the whole pattern is given. anywhere: what may be in the middle of a word."""

    __slots__ = ()

    def __init__(self, pattern: str, anywhere: str, words: str) -> None:
        super().__init__(words, 0, _another_thing)
        self.source = source_of(pattern)
        self.maybe = f"{anywhere}|{maybe_of(words)}"
        self._found = WordSet([self.source]).numbers


def _another_thing(before: str) -> bool:
    return _NOT_ONE.search(before) is not None


_set = _Way(_ASSIGNED, _ANYWHERE, _WORDS)
_said = _Way(_TOLD, _ANYWHERE, _WORDS)
_named = _Way(f"{_ASSIGNED}|{_TOLD}", _ANYWHERE, _WORDS)
_after = _Way(_BARE, rf"{_ANYWHERE}|identified |\s-[pu] ", rf"{_WORDS}|secret|{_LOGINS}")

_ONE = r"[^\s\"'`<>,;\x{80}-\x{10ffff}]"
_LAST = r"[^\s\"'`<>,;.:)\]\x{80}-\x{10ffff}]"  # a sentence may end behind it


def _runs(least: int) -> tuple[str, str]:
    """Runs of this many signs and more, that begin with a letter or figure, or with a sign."""
    middle = f"{_ONE}{{{least - 2},}}{_LAST}"
    return rf"\b[A-Za-z0-9_]{middle}", rf"\B[!#$%&*+?@^~=|.:/({{\[-]{middle}"


_MARK = (
    r"(?i)pass|pwd|pw\b|psw|pword|p/w|kennwort|losung|ss code|in code|gscode|code d|code sec|mdp|secret|contrase|clave|parola|"
    r"wachtw|\bww\b|has\?o|haslo|senha|palavra|"
    r"sifre|ifre|senord|adgang|salasana|heslo|jelsz|\?\?|m\?t kh|kata sandi|identified|\s-p |\s-u |cred|log-?in|sign-?in|"
    r"zugangs|anmelde|identifiant|inloggeg|logowania|acesso"
)  # ?: what is not ASCII

def _detectors() -> tuple[Detector, ...]:
    out: list[Detector] = []

    def add(patterns: str | tuple[str, ...], score: float, validate: Callable[[str], bool], context: Near, *,
            whole: bool = False) -> None:  # fmt: skip
        out.append(
            detector(f"password.{len(out) + 1}", patterns, score, _MARK, Reach.BEFORE, validate=validate, context=context,
                     look_behind=96, whole_word=whole)
        )  # fmt: skip

    for least in (8, 10, 13, 20):  # judged by so many characters: correcthorse9 shows late what it is
        add(_runs(least), 0.75, _lenient, _set)
        add(_runs(least), 0.74, _fair, _said)
        add(_runs(least), 0.7, _strict, _after)
    add(r"[A-Za-z0-9][A-Za-z0-9!#$%&*+?@^~=_-]{4,5}[A-Za-z0-9!#$%&*+?@^~=]", 0.7, _short, _named)
    add(r"[0-9]{6,12}", 0.7, _figures, _named, whole=True)
    return tuple(out)


DETECTORS = _detectors()
"""Of the entity ``password``."""
