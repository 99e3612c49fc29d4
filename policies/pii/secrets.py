"""Credentials: keys known by their prefix, tokens, private keys, connection strings, and what stands after ``password``.

What lives here: shapes published by the providers, or seen in their keys. What must never live here: other entities.
Entropy alone finds more build numbers than secrets: it counts only beside a word, and only where a policy asks for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from itertools import pairwise

from policies.pii.checks import entropy
from policies.pii.entity import Detector, Entity, Hinted, Reach, detector, near
from policies.pii.passwords import DETECTORS as PASSWORDS

__all__ = ["ENTITIES"]

_ANY = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"
_WIDE = "[A-Za-z0-9+/=_.-]"
_TAIL = "[A-Za-z0-9+/=_-]"  # a sentence may end behind it
_PROVIDERS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    # name, label, whose, mark, patterns
    ("openai_key", "OPENAI_KEY", "OpenAI", "sk-", (rf"sk-(?:proj|svcacct|admin|None)-{_ANY}{{20,}}", rf"sk-{_ALNUM}{{32,}}")),
    ("anthropic_key", "ANTHROPIC_KEY", "Anthropic", "sk-ant-", (rf"sk-ant-{_ANY}{{20,}}",)),
    ("llm_key", "LLM_KEY", "Hugging Face, Groq, xAI, Perplexity, Replicate, OpenRouter", "hf_|gsk_|xai-|pplx-|r8_|sk-or-",
     (rf"hf_{_ALNUM}{{30,}}", rf"gsk_{_ALNUM}{{40,}}", rf"xai-{_ALNUM}{{60,}}", rf"pplx-{_ALNUM}{{40,}}", rf"r8_{_ALNUM}{{37}}",
      r"sk-or-v1-[0-9a-f]{64}")),
    ("aws_access_key", "AWS_ACCESS_KEY", "AWS (the id of a key)", "A[KSBC][IC]A", (r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}",)),
    ("github_token", "GITHUB_TOKEN", "GitHub", "gh[pousr]_|github_pat_",
     (rf"gh[pousr]_{_ALNUM}{{36,}}", rf"github_pat_{_ALNUM}{{22}}_{_ALNUM}{{40,}}")),
    ("gitlab_token", "GITLAB_TOKEN", "GitLab", "gl[a-z]+-",
     (rf"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt|oas|wt)-{_ANY}{{20,}}",)),
    ("google_key", "GOOGLE_KEY", "Google", "AIza|GOCSPX-|ya29",
     (rf"AIza{_ANY}{{35}}", rf"GOCSPX-{_ANY}{{28}}", rf"ya29\.{_ANY}{{30,}}")),
    ("slack_token", "SLACK_TOKEN", "Slack", r"xox[a-z]|xapp-|hooks\.slack",
     (r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}", r"xapp-\d-[A-Za-z0-9-]{20,}",
      r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,}")),
    ("stripe_key", "STRIPE_KEY", "Stripe", "[sr]k_|whsec_", (rf"[sr]k_(?:live|test)_{_ALNUM}{{10,}}", rf"whsec_{_ALNUM}{{24,}}")),
    ("azure_key", "AZURE_KEY", "Azure", r"AccountKey|SharedAccessKey|Q~|sig=",
     (r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{43,86}={1,2}", rf"{_ALNUM}{{3}}\dQ~[A-Za-z0-9_~.-]{{31,34}}",
      r"sig=[A-Za-z0-9%+/]{40,}(?:%3[Dd]|=)")),
    ("twilio_key", "TWILIO_KEY", "Twilio and SendGrid", r"SK[0-9a-f]|SG\.",
     (r"SK[0-9a-f]{32}", rf"SG\.{_ANY}{{22}}\.{_ANY}{{43}}")),
    ("package_token", "PACKAGE_TOKEN", "npm, PyPI, RubyGems, crates.io, Docker Hub",
     "npm_|pypi-|rubygems_|cio|dckr_", (rf"npm_{_ALNUM}{{36}}", rf"pypi-AgE{_ANY}{{50,}}", r"rubygems_[0-9a-f]{48}",
                                       rf"cio{_ALNUM}{{32}}", rf"dckr_pat_{_ANY}{{27,}}")),
    ("cloud_token", "CLOUD_TOKEN",
     "DigitalOcean, Databricks, Shopify, Vault, Doppler, Mailgun, Telegram, Linear, Atlassian, age",
     r"do[opr]_v1_|dapi|shp|hvs\.|dp\.pt|key-|:AA|lin_api|ATATT3|AGE-SECRET",
     (r"do[opr]_v1_[0-9a-f]{64}", r"dapi[0-9a-f]{32}(?:-\d)?", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}", rf"hvs\.{_ANY}{{24,}}",
      rf"dp\.pt\.{_ALNUM}{{40,}}", r"key-[0-9a-f]{32}", rf"\d{{8,10}}:AA{_ANY}{{33}}", rf"lin_api_{_ALNUM}{{40}}",
      r"ATATT3[A-Za-z0-9_=-]{30,}", "AGE-SECRET-KEY-1[0-9A-Z]{58}")),
)  # fmt: skip


def _provider(name: str, label: str, whose: str, mark: str, patterns: tuple[str, ...]) -> Entity:
    ways = (detector(f"{name}.1", patterns, 0.97, mark, Reach.TOKEN),)
    return Entity(name, label, ("secrets",), ways, f"Key or token of {whose}", "prefix, alphabet and length")


def _jwt(value: str) -> bool:
    """Its first part decodes to a JSON object that names an algorithm."""
    head = value.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, binascii.Error):
        return False
    return isinstance(found, dict) and ("alg" in found or "typ" in found)


_KEYWORD = (
    r"secret|token|api[_ -]?key|apikey|(?:access|auth|encryption|private|signing|master|hmac|shared|session|deploy|service|"
    r"storage|"
    r"license|licence|consumer|webhook|app|application|subscription|host|ssh|root|admin)[_ -]?key|x-[a-z-]{1,20}-key|"
    r"passw(?:or)?d|"
    r"passwort|passphrase|pwd\b|credentials?|bearer|authorization|client[_ -]?secret|(?:api|app|geheimer|privater|"
    r"zugriffs)[ -]?schlüssel|"
    r"geheimnis|clé (?:api|secrète|privée|d['’]api|d['’]accès)|jeton|clave (?:api|secreta|privada|de api)|chiave (?:api|segreta|"
    r"privata)|"
    r"geheime sleutel|api-?sleutel|klucz (?:api|prywatny|tajny|dostępu)|chave (?:api|secreta|privada|de api|da api)|"
    r"シークレット|トークン|"
    r"api ?キー|アクセスキー|秘密鍵|시크릿|토큰|api ?키|비밀 ?키|密钥|密鑰|秘钥|令牌|токен|секрет|ключ api|api-?ключ"
)
_ASSIGNED = near(_KEYWORD, gap=24)
_GENERIC = re.compile(r"(?:PBKDF2|AES|RSA|SHA|HMAC|Hmac|ECDSA)\w*|[A-Z_]+|[a-z_-]+|\d+|[A-Za-z]+(?:[-_./][A-Za-z]+)*|"
    r"[0-9a-f]{8}-[0-9a-f-]*|\d{4}-\d\d-\d\d.*")


_SETTING = re.compile(r"[A-Za-z_]\w*=[^=]")  # NAME=value: the value is judged on its own


def _random(value: str) -> bool:
    """The first 16 or 24 characters: figures among letters, and not a word, a path or a UUID."""
    if _SETTING.match(value):
        return False
    if not any(c.isdigit() for c in value):  # letters alone: cases that change as no name's do
        return sum(a.islower() != b.islower() for a, b in pairwise(filter(str.isalpha, value))) >= 6
    return entropy(value) >= 2.6 and not _GENERIC.fullmatch(value)


_OPENS = frozenset(" \"'=:`\t\n(>|：＝「“„«はがを는은이是为為")


def _starts_here(before: str) -> bool:
    return _ASSIGNED(before) and (not before or before[-1] in _OPENS)


_assigned = Hinted(_ASSIGNED.maybe, _starts_here)


def _aws_secret(value: str) -> bool:
    return entropy(value) >= 4.0 and bool(re.search(r"\d", value) and re.search("[a-z]", value) and re.search("[A-Z]", value))


_AWS = re.compile(r"(?i)(?:aws|secret|key)[^\n;]{0,40}[\s\"'`=:]\Z")
_SCHEMES = (
    "(?:postgres(?:ql)?|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|clickhouse|cassandra|couchbase|neo4j|"
    r"bolt|ldaps?|smtps?|imaps?|sftp|ssh|kafka|nats|memcached|snowflake|cockroachdb|vertica)(?:\+[a-z0-9]+)?"
)
_REST = r"(?:[^\s\"'<>`,;)\]}\\]*[A-Za-z0-9_/=-])?"
_USER = r"[^\s:/@\"'<>`]*:[^\s/@\"'<>`]+@"
_KEY_HEAD = r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_PEM = rf"{_KEY_HEAD}[A-Za-z0-9+/=\s\\:,]*(?:-----END (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY(?: BLOCK)?-----)?"


def _other(name: str, label: str, ways: Detector | tuple[Detector, ...], text: str, validator: str, *, group: str = "secrets",
           whole: bool = True) -> Entity:  # fmt: skip
    return Entity(name, label, (group,), ways if isinstance(ways, tuple) else (ways,), text, validator, whole=whole)


_OPT_IN = "generic_secrets"
ENTITIES = (
    *(_provider(*row) for row in _PROVIDERS),
    _other("aws_secret_key", "AWS_SECRET_KEY",
           detector("aws_secret_key.1", "[A-Za-z0-9+/]{40}", 0.9, "[A-Za-z0-9+/]{40}", Reach.TOKEN, validate=_aws_secret,
                    context=Hinted("aws|secret|key", lambda before: _AWS.search(before) is not None)),
           "AWS secret key, after `aws`, `secret` or `key`", "40 characters, entropy"),
    _other("jwt", "JWT",
           detector("jwt.1", rf"eyJ{_ANY}{{8,}}\.{_ANY}{{8,}}(?:\.{{1,2}}{_ANY}+){{0,3}}", 0.97, "eyJ", Reach.TOKEN,
                    validate=_jwt, value=False),
           "JSON Web Token", "the first part decodes to a JSON object with `alg`", whole=False),
    _other("private_key", "PRIVATE_KEY",
           detector("private_key.1", _PEM, 0.99, _PEM, Reach.BLOCK, whole_word=False, value=False),
           "Private key in PEM form, also with `\\n` for line ends", "its first line", whole=False),
    _other("connection_string", "CONNECTION_STRING",
           detector("connection_string.1", rf"{_SCHEMES}://{_USER}{_REST}", 0.95, "://[^ \\n/@]*@", Reach.TOKEN),
           "URL of a database or queue with a password in it", "scheme, user and password"),
    _other("url_credentials", "URL_CREDENTIALS",
           detector("url_credentials.1", rf"(?:https?|ftps?|git|wss?)(?:\+[a-z]+)?://{_USER}{_REST}", 0.95, "://[^ \\n/@]*@",
                    Reach.TOKEN),
           "Web address with a password in it", "user and password before the host", group="contact"),
    _other("password", "PASSWORD",
           PASSWORDS,
           "What follows `password:` and its like, in many languages; opt-in",
           "kinds of characters; no code, no prose", group=_OPT_IN),
    _other("generic_secret", "SECRET",
           tuple(detector(f"generic_secret.{n}", (rf"\b[A-Za-z0-9]{_WIDE}{{{least},}}{_TAIL}",
                                                rf"\B[/+]{_WIDE}{{{least},}}{_TAIL}"), 0.7,
                    r"(?i)secret|token|key|passw|pwd|phrase|credential|bearer|authorization|ssel|geheim|cl\?|jeton|clave|chiave|"
                    r"sleutel|"
                    r"klucz|chave|\?\?", Reach.BEFORE, validate=_random, context=_assigned, whole_word=False)
                 for n, least in enumerate((14, 22), 1)),
           "Random-looking value after `secret`, `token`, `key`, `Bearer`; opt-in", "figures among letters, entropy",
           group=_OPT_IN),
)  # fmt: skip
