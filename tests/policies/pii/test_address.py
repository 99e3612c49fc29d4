"""Postal addresses as people of eleven languages write them, and what only looks like one."""

from __future__ import annotations

import pytest

from policies.pii import Found, compile_scanner
from tests.policies.detect.corpus import CLEAN

SCANNER = compile_scanner(["all"])
ALONE = compile_scanner(["postal_address"])

# Texts, each with the address in guillemets.
ADDRESSES = {
    "us": [
        "Ship it to «4120 Larkspur Lane, Boise, ID 83702», please.",
        "«1 Infinite Loop, Cupertino, CA 95014»",
        "«350 5th Avenue, Suite 3300, New York, NY 10118-0110»",
        "She lives at «88 W. Adams Street #4B\nChicago, IL 60603» now.",
        "My office: «901 NE Martin Luther King Blvd, Portland OR 97232».",
        "«PSC 1234, Box 5678, APO AE 09012»",
        "We met at «17 Cherry Tree Road» and left.",
        "address: «42 Harbour View»",
        "Home address is «9 Mill Walk Apt. 12»",
    ],
    "uk": [
        "«10 Downing Street, London SW1A 2AA»",
        "Post it to «Flat 9, 61 Queensway Terrace, Leeds LS1 4DY».",
        "«Rose Cottage, Church Lane, Witney OX28 1AA»",
        "«4 High Street, Clifton, Bristol, BS8 2LR»",
        "«221B Baker Street»",
    ],
    "ca_au_in": [
        "«24 Sussex Drive, Ottawa, ON K1M 1M4»",
        "«7/120 Collins Street, Melbourne VIC 3000»",
        "Send to «Unit 5 18 George Street, Sydney, NSW, 2000»!",
        "«H.No. 14, Station Road, Nagpur-440001»",
    ],
    "de_at_ch": [
        "Ich wohne in der «Gartenstraße 7, 04103 Leipzig».",
        "«Karl-Marx-Allee 34\n10178 Berlin»",
        "Wohnort «Kastanienweg 12a, 50667 Köln», seit 2019.",
        "Rechnung an «Mariahilfer Straße 45, 1060 Wien»",
        "«Bahnhofstrasse 3, CH-8001 Zürich»",
        "Treffpunkt: «Schillerstr. 19», zweiter Stock",
        "Adresse: «Lindenplatz 4»",
    ],
    "fr_be": [
        "J'habite au «12 bis, rue de la République, 69002 Lyon».",
        "«5 avenue d'Italie\n75013 Paris»",
        "Livraison : «Rue de la Loi 16, 1000 Bruxelles», merci",
        "au «31, boulevard Saint-Michel» demain",
        "adresse : «place Bellecour 4»",
    ],
    "es_mx": [
        "Vivo en «Calle de Alcalá 48, 28014 Madrid».",
        "«Avenida de la Constitución 12, Sevilla, 41001»",
        "«C/ Mayor 3, 2º B, 28013 Madrid»",
        "Envíalo a «Avenida Juárez 101 Interior 4, Puebla, PUE 72000».",
        "en la «calle Aribau 77» a las tres",
    ],
    "it": [
        "Abito in «Via Garibaldi, 24, 16124 Genova (GE)».",
        "«Corso Vittorio Emanuele 15\n80121 Napoli (NA)»",
        "Scrivere a «Piazza del Duomo, 3 Piano 2, 20122, Milano (MI)», grazie",
        "residente in «via Manzoni 8» da anni",
    ],
    "nl": [
        "Ik woon op «Prinsengracht 263, 1016 GV Amsterdam».",
        "«Dorpsstraat 8\n3511AB\nUtrecht»",
        "Bezorgen op «Julianalaan 41-bis» graag",
        "adres: «Hoofdweg 12»",
        "«Wetstraat 16, 1000 Brussel»",
    ],
    "pl": [
        "Mieszkam: «ul. Nowy Świat 15/3, 00-029 Warszawa».",
        "«al. Jana Pawła II 20\n31-864 Kraków»",
        "paczka na «os. Kolorowe 7» jutro",
        "«plac Solny 4, 50-060 Wrocław»",
    ],
    "pt_br": [
        "Moro na «Rua das Flores, 123 - Centro, Curitiba - PR, 80020-090».",
        "«Avenida Paulista, 1578, Bela Vista, 01310-200 São Paulo / SP»",
        "Morada: «Rua Augusta 24, 1100-053 Lisboa»",
        "entrega na «Travessa do Carmo, 9» hoje",
    ],
    "ja": [
        "住所は«東京都千代田区丸の内1丁目9番1号»です。",
        "«〒530-0001 大阪府大阪市北区梅田3-1-3»",
        "送付先：«横浜市西区みなとみらい2-2-1 ランドマークタワー305号室»",
        "«北海道札幌市中央区北一条西2丁目4番»",
    ],
    "ko": [
        "주소는 «서울특별시 종로구 세종대로 175»입니다.",
        "«경기도 성남시 분당구 판교역로 166 (백현동)»",
        "«부산 해운대구 우동 1408-5» 앞에서",
        "«대전광역시 유성구 대학로99번길 12, 101동 1203호»",
    ],
    "zh": [
        "地址：«北京市海淀区中关村大街27号»。",
        "请寄到«广东省深圳市南山区科技路5号3栋1204室»，谢谢",
        "«上海市浦东新区世纪大道100号 200120»",
        "«台北市信義區市府路45號»",
    ],
}  # fmt: skip


def found(text: str) -> list[str]:
    return [text[s.start : s.end] for s in SCANNER.spans(text) if s.type == "postal_address"]


def _cases() -> list[tuple[str, str]]:
    return [(country, text) for country, texts in ADDRESSES.items() for text in texts]


@pytest.mark.parametrize(("country", "text"), _cases())
def test_an_address_is_found_with_its_very_ends(country: str, text: str) -> None:
    before, _, rest = text.partition("«")
    value, _, after = rest.partition("»")
    assert found(before + value + after) == [value]


@pytest.mark.parametrize("frame", ['{{"address": "{}", "n": 1}}', '"x","{}","y"\n', "x;{};y", "to='{}'", "<td>{}</td>", "({})"])
@pytest.mark.parametrize("country", ADDRESSES)
def test_in_json_csv_code_and_markup(country: str, frame: str) -> None:
    value = ADDRESSES[country][0].partition("«")[2].partition("»")[0]
    assert found(frame.format(value)) == [value]


@pytest.mark.parametrize("brk", ["\n", ",\n", "\r\n", "\\n", ", "])
@pytest.mark.parametrize(
    ("street", "place"),
    [
        ("4120 Larkspur Lane", "Boise, ID 83702"),
        ("12 Park Row", "Leeds LS1 4DY"),
        ("Gartenstraße 7", "04103 Leipzig"),
        ("8, rue de la Paix", "75002 Paris"),
        ("Calle Mayor 3", "28013 Madrid"),
        ("Via Roma, 5", "00184 Roma (RM)"),
        ("Dorpsstraat 8", "3511 AB Utrecht"),
        ("ul. Polna 3/5", "00-625 Warszawa"),
        ("Rua Augusta 24", "1100-053 Lisboa"),
    ],
)
def test_on_two_lines(street: str, place: str, brk: str) -> None:
    value = street + brk + place
    assert found(f"To:\n{value}\n\nThanks") == [value]


DECOYS = [
    "12 people came, 5 Star Hotel, 3 Michelin Stars.",
    "I sent it via email 3 times and via Zoom 2 times.",
    "Compile via Python 3, then via HTTP 2.",
    "Calle is a word. So is Rue, and rue the day in 1999.",
    "The rue Morgue murders; une rue calme; la calle es larga.",
    "10 Downing was quiet. 221B was not.",
    "In 2008 Wall Street fell. By 2010 Main Street did.",
    "The 9 Supreme Court justices met.",
    "Upload 7 Google Drive files and 2 USB Drive images.",
    "On March 12, 2024 EU Commission rules came; January 5, 2023 US markets fell.",
    "12 March 2024, 3 April 2025 and 14 May 2026",
    "Take 200 g Butter, 3 Eggs, 12345 Grains of Salt",
    "Chapter 12, 10969 Words",
    "Section 3, 20001 Items in Table 4, 10000 Rows",
    "Invoice 17, 10115 Units",
    "Price: 12 USD, 15000 JPY; Order 55, 90210 Parts",
    "Smith et al. 2020, Jones et al. Nature 2019",
    "Straße gesperrt, 3 Autos; der Arbeitsplatz 4 ist frei; Umweg 3 km",
    "Platz 3 im Ring; Weg 12 ist lang; auf der Straße 5 Leute",
    "place the 3 Cups; Place de rien; the route Germany took in 1945",
    "ulica długa, 3 domy; plac zabaw 2",
    "uma rua com 3 casas; praça cheia",
    "via dei mille problemi 3; la piazza era piena, 200 persone",
    "東京都の人口は1400万人、2024年3月12日。大阪市で5-3で勝った。",
    "서울은 인구 950만, 경기도 2024년 3월. 부산 2 대 1 승리",
    "北京市有21个区，2024年人口2000万。上海市第3号文件",
    "SELECT 12 FROM Main Street_table; x = Road[3]; class Avenue2(Street): pass",
    "## 3 Way Merge\n\n1. First Step\n2. Second Step Place",
    "Fig. 3 Park et al. measured 5 Court cases and 2 Lane changes in 6 Square metres",
    "Paris 2024, London 2012; Windows 11, 10240 Build",
    "IP address: 10 Server Park",
    "Room 12, Level 3",
]


@pytest.mark.parametrize("text", DECOYS)
def test_no_address_is_found_in(text: str) -> None:
    assert found(text) == []


def _streamed(text: str, size: int) -> list[str]:
    hits: list[Found] = []

    def note(hit: Found) -> str:
        hits.append(hit)
        return "?"

    gate = ALONE.gate(note)
    for at in range(0, len(text), size):
        gate.push(text[at : at + size])
    gate.close()
    return [hit.value for hit in hits]


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("country", ADDRESSES)
def test_a_stream_finds_what_the_whole_text_holds(country: str, size: int) -> None:
    text = "\n\n".join(t.replace("«", "").replace("»", "") for t in ADDRESSES[country])
    whole = [text[s.start : s.end] for s in ALONE.spans(text)]
    assert len(whole) == len(ADDRESSES[country])
    assert _streamed(text, size) == whole


@pytest.mark.parametrize("name", CLEAN)
def test_ordinary_text_is_hardly_held(name: str) -> None:
    """Characters behind the end of the text, after each of them: the mean and the most."""
    text, held = CLEAN[name], []
    gate = ALONE.gate(lambda hit: None)
    for at, char in enumerate(text, 1):
        held.append(at - gate.push(char))
    assert sum(held) / len(held) < 1.5
    assert max(held) < 20


def test_the_bound_of_what_is_held() -> None:
    assert ALONE.worst_hold["postal_address"] <= 250
