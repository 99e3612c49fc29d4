"""Secrets and clean texts. All values are made up, or published as examples by those who issue them."""

from __future__ import annotations

from policies.detect import Rule


def luhn(value: str) -> bool:
    digits = [int(c) for c in value if c.isdigit()]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


NUMBERS = [
    Rule("card", [r"\b\d(?:[ -]?\d){12,18}\b"], validate=luhn),
    Rule("ssn", [r"\b\d{3}-\d{2}-\d{4}\b"], validate=lambda v: v[:3] not in ("000", "666") and v[0] != "9"),
    Rule("ip", [r"\b(?:\d{1,3}\.){3}\d{1,3}\b"], validate=lambda v: all(int(p) < 256 for p in v.split("."))),
    Rule("phone", [r"\+\d{1,3}[ -]?\(?\d{2,4}\)?(?:[ -]?\d{2,4}){2,3}\b"]),
    Rule("iban", [r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"]),
]
KEYS = [
    Rule("sk", [r"\bsk-[A-Za-z0-9_-]{20,}"]),
    Rule("aws", [r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"]),
    Rule("github", [r"\bgh[pousr]_[A-Za-z0-9]{36}"]),
    Rule("slack", [r"\bxox[abprs]-[0-9A-Za-z-]{10,}"]),
    Rule("google", [r"\bAIza[0-9A-Za-z_-]{35}"]),
    Rule("gitlab", [r"\bglpat-[0-9A-Za-z_-]{20,}"]),
    Rule("stripe", [r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{16,}"]),
    Rule("jwt", [r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"]),
    Rule("pem", [r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?:[A-Za-z0-9+/=\s]*-----END [A-Z ]{0,20}PRIVATE KEY-----"
                 r"|[A-Za-z0-9+/=\s]*)"]),
]  # fmt: skip
PHRASES = [
    Rule("bluebird", phrases=["project bluebird"], ignore_case=True, whole_word=True),
    Rule("weapon", phrases=["how to build a bomb", "pipe bomb"], ignore_case=True, whole_word=True,
         views=["nfkc", "invisible", "homoglyphs", "leet", "spaced"]),
    Rule("umlaut", phrases=["größter schlüssel", "пароль администратора", "机密项目"], ignore_case=True),
    Rule("family", phrases=["👩‍👩‍👧 secret"]),
    Rule("internal", phrases=["internal use only"], ignore_case=True, whole_word=True),
    Rule("prompt", phrases=["ignore all previous instructions"], ignore_case=True, whole_word=True),
]  # fmt: skip
MAIL = Rule("mail", [r"\b[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"])

TWENTY = [*NUMBERS, *KEYS, *PHRASES]

_PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA7bq1\n" * 6 + "-----END RSA PRIVATE KEY-----"
SECRETS = {
    "mail": "alice.o+x@mail.example.co.uk",
    "phone": "+49 (170) 555-0142-11",
    "card": "4111111111111111",
    "card-spaces": "4111 1111 1111 1111",
    "card-dashes": "5555-5555-5555-4444",
    "amex": "3782 822463 10005",
    "iban": "DE89 3704 0044 0532 0130 00",
    "iban-plain": "GB29NWBK60161331926819",
    "ssn": "219-09-9999",
    "ip": "203.0.113.195",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "sk": "sk-proj-abcdEFGHijklMNOPqrstUVWX0123456789",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "pem": _PEM,
    "bluebird": "Project\n Bluebird",
    "weapon": "how to build a bomb",
    "weapon-spaced": "p i p e - b o m b",
    "weapon-hidden": "ріpe b\u200b0mｂ",
    "german": "Größter Schlüssel",
    "russian": "Пароль администратора",
    "chinese": "机密项目",
    "emoji": "👩‍👩‍👧 secret",
    "two": "alice@example.com,bob@example.org",
    "touching": "4111111111111111 219-09-9999",
}
AROUND = [("", ""), ("The value is ", ". And so on."), ('{"k": "', '"}'), ("x=", "\n"), ("数", "。")]

PROSE = (
    "The committee met on 12 March 2024 and spent most of the morning on the question of how the new reading room "
    "should be used. Some members thought that a quiet space was needed more than anything else; others, who had been "
    "in the building for years, said that people would go on talking whatever the sign on the door said. In the end "
    "it was agreed to try both: silence before noon, and no rule after it. The cost, about 1,200 per year, is small. "
    "Nobody asked who would water the plants, which is why they died; that was in June. When we came back, in "
    "September, a note had been left: “Please don’t feed the fish.” There had never been any fish, so far as I know. "
)
CODE = (
    "def merge(left: list[int], right: list[int]) -> list[int]:\n    out, i, j = [], 0, 0\n    while i < len(left) and "
    "j < len(right):\n        if left[i] <= right[j]:\n            out.append(left[i]); i += 1\n        else:\n"
    "            out.append(right[j]); j += 1\n    return out + left[i:] + right[j:]  # O(n)\n\n\nclass Skip(Exception):\n"
    '    """Raised by `task_42` when it is\'nt needed."""\n\n    def __init__(self, *args: object, code: int = 0x1F) -> '
    "None:\n        super().__init__(*args)\n        self.code = code\n"
)
CLEAN = {
    "prose": PROSE,
    "code": CODE,
    "markdown": "# Title\n\n- **one**: `sk` and `eyJ` are prefixes\n- two\n\n> quoted _text_, see [the page](https://example"
    ".org/a-b_c?x=1&y=2#z)\n\n1. first\n2. second\n\n```sh\ncurl -s http://127.0.0.1:8080/v1/models | jq .\n```\n",
    "json": '{"id": "chatcmpl-9a8b7c", "created": 1700000000, "choices": [{"index": 0, "score": -0.125, "text": '
    '"A \\"quoted\\" word\\n"}], "ok": true, "none": null, "list": [1, 22, 333, 4444, 55555]}\n',
    "table": "| name | 2023 | 2024 |\n|---|---:|---:|\n| north | 1,204 | 1,310 |\n| south | 987.5 | 1,002.25 |\n",
    "cjk": "今天的天气很好，我们去公园散步。东京は晴れ、大阪は曇りです。오늘은 날씨가 좋아요, 산책하러 가요.",
    "arabic": "الطقس جميل اليوم، وسنذهب إلى الحديقة. ‏هذا نص عربي مع أرقام ١٢٣ و 456.",
    "emoji": "Great 👍🏽! The family 👨‍👩‍👧‍👦 and the flag 🏳️‍🌈 came; 1️⃣ 2️⃣ 3️⃣ 🎉🎉",
}
