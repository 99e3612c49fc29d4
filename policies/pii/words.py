"""The words that stand before a value, in many languages.

What lives here: alternatives for ``entity.near``: regular expressions without groups that count and without look-around.
What must never live here: checks, shapes of values. Languages: those of the catalogue's countries, and those that have a
keyboard of their own nearby; a word that also means something else stands with what makes it plain.
"""

from __future__ import annotations

__all__ = ["ACCOUNT", "CARD", "IDENTITY", "LICENCE", "PASSPORT", "PHONE"]

_OWN = (
    r"(?:my|our|his|her|their|your|new|old|work|home|office|direct|personal|private|emergency|contact|callback|following|this|"
    r"same|day ?time|evening|alternate|backup)[ _-](?:(?:new|old|own|home|work|office|direct|personal|private|other|main|current|"
    r"business|contact) )?(?:number|no\b|num\b)"
)
PHONE = "|".join(
    (
        # English
        r"(?:tele|cell|smart)?phon(?:e|ing)|tel\b|telno|mobile\b|mobileno|mob\b|ph\b|cell\b|cellular|cell[ _-]?(?:no|num)|fax|"
        r"pager|"
        r"landline|hotline|helpline|switchboard|voice ?mail|toll[ -]?free|call(?:ing|ed|s|back|er)?\b|ring (?:me|us|him|her|"
        r"them|back|up|on|at|mig|oss|meg)\b|a ring\b|ringing\b|rang\b|"
        r"dial(?:l?ing|l?ed)?\b|reach(?:ed|able|ing)?\b|text(?:ing|ed)? (?:me|us|him|her|them|back|to|at|on)\b|sms|whats ?app|"
        r"viber|signal|telegram|imessage|facetime|contact|hit me up|buzz me|number to (?:call|ring|text)|msisdn|caller ?id|"
        r"(?:from|to)_number|available (?:at|on|under)",
        _OWN,
        # German
        r"telefon|\w{0,12}handy|mobil(?:e|es|funk|nummer|nr|telefon)?\b|rufnummer|rückruf|zurück ?rufen|anruf|angerufen|"
        r"ruf(?:e|en|t)?\b|erreich|festnetz|durchwahl|telefax|fon\b|kontakt|meld(?:e|en|et)\b|"
        r"(?:meine|unsere|seine|ihre|deine|neue|private|folgende|der|die) nummer|nummer (?:ist|lautet)",
        # French
        r"tél|portable|fixe\b|joindre|joignable|joignez|appelez|appeler|appelle[- ](?:moi|nous)|rappel|appel\b|coordonnées|gsm|"
        r"télécopi|(?:mon|notre|son|votre|ton|leur|nouveau|au|ce) numéro|numéro (?:est|de (?:portable|mobile|bureau))",
        # Spanish, Portuguese
        r"teléf|móvil|movil\b|celular|cel\b|llám|llam(?:a|ada|ado|ando|ar|en|o)\b|fijo\b|marc(?:ar|ando|que)\b|was?sap|guasap|"
        r"(?:mi|su|nuestro|tu|al|este|nuevo) número|número (?:es|de (?:casa|trabajo|contacto))|telem[óo]vel|"
        r"ligu?(?:a|ar|ue|uem|ando|o)\b|fone\b|contat|whats\b|zap\b|fixo\b|chamada|"
        r"(?:meu|nosso|seu|teu|ao|neste|novo|o) número|número é",
        # Italian
        r"cellulare|chiam(?:aci|ami|ando|are|arci|armi|ata|ate|ateci|atemi|i)\b|contatt|recapito|fisso\b|rispond|reperibil|"
        r"raggiungibil|utenza|squillo|richiam|(?:mio|suo|nostro|tuo|al|questo|nuovo) numero|numero (?:è|di (?:casa|ufficio))",
        # Dutch
        r"telefoon|mobiel|gsm|bel\b|bellen|belt\b|gebeld|bereik|terugbel|toestel|vaste lijn|app(?:en)? (?:me|naar|op)\b|"
        r"(?:mijn|ons|onze|zijn|haar|het|dit|op|nieuwe) nummer|nummer is",
        # Polish, Czech, Slovak
        r"komórk|kom\b|zadzwo|dzwo[nń]|oddzwo|faks|stacjonarn|pod (?:nr|numerem)|(?:mój|nasz|jego|jej|nowy|pod) numer|numer to|"
        r"volej|zavol|mobiln",
        # Nordic, Hungarian, Romanian, Turkish, Indonesian, Vietnamese
        r"tlf|puhelin|puh\b|soita|hív|sun[aă]\b|cep\b|ara(?:yın|yabilir)|numaram|telp|hp\b|hubungi|điện thoại|sđt|đt\b|gọi|"
        r"liên hệ",
        # Japanese, Korean, Chinese
        r"電話|携帯|ケータイ|スマホ|連絡|お問い?合わせ|ＴＥＬ|ＦＡＸ|ファ[ック]+ス|直通|内線|ダイヤル|"
        r"(?:私|僕|俺|自分|こちら|彼|彼女|弊社|会社|自宅|職場)の番号|"
        r"전화|휴대폰|휴대전화|핸드폰|폰|연락|팩스|문자|콜센터|모바일|직통|내선|(?:제|내|저의|우리) 번호|번호로|"
        r"电话|電話|手机|手機|联系|聯繫|聯絡|联络|致电|致電|拨打|撥打|座机|座機|热线|熱線|传真|傳真|打给|打給|打我|来电|來電|"
        r"短信|簡訊|微信|"
        r"(?:我|他|她|公司|家里|办公室|以下|这个|這個|新)的?(?:号码|號碼)",
        # Russian, Ukrainian, Greek, Arabic, Hebrew, Hindi, Thai
        r"телефон|тел\b|мобильн|мобільн|сотов|звон|дзвон|факс|(?:мой|наш|его|её|ваш) номер|τηλ|κιν|καλέ|هاتف|جوال|موبايل|تلفون|"
        r"اتصل|فون|"
        r"טלפון|נייד|התקשר|फ़ोन|फोन|मोबाइल|कॉल|संपर्क|โทร|เบอร์|มือถือ",
    )
)

_NUMBER = r"(?:no\b|nos\b|number|num\b|nr\b|n°|nº|#)"
IDENTITY = "|".join(
    (
        # English, and the names of numbers as they are used in it
        r"national[ _-]?(?:id\b|identity|identification|identifier|insurance|number|registration)|nationalid|"
        r"(?:identity|identification|ident)[ _-]?(?:card|number|no\b|nr\b|document|code|paper)|id[ _-]?(?:card|document)|"
        r"(?:personal|citizen(?:ship)?|resident|government|govt|state|voter|photo)[ _-]?(?:issued )?(?:id\b|identity|"
        r"identification|"
        rf"number|no\b|registration|code|card)|\bid[ _-]?{_NUMBER}|ni {_NUMBER}|nino\b|insurance {_NUMBER}|"
        r"social (?:security|insurance)|\bsin\b|tax(?:payer)?[ _-]?(?:id|ident|number|no\b|file|reference|payer)|\btin\b|"
        r"\btfn\b|\bnhs\b|"
        r"health (?:card|insurance)|medicare|aadh?aar|uidai|\bpan (?:card|no\b|number)|permanent account|nric\b|emirates id|"
        r"cnic\b|"
        r"\bktp\b|\bnik\b|ppsn?\b|resident registration|\brrn\b|my number card",
        # German
        r"personalausweis|ausweis|steuer-?(?:id|identifikation|nummer|nr)|steuerliche|idnr|identifikationsnummer|"
        r"sozialversicherung|sv-?(?:nummer|nr)|rentenversicherung|versicherungs-?(?:nummer|nr)|versicherten-?(?:nummer|nr)|"
        r"krankenversichert|aufenthaltstitel|\bahv\b",
        # French
        r"s[ée]curit[ée] sociale|\bsécu\b|\bnir\b|insee|assur[ée]{1,2}\b|\bcni\b|carte vitale|"
        r"(?:carte|pièce|numéro|titre) (?:nationale )?d['’]identi|(?:numéro|n°) (?:fiscal|spi\b)|identité",
        # Spanish, Portuguese
        r"\bdni\b|\bd\.n\.i|\bnif\b|\bnie\b|cédula|cedula\b|identidad|identificación|seguridad social|curp\b|\brut\b|\bcuil\b|"
        r"\bcuit\b|"
        r"\bcpf\b|\bcnpj\b|\brg\b|cartão (?:de |do )?cidadão|bilhete de identidade|identidade|contribuinte|\bniss\b|"
        r"segurança social|título de eleitor|\bpis\b",
        # Italian
        r"codice fiscale|cod\.? ?fisc|\bcf\b|\bc\.f\b|identità|\bcie\b|tessera sanitaria",
        # Dutch, Polish, Nordic, Czech, Hungarian, Romanian, Turkish, Croatian
        r"\bbsn\b|burgerservice|sofi-?nummer|identiteits|\bid-?kaart|rijksregister|persoonsnummer|pesel|dow[óo]d|dowodu|"
        r"tożsamości|"
        r"\bnip\b|identyfikacyjn|personnummer|personbeteckning|\bpnr\b|\bcpr\b|fødselsnummer|henkilötunnus|\bhetu\b|rodné číslo|"
        r"személyi|\bcnp\b|kimlik|\boib\b",
        # Japanese, Korean, Chinese
        r"マイナンバー|個人番号|身分証|在留カード|保険証|年金番号|住民票コード|주민|외국인등록|신분증|身份证|身份證|身分證|"
        r"证件号|證件號|社保|社会保障|"
        r"统一编号|統一編號|台胞证|居留证",
        # Russian, Greek, Hebrew, Hindi
        r"снилс|инн\b|удостоверени[ея] личности|αφμ|αμκα|ταυτότητ|תעודת זהות|आधार|पैन कार्ड",
    )
)

PASSPORT = (
    r"passport|reisepass|passnummer|pass-?nr|pass n(?:o|umber|r)\b|passeport|pasaporte|passaport|paspoort|paszport|pasport|"
    r"útlevél|"
    r"pașaport|pasaport|paspor\b|h[ộo] chiếu|旅券|パスポート|여권|护照|護照|паспорт|διαβατ|جواز|דרכון|पासपोर्ट|หนังสือเดินทาง"
)

LICENCE = "|".join(
    (
        r"driv(?:er|ing)(?:['’]?s['’]?)?[ _-]*(?:licen[cs]e|lic\b|permit|id\b|card)|learner['’]?s? permit|"
        rf"licen[cs]e (?:is|{_NUMBER}|with (?:the )?{_NUMBER})|(?:my|his|her|their|your|the|dvla|dmv) licen[cs]e|"
        rf"\bd\.?l\.?[ _-]?{_NUMBER}|\bdl\b|licen[cs]e\b|provisional licen[cs]e|dvla (?:number|no\b)|\bdriverslicen[cs]e",
        r"f(?:ü|ue)hrerschein|fahrerlaubnis|permis\b|(?:mon|son|votre|ton|numéro (?:de|du)) permis|"
        r"(?:carn[eé]t?|permiso|licencia|registro|libreta) (?:de |para )?(?:conduc|manej)\w*|brevete|"
        r"patente\b|"
        r"rijbewijs|praw[oae]m? jazdy|carta de conduç|carta de condu|carteira (?:nacional )?de (?:motorista|habilita)|"
        r"habilitação|"
        r"\bcnh\b|körkort|kørekort|førerkort|ajokort|řidičsk|vodičsk|jogosítvány|vezetői|ehliyet|sürücü belgesi|"
        r"permis(?:ul)? de conducere|"
        r"運転免許|免許証|免許番号|운전 ?면허|면허증|(?:제|내|저의) 면허|驾驶证|駕駛證|驾照|駕照|驾驶执照|機動車駕駛|"
        r"водительск|посвідчення водія|δίπλωμα οδήγησης|رخصة القيادة|רישיון נהיגה|ड्राइविंग लाइसेंस|ใบขับขี่",
    )
)

ACCOUNT = "|".join(
    (
        r"account|acct|acc\b|a/c|sort code|bsb\b|direct deposit|checking|savings",
        r"konto|kto\b|kontonr|compte|rib\b|cuenta|ccc\b|clabe|cta\b|conto\b|c/c|rekening|rek\b|rachun|konta\b|kont[oau]m?\b|"
        r"conta\b|nib\b",
        r"účet|účtu|számlasz|hesap|lokasi rekening|tài khoản",
        r"口座|普通|当座|振込先|계좌|통장|账号|账户|帐号|帐户|帳號|帳戶|银行卡|銀行|счет|счёт|счета|λογαριασμ|חשבון|حساب|खाता",
    )
)

CARD = (
    r"card|cc\b|visa|master ?card|amex|american express|maestro|debit|credit|kreditkarte|karte\b|kartennummer|carte|tarjeta|"
    r"carta\b|kaart|kart[aęyą]\b|cartão|cartao|カード|카드|卡号|卡號|信用卡|银行卡|карт[аеуы]\b|kort\b|kortti|kartu\b|thẻ|कार्ड|"
    r"بطاقة"
)
