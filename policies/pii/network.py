"""Addresses of machines.

What lives here: IPv4, IPv6 with its mapped forms, MAC. What must never live here: other entities.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from policies.pii.entity import Entity, Reach, detector, near, remembered, words_before

__all__ = ["ENTITIES"]

# A version or a section number is no address; ``1.2.3.4-rc1`` is known by what is before it only.
_VERSIONED = (
    r"version(?:s|ed|en|e|é|en)?|versi[óo]n|versão|versie|wersj[aięą]|версия|ver\b|vers\b|v\b|rel\b|release[sd]?|build|firmware|"
    r"fw\b|"
    r"patch|hotfix|apps?\b|driver|treiber|package|paket|image|tag\b|tagged|revision|rev\b|sdk|runtime|plugin|kernel|bios|"
    r"library|lib\b|dll|"
    r"assembly|module|dependency|changelog|softwarestand|fassung|ausgabe|edition|logiciel|micrologiciel|sterownik|"
    r"oprogramowani\w|"
    r"section|chapter|clause|paragraph|para\b|article|appendix|annex|oid\b|abschnitt|kapitel|"
    r"ziffer|absatz|chapitre|alinéa|capítulo|sección|apartado|cláusula|capitolo|sezione|paragrafo|hoofdstuk|sectie|paragraaf|"
    r"rozdział\w?|punkt\w?|sekcj[ai]|ustęp|seção|版本|版|バージョン|ビルド|リリース|ファームウェア|버전|펌웨어|빌드|릴리스|"
    r"固件|章|節|节|条|조항|§"
)
_MOVED = (
    r"(?:up|down)grad\w*|updat\w*|bump\w*|migrat\w*|roll(?:ed|ing)? ?back|aktualisier\w*|mis(?:e|es)? à jour|mettre à jour|"
    r"actualiz\w*|"
    r"aggiorna\w*|bijgewerkt|bijwerken|zaktualiz\w*|atualiz\w*|更新|升级|升級|アップデート|アップグレード|업데이트|업그레이드"
)
_JOIN = (
    r"(?:\s+(?:is|was|are|now|number|no\.?|nr\.?|of|the|it|runs|still|app|currently|ist|lautet|von|est|la|es|è|jest|to|na|é|de|"
    r"da|di)|"
    r"は|が|는|은|이|是|为|為)*"
)
_WAY = r"(?:\s+(?:to|from|with|the|auf|von|à|de|a|desde|da|van|naar|z|do|na|para)|を|から|에서|从|到|至)*"
_SAYS = r"[\s\"'`:=#(：*_]*(?:v\.?\s?)?[\"']?"
_version = words_before(
    rf"<<(?:(?:{_VERSIONED})(?:\s+(?:of|von|de|di|van) [^\n.;!?]{{1,24}})?{_JOIN}|(?:{_MOVED}){_WAY}){_SAYS}\z"
)
# Glued to what has versions: pins, user agents, file names, the rest of a longer number.
_GLUED = re.compile(r"(?:[=~^<>!]=|~>|\^|~)\s?[\"']?\Z|\b[A-Z][\w.]*/\Z|[\d.]\Z|\w[-_]\Z|\b[vV]\Z")
_TAG = re.compile(r"[A-Za-z0-9]:\Z")  # app:10.4.1.2
_HOST = near(
    r"ips?\b|ip[_ -]?(?:v4|addr\w*)|ipv4|inet|addr(?:ess\w*)?|host(?:s|name|ed)?\b|server|gateway|dns\b|name ?server|resolver|"
    r"router|"
    r"subnet|netmask|network|lan\b|vpn|proxy|client|peer|remote|source|src\b|dst\b|dest(?:ination)?|from|ping(?:s|ed|ing)?\b|"
    r"ssh|scp\b|sftp|"
    r"telnet|nmap|traceroute|curl|wget|connect\w*|listen\w*|bind|node\b|endpoint|upstream|backend|machine|blocked|banned?\b|"
    r"firewall|"
    r"allow(?:ed|list)?\b|deny|denied|whitelist|blacklist|forwarded|interface|https?://|tcp://|udp://|[a-z]+://|listen|visitor|"
    r"log(?:ged|in|s)? (?:in )?from|adresse|rechner|direcci[óo]n|servidor|indirizzo|adres|adresu|serwer\w?|endereço|serveur|hôte|"
    r"アドレス|サーバ|ホスト|主机|主機|地址|服务器|伺服器|서버|주소|호스트|адрес|сервер|хост",
    gap=24,
    unless=lambda before: _version(before) or _GLUED.search(before) is not None,
)
_moved = words_before(rf"<<(?:{_MOVED})[^.!?\n]{{0,40}}\b(?:from|to|von|auf|de|a|à|da|van|naar|z|na|para) v?\z")
_RESOLVERS = frozenset({"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "4.2.2.2"})
_SMALL = 40  # parts of versions are seldom larger; of one address in 1,700 all four are that small


def _ipv4(value: str) -> bool:
    try:
        address = IPv4Address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or value in ("255.255.255.255",))


def _no_version(value: str) -> bool:
    """Larger parts than those of a version, a private network, or an address that everybody knows."""
    parts = [int(p) for p in value.split(".")]
    return _ipv4(value) and (max(parts) >= _SMALL or parts[0] == 10 or value in _RESOLVERS)


_LISTED = re.compile(r"[\"']?v?\d{1,5}(?:\.\d{1,5}){3}[\"']?\s?(?:to|->|→|-|and|or|und|oder|et|ou|y|e|en|i|auf|à|a|naar|na|para|"
    r"[,;/|])\s?v?[\"']?\Z")


def _first(before: str) -> str:
    """The text before the first of several: ``versions 1.2.3.4, 1.2.3.5 and``."""
    for _ in range(4):
        found = _LISTED.search(before)
        if found is None:
            break
        before = before[: found.start()]
    return before


_LOG_LINE = re.compile(r"(?i:\blogs?)\b[^\n]{0,12}:\s*\n\Z|\" \d{3} (?:\d+|"
    r"-)[^\n]{0,48}\n\Z")  # its next line begins with an address


@remembered
def _host(before: str) -> bool:
    before = _first(before)
    return (_HOST(before) and not _moved(before)) or _LOG_LINE.search(before) is not None


@remembered
def _unlabelled(before: str) -> bool:
    before = _first(before)
    return _GLUED.search(before) is None and _TAG.search(before) is None and not _version(before)


def _ipv6(value: str) -> bool:
    """Loopback and the unspecified address are nobody's; two colons and a word are C++."""
    if value.count(":") < 3 and not ("." in value or (len(value) > 6 and any(c.isdigit() for c in value))):
        return False
    try:
        address = IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def _mac(value: str) -> bool:
    digits = [c for c in value.lower() if c in "0123456789abcdef"]
    return len(set(digits)) > 1


_HEX = "[0-9A-Fa-f]"
_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"

ENTITIES = (
    Entity(
        "ipv4", "IP", ("network",),
        (
            detector("ipv4.1", _V4, 0.9, r"\d\.\d{1,3}\.\d{1,3}\.\d", Reach.TOKEN, validate=_ipv4, context=_host),
            detector("ipv4.2", _V4, 0.85, r"\d\.\d{1,3}\.\d{1,3}\.\d", Reach.TOKEN, validate=_no_version, context=_unlabelled),
        ),
        "IPv4 address, but for 0.0.0.0, loopback and broadcast; one that may be a version only after a word for it",
        "four bytes; no version number",
    ),
    Entity(
        "ipv6", "IP", ("network",),
        (detector("ipv6.1", rf"(?:{_HEX}{{0,4}}:){{2,7}}(?:{_HEX}{{1,4}}|{_V4})|(?:{_HEX}{{1,4}}:){{1,7}}:", 0.9,
                  rf"::|(?:{_HEX}{{1,4}}:){{5}}{_HEX}", Reach.TOKEN, validate=_ipv6,
                  context=lambda before: not before.endswith((":", "-"))),),
        "IPv6 address, also with an IPv4 address inside", "parsed; not loopback",
    ),
    Entity(
        "mac", "MAC", ("network",),
        (detector("mac.1", (rf"{_HEX}{{2}}(?::{_HEX}{{2}}){{5}}", rf"{_HEX}{{2}}(?:-{_HEX}{{2}}){{5}}",
                            rf"{_HEX}{{4}}\.{_HEX}{{4}}\.{_HEX}{{4}}"), 0.9,
                  rf"{_HEX}{{2}}:{_HEX}{{2}}:{_HEX}|{_HEX}{{2}}-{_HEX}{{2}}-{_HEX}|{_HEX}{{4}}\.{_HEX}{{4}}\.", Reach.TOKEN,
                  validate=_mac, context=lambda before: not before.endswith((":", "-", "."))),),
        "MAC address", "six bytes, not all one digit",
    ),
)  # fmt: skip
