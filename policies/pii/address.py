"""Postal addresses of the countries that write one of eleven languages.

What lives here: their shapes in the Latin alphabet, and the words that are no street. What must never live here: those of
Chinese, Japanese and Korean addresses (``address_east.py``).

Three ways to be sure: a postcode where the country has it, a number beside a word for a street, or either in a looser
form after a word for an address. Postcodes, and how the lines of an address are ordered, are those of the Universal Postal
Union's addressing pages. Every repeat is bounded: an address holds at most ``worst_hold`` characters of a stream, and
a pattern begins with what prose has little of: a number before capital words, a word for a street, a capital word.
"""

from __future__ import annotations

import re

from policies.pii.address_east import DETECTOR as EAST
from policies.pii.entity import Entity, Reach, detector, near

__all__ = ["ENTITIES"]

# Letters. Upper case beyond Latin-1 alternates with lower case, so some lower case letters count as upper case.
_U = r"A-Z\x{c0}-\x{d6}\x{d8}-\x{de}\x{100}-\x{17f}"
_A = r"-A-Za-z\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{24f}'\x{2019}"
_END = r"A-Za-z\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{24f}"


def _word(longest: int) -> str:
    """A capital letter and letters; hyphens and apostrophes inside."""
    return rf"[{_U}](?:[{_A}]{{0,{longest - 2}}}[{_END}])?"


_W = rf"(?:{_word(16)}|[{_U}][A-Za-z]{{0,2}}\.)"
_BREAK = r"(?:,? ?\r?\n|,? ?\\n|, ?|,? - | )"
_LINE = r"(?:,? ?\r?\n|,? ?\\n|, ?| - )"  # a break that a blank alone does not make
# Small words inside names of streets and places.
_PART = (
    "(?:de la|de los|de las|del?|della|dei|degli|di|d[aou]s?|des|la|les?|los|las|sur|lès|en|et|e|y|i|van|von|der|den|am|im|bei|"
    "op|aan)"
)
_C = rf"(?:['\x{{2019}}][st][ -])?{_word(19)}"
_SAINT = r"(?:(?:Ste?|Sta|Mt|Ft|S)\.? )?"
_CITY = rf"{_SAINT}{_C}(?: (?:{_PART} )?{_word(14)}){{0,2}}"
_TOWN = rf"{_SAINT}{_word(20)}(?: {_word(16)}){{0,2}}"

# English: the number first.
_STATE = (
    "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|"
    "W[AIVY]|A[ESP]|AS|GU|M[HP]|FM|PW|VI)"
)
_PROVINCE = "(?:AB|BC|MB|N[BLSTU]|ON|PE|QC|SK|YT)"
_UK = r"[A-Z]{1,2}\d[A-Z0-9]? ?\d[A-Z]{2}"
_TERRITORY = "(?:NSW|VIC|QLD|TAS|SA|WA|NT|ACT)"
_BEFORE = (
    r"(?:(?:Flat|Studio|Unit|Apartment|Apt\.?|Suite|Level|Floor|Shop|Room|Block|Lot|Building) #?\d{1,4}[A-Za-z]?(?:,? ?\n|,? |/))"
)
_NUMBER = r"\d{1,5}(?:[A-Za-z]|[-/]\d{1,4}[A-Za-z]?)?"
_ORDINAL = r"\d{1,3}(?:st|nd|rd|th)"
_UNIT = r"(?:,? (?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Studio|Floor|Fl|Room|Rm)\.? #?|#)\w{1,5})?"
_NAME = rf"(?:[NS][EW] )?(?:{_W}|{_ORDINAL})(?: {_W}){{0,3}}"
_ENGLISH = (
    # Flat 3, 12 Oak Street, Springfield, IL 62704; Sydney NSW 2000; Toronto, ON M5V 2T6
    rf"{_BEFORE}?{_NUMBER}(?: |, ?|\n){_NAME}{_UNIT}{_BREAK}{_TOWN}"
    rf"(?:(?:, ?| ){_STATE},? ?\d{{5}}(?:-\d{{4}})?|{_BREAK}{_UK}|,? {_TERRITORY},? \d{{4}}|"
    rf",? (?:{_PROVINCE},? )?[A-Z]\d[A-Z] ?\d[A-Z]\d)",
    # Rose Cottage, Church Lane, Witney OX28 1AA: a name in the number's place; 4 High Street, Clifton, Bristol BS8 2LR
    rf"{_BEFORE}?(?:{_NUMBER} )?{_W}(?: {_W}){{0,2}}{_BREAK}(?:{_C}(?: {_C})?{_LINE})?{_TOWN}{_BREAK}{_UK}",
    # H.No. 12, Station Road, Nagpur-440001
    rf"(?:(?:H|House|Flat|Plot|Door|D)\.? ?No\.? ?)?\d{{1,4}}(?:/\d{{1,4}})?[A-Z]?(?:, ?|\n|,\n){_NAME}"
    rf"(?:{_LINE}{_W}(?: {_W})?)?(?:{_BREAK}{_W}(?: {_W})?)?(?: |-| - |, )\d{{6}}",
    # PSC 1234, Box 5678, APO AE 09012
    rf"(?:PSC|CMR|Unit|US(?:S|NS|CGC|NV)) (?:\d{{1,5}}|{_W}),?(?: Box \d{{1,5}})?{_BREAK}[AFD]PO,? A[AEP],? \d{{5}}",
)  # fmt: skip
_SAFE = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Drive|Lane|Ln|Court|Terrace|Parkway|Pkwy|Crescent|Cres|Highway|Hwy|Mews|"
    r"Turnpike|Expressway|Freeway)"
)
_LOOSE = (
    r"(?:Alley|Bend|Broadway|Circle|Cir|Close|Commons?|Cove|Crossing|Ct|Dr|Drive|Esplanade|Estates?|Garden|Gardens|Gate|Glen|Green|"
    r"Grove|Heights|Hill|Hills|Island|Junction|Loop|Marg|Nagar|Parade|Park|Path|Pike|Place|Pl|Plaza|Point|Quay|Ridge|Rise|Row|"
    r"Run|Square|Sq|Trail|View|Villas|Vista|Walk|Way|Wharf)"
)
_DIRECTION = "(?: (?:NE|NW|SE|SW|N|E|S|W|North|South|East|West))?"

# German, Dutch, Polish, and whoever puts a number behind the name.
_BEHIND = r"\d{1,4}(?: ?[a-zA-Z]|[-/] ?\d{1,4}[a-z]?)?(?:-[A-Za-z0-9]{1,3}| (?:bis|hs|m\. ?\d{1,3}))?"
_HOUSE = r"\d{1,4}(?:[a-zA-Z]|[-/]\d{1,4}[a-z]?)?(?:-[A-Za-z0-9]{1,3}| m\. ?\d{1,3})?"
_POLISH = "(?:[Uu]l\\.|[Uu]lic[ay]|[Aa]l\\.|[Aa]lej[ai]|[Pp]l\\.|[Pp]lacu?|[Oo]s\\.|[Oo]siedl[eu]|[Rr]ondo|[Ss]kwer|[Bb]ulwar)"
_KIND = (
    "(?:stra(?:ße|sse)|str\\.|gasse|allee|weg|platz|ring|ufer|damm|chaussee|steig|stieg|hof|park|graben|berg|markt|promenade|pfad|"
    "straat|laan|plein|gracht|kade|dreef|steeg|singel|pad|baan|boulevard|dijk|kaai|lei|vest|hoek|oord|wal)"
)
_CERTAIN = "(?:stra(?:ße|sse)|str\\.|gasse|allee|chaussee|straat|laan|gracht|kade|dreef|steeg|singel)"
_CERTAIN_WORD = "(?:Stra(?:ße|sse)|Str\\.|Gasse|Allee|Chaussee|Straat|Laan)"


def _compound(kinds: str) -> str:
    return rf"[{_U}][{_A}]{{1,24}}{kinds}"


_MIDDLE = (
    # Lindenstr. 12, 10969 Berlin; Grote Markt 5, 2011 RD Haarlem; ul. Polna 3/5, 00-625 Warszawa
    rf"(?:{_POLISH} ?)?(?:\d{{1,2}} )?{_W}(?:-{_W}| (?:{_PART} )?{_W}){{0,3}}\.? {_BEHIND}{_BREAK}"
    rf"(?:(?:D-)?\d{{5}} {_CITY}|[1-9]\d{{3}} ?[A-Z]{{2}}(?:{_BREAK}{_CITY})?|\d{{2}}-\d{{3}} {_CITY})",
    # Mariahilfer Straße 45, 1060 Wien; Wetstraat 16, 1000 Brussel
    rf"(?:{_W}[ -]){{0,2}}(?:{_compound(_KIND)}|Stra(?:ße|sse)|Str\.|Gasse|Allee|Platz|Weg|Ring|Laan|Plein) {_BEHIND}{_BREAK}"
    rf"(?:(?:A|CH|B)-)?[1-9]\d{{3}} {_CITY}",
)  # fmt: skip
_MIDDLE_STREETS = (
    rf"(?:{_compound(_CERTAIN)}|(?:[{_U}][{_A}]{{1,19}}[ -]){{1,2}}{_CERTAIN_WORD}) {_HOUSE}",
    rf"(?:[Uu]l\.|[Uu]lic[ay]|[Aa]l\.|[Aa]lej[ai]|[Pp]l\.|[Oo]s\.|[Oo]siedl[eu]) ?(?:\d{{1,2}} )?{_W}(?: {_W}){{0,3}} {_HOUSE}",
)  # fmt: skip

# French, Spanish, Italian, Portuguese: the word for the street first.
_FRENCH = r"[Rr]ue|[Aa]venue|[Bb]oulevard|[Bb]d|[Cc]hemin|[Aa]llée|[Ii]mpasse|[Qq]uai|[Rr]uelle"
_SURE_KINDS = (
    rf"{_FRENCH}|"
    r"[Cc]alle|[Cc]/|[Aa]venida|[Aa]vda\.?|[Aa]v\.|[Pp]aseo|[Pp]laza|[Pp]za\.|[Cc]arretera|[Cc]tra\.|[Cc]allejón|[Gg]lorieta|"
    r"[Vv]iale|[Pp]iazza|[Pp]\.za|[Pp]iazzale|[Cc]orso|[Vv]icolo|[Ll]ungomare|[Ll]ungotevere|"
    r"[Rr]ua|[Tt]ravessa|[Pp]raça|[Aa]lameda|[Rr]odovia"
)
_OTHER_KINDS = (
    r"[Pp]lace|[Rr]oute|[Cc]ours|[Ss]quare|[Pp]assage|[Ss]entier|[Ee]splanade|[Pp]romenade|[Rr]ésidence|[Vv]oie|[Ff]aubourg|"
    r"[Ll]otissement|Hameau|Montée|Cité|Rond-point|Traverse|Clos|C\.|Camino|Pasaje|Pasadizo|Travesía|Ronda|Rambla|Cuesta|"
    r"Urbanización|Vial|Vía|Privada|Cerrada|Circuito|Calzada|Boulevard|Blvd\.?|Prolongación|Ampliación|Continuación|Retorno|Andador|"
    r"Eje vial|Periférico|Circunvalación|Viaducto|Acceso|Diagonal|Barrio|Colonia|Polígono|Corredor|Cañada|Peatonal|Callejuela|"
    r"[Vv]ia|V\.le|C\.so|[Ll]argo|Strada|Contrada|Borgo|Rotonda|Salita|Galleria|Traversa|Frazione|Località|Circonvallazione|"
    r"Canale|Incrocio|Stretto|Campo|Calle|Fondamenta|Rione|R\.|Avenida|Estrada|Beco|Viela|Ladeira|Jardim|Parque|Praia|Morro|Vila|Vale|"
    r"Vereda|Travessia|Quadra|Conjunto|Condomínio|Residencial|Loteamento|Setor|Sítio|Fazenda|Chácara|Núcleo|Colônia|Distrito|"
    r"Estação|Aeroporto|Esplanada|Feira|Favela|Lago|Lagoa|Passarela|Pátio|Recanto|Trecho|Trevo|Viaduto|Área|Rotunda|Bairro|Azinhaga"
)
_V = rf"(?:{_word(13)}|[{_U}][A-Za-z]{{0,2}}\.)"
_LINK = rf"(?: (?:{_PART} |[dlDL]['\x{{2019}}])?|-)"
_STREET_NAME = rf" (?:{_PART} )?(?:[dlDL]['\x{{2019}}])?(?:\d{{1,2}} )?{_V}(?:{_LINK}{_V}){{0,2}}"
_PLACE = rf"{_word(18)}(?:'? (?:{_PART} )?{_word(12)}){{0,2}}"
_NO = r"(?:n[º°.]{1,2} ?|número )?"
_AFTER = rf"(?:,? {_NO}\d{{1,4}}(?:[/-]\d{{1,3}}| ?(?:bis|ter)|[A-Za-z]| [A-Z])?| s/n)"
_FLAT = (
    r"(?: \d{1,3}|,? (?:Piso|Puerta|Apt\.|Apto\.?|Ap\.|Interior|Int\.?|Appartamento|Piano|Interno|Scala|Bloco|bte) \d{1,4}|"
    r",? \d{1,2}[º°ª](?: ?[A-Za-z])?)? ?"
)
_BUILDING = r" Edif\. \d{1,4} ?, Depto\. \d{1,4}"
_RUN = rf"[{_U}][{_A} ]{{1,27}}"
_MEXICO = r"[A-Z](?:[A-Z]{1,4}|\. ?ROO)"
_UF = "(?:A[CLMP]|BA|CE|DF|ES|GO|M[AGST]|P[ABEIR]|R[JNORS]|S[CEP]|TO)"
_ROMANCE = (
    rf"(?:\d{{1,4}}(?: ?(?:bis|ter|[A-D]))?,? )?(?:{_SURE_KINDS}|{_OTHER_KINDS}){_STREET_NAME}(?:"
    # 12 bis, rue de la Paix, 75002 Paris
    rf"{_BREAK}(?:F-|B-|L-|CH-)?\d{{4,5}} {_PLACE}(?: CEDEX)?|"
    # Via Roma, 5, 00184 Roma (RM); Calle Mayor 3, 28013 Madrid; Rue de la Loi 16, 1000 Bruxelles; Rua Augusta 8, 1100-048 Lisboa
    rf"{_AFTER}{_FLAT}{_BREAK}(?:(?:[A-Z]{{1,2}}-)?\d{{4,5}},? {_PLACE}(?: \(?[A-Z]{{2}}\)?)?|\d{{4}}-\d{{3}} {_PLACE})|"
    # Calle Mayor 3, Madrid, 28013; Avenida Juárez 8 Edif. 2 , Depto. 5, Puebla, PUE 72000
    rf"{_AFTER}(?:{_FLAT}|{_BUILDING}){_BREAK}{_PLACE}(?: l[ao]s [a-z]{{4,6}})?, "
    rf"(?:{_MEXICO} )?(?:C\.?P\. ?)?\d{{5}}(?:-\d{{4}})?|"
    # Rua Sete, 12 - Centro, Campinas - SP, 13010-001; Travessa Sete, 12, Centro, 13010-001 Campinas / SP
    rf"{_AFTER}?{_FLAT}{_LINE}(?:[{_U}][{_A} \dªº]{{1,31}}{_LINE})?"
    rf"(?:(?:CEP:? ?)?\d{{5}}-?\d{{3}} (?:d[aeo]s? )?{_RUN} ?[/-] ?{_UF}|"
    rf"{_RUN}(?:, ?| ?[/-] ?){_UF},? (?:CEP:? )?\d{{5}}-\d{{3}}))",
)  # fmt: skip
_ROMANCE_STREETS = (
    rf"\d{{1,4}}(?: ?(?:bis|ter|quater|[A-D]))?,? (?:{_FRENCH}){_STREET_NAME}",
    rf"(?:{_SURE_KINDS}){_STREET_NAME}{_AFTER}{_FLAT}",
)  # fmt: skip

# The marks: what a match of the pattern cannot be without, as the prefilter sees it ("?" is any letter beyond ASCII).


def _seen(pattern: str) -> str:
    """Every letter beyond ASCII as the mark of it."""
    return re.sub(r"[^\x00-\x7f]", r"\\?", pattern)


_MARK_ENGLISH = (
    rf"[, ]{_STATE},? ?\d{{5}}|[ ,\nn]{_UK}|{_TERRITORY},? \d{{4}}|[ ,][A-Z]\d[A-Z] ?\d[A-Z]\d|"
    r"[A-Z?][A-Za-z?'-]*(?: |-| - |, )\d{6}|[AFD]PO,? A[AEP],? \d{5}"
)
_MARK_NUMBER = r"\d[A-Za-z]? (?:[A-Z?\d][^ \n]* ){1,4}"
_MARK_MIDDLE = (
    r"[A-Za-z?.'-] \d[\dA-Za-z/. -]{0,16}(?:,? ?\r?\n|,? ?\\n|, ?|,? - | )(?:[A-Z]{1,2}-)?"
    r"(?:\d{5} [A-Z?']|\d{4} ?[A-Z?']|\d\d-\d{3} [A-Z?'])"
)
_MARK_BEHIND = (
    rf"(?:{_seen(_CERTAIN)}|{_seen(_CERTAIN_WORD)}) \d|"
    r"\b(?:[Uu]l\.|[Uu]lic[ay]|[Aa]l\.|[Aa]lej[ai]|[Pp]l\.|[Oo]s\.|[Oo]siedl[eu]) ?(?:\d{1,2} )?(?:[A-Z?][^ \n]* ){1,4}\d"
)


def _mark_first(kinds: str) -> str:
    return (
        rf"\b(?:{_seen(kinds)}) (?:[a-z?]{{1,5}} ){{0,2}}(?:[dlDL]['?])?(?:\d{{1,2}} )?[A-Z?][^\d\n]*(?:\n[^\d\n]*){{0,3}}\d"
    )


# Words that stand before numbers and are no streets; the word for an address itself, which the value does not begin with.
_NO_STREET = re.compile(
    r"(?i)(?:jan(?:uary|uar|uari)?|feb(?:ruary|ruar|ruari)?|mar(?:ch)?|märz|maart|apr(?:il)?|may|mai|mei|june?|juni|july?|juli|"
    r"aug(?:ust|ustus)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?|"
    r"chapter|section|page|figure|fig|table|volume|vol|part|version|step|item|line|lines|row|article|note|appendix|exercise|lesson|"
    r"level|class|grade|day|week|month|year|group|team|room|order|invoice|ticket|account|id|ref|no|nr|tel|phone|fax|code|zip|plz|"
    r"kapitel|seite|abbildung|tabelle|band|teil|absatz|artikel|rechnung|bestellung|auftrag|kunde|konto|paragraph|"
    r"wohnort|wohnhaft|adresse|anschrift|address|adres|lieferadresse|wohnadresse|postanschrift|sitz|wohne|wohnt|woon|woont|"
    r"vivo|vive|vivimos|resido|reside|residente|domicilio|direcci[oó]n|abito|abita|indirizzo|moro|mora|morada|endereço|mieszkam|"
    r"windows|macos|ubuntu|android|ios|python|java|office|build|phase|stage|olympics)\b"
)
_YEAR_AS_POSTCODE = re.compile(r"(?:19|20)\d\d ?[A-Z]{2}(?![\w])")
_DUTCH = re.compile(r"(?i)(?:straat|laan|weg|plein|gracht|kade|dreef|steeg|singel|pad|hof|dijk|baan|ring|boulevard|markt) \d")
_OTHER_STREETS = re.compile(
    r"(?:Supreme|District|Federal|High|Tennis|Basketball|Appeals?|Food|County|Circuit|Crown|Squash) Court$|"
    r"(?:Google|Hard|Flash|Disk|USB|SSD|Test|Thumb|Tape|Pen|Warp|Hybrid) Drive$|"
    r"^(?:19|20)\d\d (?:Wall|Main|Sesame|Fleet|High|Bourbon) St(?:reet)?$|"
    r"^\d+ (?:\w+ )?(?:Silk|Rail|Off|Information) (?:Road|Highway)$"
)
_YEAR_LAST = re.compile(r" (?:19|20)\d\d ?$")
_NO_NAME = re.compile(r"(?:Hotel|Sackgasse|Einbahnstra(?:ße|sse)|Datenautobahn)\b")


def _numbered(value: str) -> bool:
    """The number is behind the name, the postcode behind it."""
    if _NO_STREET.match(value):
        return False
    return not _YEAR_AS_POSTCODE.search(value) or _DUTCH.search(value) is not None


def _english_street(value: str) -> bool:
    return _OTHER_STREETS.search(value) is None


def _named_street(value: str) -> bool:
    return not _YEAR_LAST.search(value) and not _NO_NAME.search(value) and not _NO_STREET.match(value)


_CUE = near(
    r"(?:home |postal |street |mailing |billing |shipping |delivery )?address(?:es)?|addr|lives? (?:at|on|in)|living (?:at|in)|"
    r"resid(?:es?|ing|ent|ence)|located|deliver(?:ed|y)?|ship(?:ped|ping)?|sent? to|moved (?:from|to)|mail(?:ed)? to|"
    r"adresse|anschrift|wohn(?:t|e|haft|ort)|lieferung|adres\b|woon|gevestigd|bezorg|mieszka|zamieszka|ulica|"
    r"habite|domicili|demeur|livr|direcci[oó]n|vivo|vive|reside|env[ií]|indirizzo|abit[oai]|via e numero|consegn|"
    r"endereço|morada|moro|mora\b|entreg",
    gap=32, unless=r"(?i)(?:\b(?:ip|mac|e-?mail|mail|web|wallet|bitcoin|btc|server|memory)[ _-]?|@)addr\w*\W*\Z",
)  # fmt: skip

_LOOSE_STREETS = (
    rf"{_BEFORE}?{_NUMBER},? (?:{_NAME}) {_LOOSE}{_DIRECTION}{_UNIT}",
    rf"(?:{_compound(_KIND)}|(?:[{_U}][{_A}]{{1,19}}[ -]){{1,2}}(?:Platz|Weg|Ring|Ufer|Damm|Hof|Plein|Markt)) {_HOUSE}",
    rf"(?:{_OTHER_KINDS}){_STREET_NAME}{_AFTER}{_FLAT}",
)  # fmt: skip

ENTITIES = (
    Entity(
        "postal_address", "ADDRESS", ("contact",),
        (
            EAST,
            detector("postal_address.1", _ENGLISH, 0.75, _MARK_ENGLISH, Reach.LONG),
            detector("postal_address.2", _MIDDLE, 0.75, _MARK_MIDDLE, Reach.LONG, validate=_numbered),
            detector("postal_address.3", _ROMANCE, 0.75, _mark_first(f"{_SURE_KINDS}|{_OTHER_KINDS}"), Reach.LONG),
            detector("postal_address.4", rf"{_BEFORE}?{_NUMBER} {_NAME} {_SAFE}{_DIRECTION}{_UNIT}", 0.6, _MARK_NUMBER + _SAFE,
                     Reach.LONG, validate=_english_street),
            detector("postal_address.6", _MIDDLE_STREETS + _ROMANCE_STREETS, 0.6,
                     f"{_MARK_BEHIND}|\\d(?: ?(?:bis|ter|quater|[A-D]))?,? (?:{_seen(_FRENCH)}) |{_mark_first(_SURE_KINDS)}",
                     Reach.LONG, validate=_named_street),
            detector("postal_address.7", _LOOSE_STREETS, 0.65,
                     f"{_MARK_NUMBER}{_LOOSE}|(?:{_seen(_KIND)}|Platz|Weg|Ring|Ufer|Damm|Hof|Plein|Markt) \\d|"
                     + _mark_first(_OTHER_KINDS), Reach.LONG, validate=_named_street, context=_CUE),
        ),
        "Postal address, as written in the countries of eleven languages",
        "place and postcode; or a number beside a word for a street",
    ),
)  # fmt: skip
