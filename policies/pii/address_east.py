"""Postal addresses of Japan, Korea and China, written in their own scripts, from the largest part to the smallest.

What lives here: the names of provinces and of the largest cities, by which such an address begins, and the chain behind them.
What must never live here: addresses in the Latin alphabet.

An address begins with a name from a list, because anything else would hold every sentence of these languages back. Digits are
those of ASCII: the prefilter sees no others.
"""

from __future__ import annotations

import re

from policies.pii.entity import Detector, Reach, detector

__all__ = ["DETECTOR"]

_PREFECTURE = (
    "(?:北海道|東京都|(?:京都|大阪)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|"
    "山梨|長野|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|"
    "大分|宮崎|鹿児島|沖縄)県)"
)
# Designated cities, and the wards of Tokyo.
_CITY_JP = (
    "(?:(?:札幌|仙台|さいたま|千葉|横浜|川崎|相模原|新潟|静岡|浜松|名古屋|京都|大阪|堺|神戸|岡山|広島|北九州|福岡|熊本)市|"
    "(?:千代田|中央|港|新宿|文京|台東|墨田|江東|品川|目黒|大田|世田谷|渋谷|中野|杉並|豊島|荒川|板橋|練馬|足立|葛飾|江戸川)区)"
)
_J = r"\x{3005}\x{3006}\x{3041}-\x{30ff}\x{3400}-\x{9fff}\x{ff21}-\x{ff5a}"
# What a name ends with: no particle, or "in Osaka 5-3" would be one.
_J_END = (
    r"\x{3005}\x{3041}-\x{304b}\x{304d}-\x{3066}\x{3069}\x{306a}\x{306c}\x{306d}\x{3070}-\x{3081}\x{3083}-\x{3091}\x{3093}-\x{30ff}"
    r"\x{3400}-\x{9fff}\x{ff21}-\x{ff5a}"
)
_BLANK = r"[ \x{3000}]?"
_DASH = r"[-\x{2010}\x{2011}\x{2013}\x{2212}\x{30fc}\x{ff0d}]"
_BLOCKS = (
    rf"\d{{1,3}}(?:(?:丁目|番地?|号){_BLANK}\d{{1,4}}|{_DASH}\d{{1,4}})(?:(?:番地?の?|号|{_DASH})\d{{1,4}})?"
    rf"(?:番地?|号)?"
)
_JAPAN = (
    rf"(?:〒? ?\d{{3}}-\d{{4}}[ \n]?)?(?:{_PREFECTURE}{_BLANK}|{_CITY_JP}{_BLANK})(?:[{_J}]{{1,7}}[市区郡町村島]{_BLANK}){{0,3}}"
    rf"(?:[{_J}]{{0,13}}[{_J_END}])?{_BLANK}{_BLOCKS}"
    # The house, and the flat in it.
    rf"(?:[ \x{{3000}}][{_J}A-Za-z]{{2,18}}\d{{1,4}}(?:号室?|階|F)?)?"
)

_PROVINCE_CN = (
    "(?:(?:北京|上海|天津|重[庆慶])市|(?:河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|"
    "贵州|云南|陕西|甘肃|青海|台湾|臺灣)省|(?:内蒙古|广西壮族|西藏|宁夏回族|新疆维吾尔)自治区|(?:香港|澳门)特别行政区)"
)
_CITY_CN = (
    "(?:(?:广州|深圳|成都|杭州|武汉|西安|苏州|南京|长沙|郑州|东莞|青岛|沈阳|宁波|昆明|大连|厦门|合肥|佛山|福州|哈尔滨|济南|温州|"
    "长春|石家庄|南宁|贵阳|南昌|太原|无锡|珠海|台北|臺北|新北|台中|臺中|台南|臺南|高雄|桃園)市)"
)
_H = r"\x{3400}-\x{9fff}"
_CHINA = (
    rf"(?:{_PROVINCE_CN}|{_CITY_CN}){_BLANK}(?:[{_H}]{{1,9}}[市州县区盟旗區縣]{_BLANK}){{0,2}}"
    rf"[{_H}]{{1,14}}[路街道巷弄里村镇园段同]{_BLANK}(?:\d{{1,5}}|[A-Za-z]\d{{0,3}}){_BLANK}[号號弄座栋棟幢楼樓巷]"
    rf"(?:{_BLANK}[{_H}]{{0,6}}[A-Za-z]?\d{{1,4}}(?:号楼|单元|[楼层室号樓層座栋之])){{0,3}}(?: ?\d{{6}})?"
)

_PROVINCE_KR = (
    "(?:서울(?:특별시|시)?|(?:부산|대구|인천|광주|대전|울산)(?:광역시|시)?|세종(?:특별자치시|시)?|경기(?:도)?|강원(?:특별자치도|도)?|"
    "충청[북남]도|전라[북남]도|경상[북남]도|충[북남]|전[북남]|경[북남]|전북특별자치도|제주(?:특별자치도|도)?)"
)
_G = r"\x{ac00}-\x{d7a3}"
_LOT = r"(?:지하 ?)?\d{1,4}(?:-\d{1,4})?(?:번지)?"
_KOREA = (
    rf"{_PROVINCE_KR} (?:[{_G}]{{1,6}}[시군구] ){{1,2}}(?:[{_G}]{{1,6}}[읍면] )?"
    rf"(?:[{_G}\d]{{1,12}}(?:로|길|가|거리)|[{_G}]{{1,6}}\d?[동리])"
    rf" {_LOT}(?:,? \d{{1,4}}동)?(?:,? ?\d{{1,4}}호)?(?: ?\([{_G}\d, ]{{2,24}}\))?"
)

_START = f"{_PREFECTURE}|{_CITY_JP}|{_PROVINCE_CN}|{_CITY_CN}|{_PROVINCE_KR}"
_NO_HOUSE = re.compile(r"[ \u3000][^\d]*(?:電話|携帯|番号|郵便|TEL|Tel|FAX|Fax)")
# By their shape alone, since the prefilter sees no script: figures right behind a run of letters of others.
_MARK = (
    r"\?[ ?]?\d{1,3}(?:\?{1,3}|-)[ ?]?\d|\?{5} ?(?:\d{1,5}|[A-Za-z]\d{0,3}) ?\?|"
    r"\?\? \?{2,7} [?\d]{2,14} (?:\?\? ?)?\d"
)


def _address(value: str) -> bool:
    return _NO_HOUSE.search(value) is None


DETECTOR: Detector = detector(
    "postal_address.5", (_JAPAN, _CHINA, _KOREA), 0.75, _MARK, Reach.LONG, validate=_address, needs=_START
)
"""One for the three; its score is that of an address with its place."""
