"""Each entity: what is found, in the forms and places where people write it, and what only looks like it."""

from __future__ import annotations

import pytest

from policies.pii import ENTITIES, GROUPS, compile_scanner

SCANNER = compile_scanner(["all", "generic_secrets"], regions=("US", "GB", "DE"))


def found(text: str) -> list[tuple[str, str]]:
    return [(s.type, text[s.start : s.end]) for s in SCANNER.spans(text)]


JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/IBAAKCAQEA\nabc=\n-----END RSA PRIVATE KEY-----"
HEX32 = "0123456789abcdef" * 2
MIXED = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7d"

# entity; texts, each with the value in guillemets
FOUND: list[tuple[str, list[str]]] = [
    (
        "email",
        [
            "mail «jane.doe+tag@example.co.uk».",
            "<«a@b.org»>",
            '{"mail":"«x_1@mail.example.org»"}',
            "«jane@example.com»,Smith",
            "发到«v04@acme.co.uk»，谢谢",
            "メールは«t@gmail.com»まで",
            "«user@xn--bcher-kva.example»",
            "«müller@bücher.de»",
            "«Δοκιμή@παράδειγμα.ελ»",
            "«почта@пример.рф» тут",
            "an «用户@例え.jp» ",
            "user=«a.b@c.io» ip",
            "mailto:«a@b.io»?subject=x",
        ],
    ),
    (
        "phone",
        [
            "call «+1 415-555-2671»",
            "«+44 20 7946 0958»!",
            "«+49-30-901820»",
            "«(415) 555-2671»",
            "«415-555-2671»,x",
            "my phone is «4155552671»",
            "tel: «020 7946 0958»",
            "Rückruf unter «030 901820»",
            "电话«13956253135»",
            "전화번호는 «010-4827-2309»입니다",
            "«+1-654-515-9709x9625»",
            "a@b.io,«5222 9993»,Leeds",
            "Contact: «00343988187».",
            '"phone": "«415.555.2671»"',
        ],
    ),
    (
        "credit_card",
        [
            "«4111 1111 1111 1111»",
            "card=«4111111111111111»;",
            "«5500-0000-0000-0004»,x",
            "«3782 822463 10005»",
            '"«6011111111111117»"',
            "('«2221000000000009»')",
        ],
    ),
    (
        "iban",
        [
            "«DE89370400440532013000»",
            "«GB82 WEST 1234 5698 7654 32».",
            "«NO93 8601 1117 947»",
            "IBAN:«FR1420041010050500013M02606»",
        ],
    ),
    ("bic", ["BIC: «DEUTDEFF500»", "swift code is «NEDSZAJJ»"]),
    ("us_routing", ["routing number «021000021»", "ABA: «011401533»"]),
    ("bank_account", ["account number is «5663630512»", "acct «12345678»,"]),
    ("us_ssn", ["SSN «536-22-1234»", "«536 22 1234».", "my social security number is «536221234»", '"«536-22-1234»"']),
    ("us_itin", ["ITIN «912-70-1234»", "«912-70-1234»"]),
    ("uk_nhs", ["NHS number «943 476 5919»", "NHS no: «9434765919»"]),
    ("uk_nino", ["NI number «AB 12 34 56 C»", "«AB123456C»."]),
    ("de_steuer_id", ["Steuer-ID «36 574 261 809»", "steuerliche Identifikationsnummer: «36574261809»"]),
    ("fr_nir", ["Numéro de sécurité sociale : «295109912611193»", "«2 95 10 99 126 111 93»"]),
    ("es_nif", ["«54362315K»", "NIF: «54362315-K»"]),
    ("es_nie", ["«X-2482300W»", "NIE «X2482300W»"]),
    ("it_codice_fiscale", ["«RCCMNL83S18D969H»", "codice fiscale «RCCMNL83S18D969H»,"]),
    ("nl_bsn", ["BSN is «111222333»", "burgerservicenummer: «1112.22.333»"]),
    ("pl_pesel", ["PESEL to «44051401359»"]),
    ("se_personnummer", ["«880320-0016»", "personnummer «8803200016»"]),
    ("fi_hetu", ["«131052-308T»", "hetu: «131052-308T»."]),
    ("br_cpf", ["«390.533.447-05»", "CPF «39053344705»,"]),
    ("br_cnpj", ["«16.727.230/0001-97»", "CNPJ «16727230000197»"]),
    ("in_aadhaar", ["Aadhaar: «2341 2341 2346»", "aadhaar no «234123412346»"]),
    ("in_pan", ["PAN «ACUPA7085R»", "«ACUPA7085R»"]),
    ("cn_id", ["«11010519491231002X»", "身份证号«11010519491231002X»，"]),
    ("ca_sin", ["SIN «123-456-782»", "social insurance number: «123456782»"]),
    ("au_tfn", ["TFN «123 456 782»", "tax file number «123456782»"]),
    ("kr_rrn", ["주민등록번호 «850321-1234567»", "«850321-1234567»"]),
    ("jp_my_number", ["マイナンバー«6214 9832 0257»"]),
    (
        "ipv4",
        ["from «93.184.216.34».", "ip=«10.0.3.7» x", "«192.168.0.1»:8080", "http://«203.0.113.9»/x", "a,«8.8.8.8»,b"],
    ),
    (
        "ipv6",
        [
            "«2001:db8::8a2e:370:7334»",
            "[«2001:db8:85a3:0:0:8a2e:370:7334»]:80",
            "«::ffff:192.0.2.1»",
            "«fe80::1ff:fe23:4567:890a»",
        ],
    ),
    ("mac", ["«00:1A:2b:3C:4d:5E»", "«00-1A-2B-3C-4D-5E»,", "«001a.2b3c.4d5e»"]),
    (
        "btc_address",
        [
            "«1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa»",
            "«bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4»",
            "«BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4»",
        ],
    ),
    ("eth_address", ["«0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed»", "«0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed»"]),
    (
        "date_of_birth",
        [
            "DOB «1972-09-21»,",
            "born «25.06.1942»",
            "geboren am «Dec 05, 1989»",
            "né(e) le «1 mars 1942»",
            '"dob": "«08 August 1973»"',
            "出生«1980年1月2日»",
            "date_of_birth: «02/12/1965»",
        ],
    ),
    ("passport", ["passport number is «643225511»", "bring passport «HO5233554» on"]),
    ("driver_licence", ["driving licence is «Q5038504»", "Driver's license: «S107569795401»"]),
    ("national_id", ["Ausweisnummer «J1HZ0Y4CC»,", "DNI es «300-62-2122» y", "identity card no «AB1234567»"]),
    (
        "postal_address",
        [
            "at «12 Oak Street, Springfield, IL 62704»",
            "«Flat 3, 12 Oak Street, London, SW1A 1AA»",
            "«Lindenstr. 12, 10969 Berlin»",
            "lives at «742 Evergreen Road»",
        ],
    ),
    ("openai_key", [f"key «sk-proj-{MIXED}».", f'"«sk-{MIXED}aB3dE5fG»"']),
    ("anthropic_key", [f"«sk-ant-api03-{MIXED}-AA»"]),
    ("llm_key", [f"«hf_{MIXED[:34]}»", f"«gsk_{MIXED}{MIXED[:12]}»"]),
    ("aws_access_key", ["AWS_ACCESS_KEY_ID=«AKIAIOSFODNN7EXAMPLE»", '"«ASIAIOSFODNN7EXAMPLE»"']),
    ("aws_secret_key", ["AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY»"]),
    (
        "github_token",
        [
            f"PRIVATE KEY -e GITHUB_TOKEN=«ghp_{MIXED[:36]}»",
            f"https://«ghp_{MIXED[:36]}»@github.com/a/b",
            f"«github_pat_{MIXED[:22]}_{MIXED}{MIXED[:19]}»,",
        ],
    ),
    ("gitlab_token", [f"«glpat-{MIXED[:20]}»"]),
    ("google_key", [f"key=«AIza{MIXED[:35]}»&x"]),
    (
        "slack_token",
        [
            "«xoxb-832132131910-752789628847-GRhS26v7HL4zJwMqj4fFSOkA»",
            "«https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx»",
        ],
    ),
    (
        "stripe_key",
        [
            "«sk_live_JPbSpE4XJvn6C44PmSTBRdzM»",
            "«rk_test_JPbSpE4XJvn6C44PmSTBRdzM»",
            "«whsec_JPbSpE4XJvn6C44PmSTBRdzM»",
        ],
    ),
    ("azure_key", ["x;«AccountKey=" + (MIXED * 3)[:86] + "==»;"]),
    ("twilio_key", [f"«SK{HEX32}»"]),
    ("package_token", [f"«npm_{MIXED[:36]}»", f"«pypi-AgE{MIXED}{MIXED}»"]),
    ("cloud_token", [f"«dapi{HEX32}»", f"«hvs.{MIXED}»"]),
    (
        "jwt",
        [f"Bearer «{JWT}»", f'"«{JWT}»"', f"the access token is «{JWT}».", f"token=«{JWT}»."],
    ),
    ("private_key", [f"«{PEM}»", "'«" + PEM.replace("\n", "\\n") + "»'"]),
    (
        "connection_string",
        [
            "«postgres://app:s3cr%40t@db.internal:5432/prod».",
            "DB=«mongodb+srv://u:p-w@h.example.com/x» -e",
            '"«redis://:pw@cache:6379/0»"',
        ],
    ),
    ("url_credentials", ["«https://joe:hunter2@example.com/path»)", "git clone «https://u:p@host.example/r.git»"]),
    ("password", ["password: «Hunter2!x9» ok", "Pass: «M6Uqqpl%mIN2»\nnext", 'password = "«aB3$efgh»"']),
    (
        "generic_secret",
        [
            "The token is «n2fTNGITSlWrqWszeDdJKbmVbvFC».",
            "secret: «VWCLwbcnLVtqihFglPiSJdC7NhHs»",
            f'secret_key = "«{HEX32}»"',
            'Authorization: Bearer «n2fTNGITSlWrqWszeDdJKbmVbvFC»"',
        ],
    ),
]


@pytest.mark.parametrize(("entity", "text"), [(e, t) for e, texts in FOUND for t in texts])
def test_is_found_with_its_very_ends(entity: str, text: str) -> None:
    before, _, rest = text.partition("«")
    value, _, after = rest.partition("»")
    assert (entity, value) in found(before + value + after)


def test_every_entity_has_examples() -> None:
    assert {e for e, texts in FOUND if texts} == set(ENTITIES)


WRONG = [  # a check digit, a length, a range that is not right
    ("credit_card", "4111 1111 1111 1112"),
    ("credit_card", "9116 2541 3348 7583"),
    ("credit_card", "0000 0000 0000 0000"),
    ("credit_card", "411 1111 1111 11111"),
    ("iban", "DE89370400440532013001"),
    ("iban", "DE8937040044053201300"),
    ("us_ssn", "SSN 000-22-1234"),
    ("us_ssn", "SSN 666-22-1234"),
    ("us_ssn", "SSN 536-00-1234"),
    ("us_ssn", "SSN 536-22-0000"),
    ("us_ssn", "SSN 078-05-1120"),
    ("us_ssn", "SSN 936-22-1234"),
    ("us_itin", "ITIN 912-66-1234"),
    ("uk_nhs", "NHS 943 476 5918"),
    ("uk_nino", "BG123456A"),
    ("uk_nino", "DA123456A"),
    ("de_steuer_id", "Steuer-ID 36574261808"),
    ("fr_nir", "295109912611194"),
    ("es_nif", "54362315L"),
    ("es_nie", "X2482300A"),
    ("it_codice_fiscale", "RCCMNL83S18D969A"),
    ("nl_bsn", "BSN 111222334"),
    ("pl_pesel", "PESEL 44051401358"),
    ("se_personnummer", "880320-0017"),
    ("fi_hetu", "131052-308U"),
    ("br_cpf", "390.533.447-06"),
    ("br_cnpj", "16.727.230/0001-98"),
    ("in_aadhaar", "aadhaar 2341 2341 2347"),
    ("in_pan", "ACUXA7085R"),
    ("cn_id", "110105194912310021"),
    ("ca_sin", "SIN 123-456-783"),
    ("au_tfn", "TFN 123 456 783"),
    ("kr_rrn", "851321-1234567"),
    ("jp_my_number", "マイナンバー 6214 9832 0258"),
    ("us_routing", "routing 021000022"),
    ("bic", "BIC DEUTZZFF"),
    ("ipv4", "999.1.1.1"),
    ("ipv4", "0.0.0.0"),
    ("ipv4", "127.0.0.1"),
    ("ipv6", "::1"),
    ("mac", "00:00:00:00:00:00"),
    ("btc_address", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"),
    ("btc_address", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
    ("eth_address", "0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    ("jwt", "eyJhYmNkZWZnaGlqa2w.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefgh"),
    ("date_of_birth", "born 45/45/1990"),
    ("aws_access_key", "AKIAIOSFODNN7EXAMPL"),
    ("github_token", "ghp_short"),
    ("phone", "+999 123 4567"),
]


@pytest.mark.parametrize(("entity", "text"), WRONG)
def test_a_wrong_one_is_left(entity: str, text: str) -> None:
    assert entity not in [name for name, _ in found(text)]


DECOYS = [
    "Order ORD-3574996489 from 1974-11-20, PO 17593006, ticket #27573252, INV-129908.",
    "What is 20007649307 divided by 12?",
    "version 12.27.8, since version 25.16.29.15, of v28.24.22.3",
    "docker run app:26.17.25.25",
    "The hash c15747e5f742 and f1f1d6fb-d9da-45e6-bc27-57192bb55ac9 in both logs at 1985-05-19T15:26:53.165684.",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ISBN 978-0-939327-27-0 costs €42,025.55",
    "ISBN 0-306-40615-2",
    "price $1,874.58, 28,158.19 and 1.000.000,00",
    "took 35838ms, 101323879ms",
    "lat 48.8566140, lon 2.3522219",
    "epoch 1700000000 and 1700000000000",
    "2024-04-23 10:15:30",
    "pages 1234-5678, years 1999-2004",
    "Chapter 1.2.3.4",
    "use <your-api-key> or sk-... or ghp_xxx",
    "std::vector<int> a::b; Foo::Bar",
    "10:30:45",
    "@pytest.fixture and user@localhost",
    "logo@2x.png",
    "git@github.com:acme/app.git",
    "password = os.environ['DB']",
    "password: required",
    "token = get_token()",
    "the token is invalid",
    "key: value",
    "INTRODUCTORY H1 LETTER 96c",
    "-0.96",
    "E = 2.718281828459045",
    "x = 3.14159265358979",
    "UUID 123e4567-e89b-12d3-a456-426614174000",
    "MIT Licence 2024",
    "duplicate 12345678",
    "a born leader of 1999 people",
    "SWIFT is a language",
    "phone-like id 1234-5678-90",
    "serial 4111-1111",
    'GET /v6.0.18/items HTTP/1.1" 200 63403',
]


@pytest.mark.parametrize("text", DECOYS)
def test_nothing_is_found_in(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "frame",
    ['{{"a": "{}", "n": 1}}', "x,{},y\n", "f('{}')", "|{}|", "({})", "see {}.", "«{}»", "{};", "<b>{}</b>", "\t{}\n"],
)
@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("email", "jane@example.com"),
        ("credit_card", "4111 1111 1111 1111"),
        ("iban", "DE89370400440532013000"),
        ("us_ssn", "536-22-1234"),
        ("phone", "+14155552671"),
        ("ipv4", "93.184.216.34"),
        ("github_token", f"ghp_{MIXED[:36]}"),
        ("jwt", JWT),
        ("connection_string", "postgres://u:pw@db:5432/x"),
        ("private_key", PEM),
    ],
)
def test_in_json_csv_code_and_markup(frame: str, entity: str, value: str) -> None:
    assert found(frame.format(value)) == [(entity, value)]


def test_groups_cover_the_catalogue() -> None:
    assert set(GROUPS) >= {
        "contact",
        "payment",
        "us_ids",
        "national_ids",
        "network",
        "secrets",
        "crypto",
        "all",
        "base",
    }
    assert set(GROUPS["all"]) | set(GROUPS["generic_secrets"]) == set(ENTITIES)
    assert all(set(names) <= set(ENTITIES) for names in GROUPS.values())
    assert not [n for n in GROUPS["base"] if ENTITIES[n].needs_extra]


def test_an_entity_says_what_it_is() -> None:
    for name, entity in ENTITIES.items():
        assert entity.name == name and entity.description and entity.validator and entity.rules()
        assert 0 < entity.score <= 1 and entity.label == entity.label.upper()
