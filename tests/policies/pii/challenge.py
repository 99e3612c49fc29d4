"""Sentences as people write them, in many languages: value in guillemets, and what it is. ``id`` is any of the national
ids, whatever its check digit. All values are made up.

What lives here: the sentences. What must never live here: checks.
"""

from __future__ import annotations

__all__ = ["DECOYS", "VALUES"]

_PHONE = """
Could you text me at «(312) 555-0148» once you land?
My mobile has changed, it's «07911 123456» from now on.
Give her a ring on «0161 496 0753» after six.
Sales desk: «1-800-555-0199», open all week.
You can reach me on «+1 (604) 555-0171» until Friday.
cell: «6175550123»
ph. «02 9876 5432 ext 4»
Call «212-555-0147» or «646-555-0182» for the keys.
Please call back on this number: «0117 496 0321».
{"customer":{"mobile_no":"«9876543210»","plan":"gold"}}
{"contactPhone": "«555-867-5309»"}
<phone>«503-555-0116»</phone>
tel:«+15035550116»
INSERT INTO staff (name, phone) VALUES ('Ada', '«(503) 555-0116»');
phone=«020 7946 0018»&lang=en
WhatsApp me: «+91 98200 12345»
Our fax is «(02) 9374 4000», the landline «(02) 9374 4001».
reach out to Tom at «415.555.0134» x
**Phone:** «202-555-0191»
| Phone | «202-555-0191» |
my number at work is «0131 496 0888»
Meine Handynummer ist «0151 23456789», ruf einfach an.
Sie erreichen uns unter «089 / 12 34 56 78».
Bitte um Rückruf: «030-90182055»
Tel.: «0221 4710815», Fax: «0221 4710816»
Mein Diensthandy: «0171/5550123»
Festnetz «040 5550 1234»
Ihr könnt mich auch auf dem Handy anrufen, «01761234567».
Je suis joignable au «06 12 34 56 78» toute la journée.
Mon portable : «07.81.23.45.67»
Tél. «01 44 55 66 77»
Appelez-moi au «+33 6 45 67 89 01» svp
Le numéro de téléphone du cabinet est le «04 91 23 45 67».
Merci de me rappeler au «0612345678».
Mi móvil es «612 345 678», llámame cuando quieras.
Puedes llamarme al «+34 655 123 987».
Teléfono de contacto: «91 123 45 67»
mi número es «644102938»
Mi celular es el «55 1234 5678».
Il mio cellulare è «347 123 4567».
Chiamami al «+39 333 7654321» dopo le otto
Potete contattarci al numero «02 1234 5678».
Recapito telefonico: «3331234567»
Mijn mobiele nummer is «06 12345678».
Bel me even op «06-12345678»
Wij zijn bereikbaar op «020 123 4567».
Mój numer telefonu to «601 234 567».
Zadzwoń pod «22 123 45 67» przed południem
kom. «+48 512 345 678»
Proszę o kontakt pod numerem «512-345-678».
O meu telemóvel é o «912 345 678».
Me liga no «(11) 98765-4321», por favor
Telefone: «21 3456-7890»
meu whats é «11987654321»
私の携帯番号は«090-1234-5678»です。
連絡先：«03-1234-5678»
お問い合わせは«0120-123-456»まで。
会社の電話は«06-6123-4567»、内線は使えません
제 휴대폰 번호는 «010-2345-6789»입니다.
연락처: «02-345-6789»
문의는 «031-123-4567»로 주세요
급하면 «010 9876 5432»로 전화해 줘
我的手机号码是«138 0013 8000»。
请拨打«010-62781234»联系前台
联系电话：«13912345678»
有事打我«15800001111»
Ring mig på «070-123 45 67».
Puhelin: «040 123 4567»
Мой телефон «8 912 345-67-89»
Cep telefonum «0532 123 45 67»
अपना मोबाइल «98765 43210»
The clinic (0044 20 7946 0991?) said: dial «0044 20 7946 0991»
You can get hold of me on «0845 046 0121».
If anything comes up just shoot a text to «(718) 555-0155»
Mobile no. «07700 900123»
Emergency contact: Dave «0141 496 0777»
contact number - «9988776655»
Customer rang from «01632 960999» about the bill
cell phone number ending... full is «917 555 0133»
Meine Nummer: «0176 98765432»
Falls was ist: «0170-5551234»
unter der Telefonnummer «06221 123456» erreichbar
Du kannst mir unter «0157 33344455» schreiben
Mon numéro : «06.11.22.33.44»
Contactez le secrétariat au «05 61 00 00 01»
N° de tél : «0145678901»
Mándame un WhatsApp al «699 112 233»
Tlf: «934 567 890»
El número de teléfono de la oficina es el «955123456».
Il mio numero è «340 9876543»
Per informazioni telefonare allo «06 69812345»
numero di telefono: «055 2345678»
Mijn telefoonnummer is «0612345678»
U kunt ons bellen op «030 2345678»
Tel. kom.: «605 123 456»
proszę dzwonić na numer «695-111-222»
Podaję numer telefonu: «58 301 23 45»
O meu contacto é «936 543 210»
Pode ligar para «(21) 2345-6789»
número de telefone «213456789»
電話番号は«075-123-4567»です
ご連絡は«080-1111-2222»までお願いします
携帯：«07012345678»
제 전화번호는 «01022223333» 입니다
«010-5555-1234» 로 문자 주세요
电话是«0755-26001234»
请联系我：«186 1234 5678»
我的电话«13700001234»，随时找我
"""

_LICENCE = """
My driver's license number is «D1234567».
DL No: «S530-4607-9012»
driver’s licence: «MORGA753116SM9IJ»
Driver License «F255-921-50-094-0» issued in Florida
DL#: «A1234567»
{"driver_license": "«K78654321»"}
drivers_license=«N04567890»;
licence number «WILLI807065W97YZ» please
his driving licence no. is «JONES 710238 HA8AB»
my license number is «d7654321»
holds licence «C4527093» since 2011
DL «C4527093»
Meine Führerscheinnummer lautet «B072RRE2I55».
Führerschein: «J010000SD51»
Mon permis de conduire porte le numéro «12AA34567».
numéro de permis : «880692310285»
Mi carnet de conducir es el «12345678Z».
Licencia de conducir n.º «987654321»
La mia patente è «U1A23B456C».
Patente di guida n. «MI1234567X»
Mijn rijbewijsnummer is «5203416789».
Numer prawa jazdy: «01234/12/3456»
Prawo jazdy nr «00123/19/1465»
Carta de condução n.º «L-1234567»
CNH «01234567890» do motorista
運転免許証の番号は«305012345670»です。
運転免許：«621801234560»
운전면허번호 «11-02-123456-78»
제 면허번호는 «13-15-654321-20»입니다
驾驶证号：«320106198702145678»
我的驾照号码是«440301199003071234»
körkort «850709-9805» saknas
Driving licence: «SMITH706205J99AB»
The licence I hold is «D4409912»
Führerschein-Nr. «N0704578K12»
Führerscheinnr.: «F0100LQUH19»
Le numéro de mon permis de conduire est «13AB45678»
Mi licencia de conducir es «B12345678»
numero patente «FI5432109K»
Rijbewijs: «4728193650»
Nr prawa jazdy «02345/18/0412»
Carta de condução: «P-876543»
運転免許証番号 «440912345671»
운전면허 «21-07-123456-30»
驾照号 «310101198801011234»
"""

_PASSPORT = """
Passport no. «C01X00T47»
my passport: «533380006», expires next May
passport_number: "«X1234567»"
US passport «A12345678» for the visa form
Reisepassnummer «C22990047» liegt bei
Mein Pass: Reisepass Nr. «CH4567890»
Numéro de passeport : «12AB34567»
Mi pasaporte es «XDA123456».
Il mio passaporto è «YA1234567»
Paspoortnummer «NX12B3456»
Numer paszportu «EH1234567»
O número do meu passaporte é «CA123456».
パスポート番号は«TK1234567»です
여권번호: «M12345678»
我的护照号是«E12345678»。
паспорт «45 08 123456»
Passport: «HK1234567»
Reisepass «C4VPH2KL3»
passeport n° «15CV98765»
pasaporte nº «PAB987654»
passaporto n. «AA7654321»
paspoort «BX71C9K45»
paszport nr «AN7654321»
護照號碼 «312345678»
"""

_ID = """
My SSN is «512-44-9087»
social security: «512449087»
National ID: «784198012345671»
NI number «QQ 12 34 56 C»
her national insurance no is «JG103759A»
ID card number «AB1234567»
Steuer-ID: «12 345 678 901»
Meine Steueridentifikationsnummer lautet «86095742719».
Personalausweis Nr. «T220001293»
Sozialversicherungsnummer: «65 150870 M 009»
Mon numéro de sécu est «1 84 12 76 451 089 46».
n° de sécurité sociale «184127645108946»
Carte d'identité n° «880692310285»
Mi DNI es el «12345678A».
NIE: «X1234567A»
Número de la Seguridad Social «281234567840»
Il mio codice fiscale è «RSSMRA85T10A562S».
C.F. «VRDGPP13R10B293P»
Carta d'identità «CA12345AB»
Mijn burgerservicenummer is «123456782».
BSN: «987654321»
Mój PESEL: «44051401458»
numer dowodu osobistego «ABC123456»
PESEL mojej córki to «12270512345», a mój nie
Meu CPF é «123.456.789-10».
CPF: «12345678910»
RG «12.345.678-9»
O meu NIF é «123456789»
私のマイナンバーは«123456789018»です。
マイナンバー：«1234 5678 9012»
주민번호는 «880101-1234567»이에요
제 주민등록번호 «8801011234567»
我的身份证号码是«11010119900307123X»。
身份证：«440308199901011234»
Aadhaar number is «2345 6789 0123»
SIN: «123 456 789»
my TFN is «123 456 789»
{"national_id": "«199003071234»"}
T.C. kimlik no «12345678901»
personnummer «19850709-9805»
Social Security Number is «219-09-1234»
NINO: «PW 48 10 55 A»
my national identification number is «8501234567»
Ausweis-Nr.: «LZ6311T47»
Steuernummer «93815/08152»
mein Steuer-ID ist die «47036892816»
Sécurité sociale : «2 69 05 49 588 157 80»
Mon numéro d'identité nationale est «850612345678»
DNI: «45678901-B»
NIE «Y-7654321-K»
CF: «BNCLRA92A41F205X»
BSN «111222334»
mój numer PESEL to «92010112345»
dowód osobisty nr «CBA 654321»
CPF nº «987.654.321-99»
Cartão de Cidadão «12345678 9 ZZ4»
個人番号は«9876 5432 1098»
주민등록번호는 «920101-2345678»입니다
身份证号 «31010419870605432x»
"""

_PASSWORD = """
password: «Tr0ub4dor&3»
The password is «hunter2hunter2».
my password for the portal is «Blu3Moon!77»
pw «xK9#mQ2$vL»
pwd=«S3cur3Pa55» next
PGPASSWORD=«n0tR3al!x»
DB_PASSWORD="«correcthorse9battery»"
password: '«Welc0me2024!»'
"password": "«aP$$w0rdX9»"
"db_password" : "«zX81_spectrum!»"
<password>«Qwe!23rty»</password>
mysql -u root -p «L0calRoot!9»
mysqldump --password=«Dump#2024x» shop
ALTER USER bob IDENTIFIED BY '«B0b!sSecret9»';
Server=db;Uid=sa;Pwd=«Sql!Srv2019»;
https://shop.example/login?user=bob&password=«Hx82kLm4Qs»
Log in as jane with password «Summer#2031» please
Credentials: jane / «Wint3r!sComing»
curl -u admin:«S3cr3tPwd!» https://api.example/x
the wifi password was changed to «BlueHouse#42»
My password's «gR8dayz!!» btw
Passwort: «Sommer2024!»
Mein Passwort lautet «Katze#12Hund».
Das Kennwort für den Server ist «Xy7!aBcD».
Zugangsdaten: mueller / «Ab12!cdEf»
Mot de passe : «Azerty!2345»
mon mot de passe est «Soleil#98»
le mot de passe du wifi est «Chat0noir!»
mdp: «Lune+Bleue7»
Contraseña: «M4drid!2023»
mi contraseña es «Perr0Verde#1».
La clave de acceso al portal es «Sol$yLuna88»
La mia password è «Gatt0Nero!9»
password di accesso: «Roma#2024xx»
Wachtwoord: «Fiets!2024x»
mijn wachtwoord is «Kaas&Brood7»
Hasło: «Zima!2024xx»
Moje hasło to «Kot3k#Bury»
Hasło do panelu: «Wisla&1906x»
Senha: «Futebol#2024»
minha senha é «C4fezinho!9»
A palavra-passe do portal é «Lisboa!1755»
パスワードは「«Sakura#2024»」です。
パスワード：«Fuji!san3776»
비밀번호는 «Seoul!2024x»입니다.
비밀번호: «Kimchi#99ab»
密码是«Beijing#2008»
密码：«Shang!hai88»
пароль: «Moskva!1147»
lösenord: «Fika&Kaffe9»
PASSWORD=«qX7$mm2kL»
passwd: «Rover!1999»
New password - «Tulip*2025»
temporary password: «Tmp-83hd!kQ»
use password «Xk29!pLm» for the vpn
the admin password for db01 is «r00t!Adm1n»
set the password to «G0ldfish#3»
Das WLAN-Passwort ist «Kartoffel77!»
Neues Passwort: «Berg&Tal2024»
Le mot de passe de mon compte : «Fleur#Bleue1»
Mi clave es «Luna!2025x»
la contraseña del correo es «Pepe$2020»
La password del wifi è «Vesuvio!79»
het wachtwoord voor de vpn is «Tulp@2023x»
hasło do wifi: «Smok&Wawel1»
a senha do wifi é «Praia@Rio22»
ログインパスワードは «Neko!Inu55» です
와이파이 비밀번호는 «Hangang7&x» 예요
wifi密码是 «Long&Feng8»
password => '«aB3$efgh»'
"pass": "«Zz9!yyXx»",
--password «Kubernetes4Ever!»
user: bob, password: «Bob4Ever!»
login bob / «Bob4Ever!»
I changed my password from «OldOne!77» today
"""

_SECRET = """
webhook secret: «9f86d081884c7d659a2feaa0c55ad015»
X-Api-Key: «k3yF9s8Lq2Wm7Zt4Xc1V»
client_secret=«pQ7rT2vX9zB4nM6kL8jH»
signing key is «4e07408562bedb8b60ce05c1decfe3ad»
Authorization: Bearer «ya3Kd92jsLQ0pzX81mNvB7»
"access_token":"«b6d767d2f8ed5d21a44b0e5886680cb9»"
Mein API-Schlüssel: «7Hq2Lw9Zx4Vb8Nm3Kc6P»
clé API : «7Hq2Lw9Zx4Vb8Nm3Kc6P»
APIキーは「«7Hq2Lw9Zx4Vb8Nm3Kc6P»」です
密钥：«7Hq2Lw9Zx4Vb8Nm3Kc6P»
"""

_IP = """
ping «203.0.113.77» three times
The host «10.2.33.4» is down again
ssh root@«198.51.100.23»
IP: «4.8.21.3»
Login from «2.3.4.5» was blocked
"client_ip": "«185.220.101.4»"
nameserver «1.1.1.1»
Der Server hat die Adresse «192.168.178.20».
L'adresse IP est «81.2.69.142»
La dirección IP es «5.6.7.8»
L'indirizzo «151.100.4.13» non risponde
サーバーのIPアドレスは«10.1.2.30»です
서버 주소는 «172.30.1.5»입니다
服务器地址是«47.95.10.3»
http://«3.7.11.19»:8080/health
upgraded the host «10.4.5.6» to the new version
hosts «5.9.12.30», «5.9.12.31» and «5.9.12.32»
10:02:11 refused «91.198.174.192» again
connected to 10.0.0.4? no: host «10.0.0.4»
Ich kann «217.160.0.87» nicht erreichen
the box at «10.20.30.40» keeps rebooting
src=«6.7.8.9» dst=«9.8.7.6»
"""

_CARD = """
Visa «4539 1488 0343 6467»
my card number is «5425233430109903», expiring 04/29
Kreditkarte: «3714 496353 98431»
cartão «6011 0009 9013 9424»
カード番号は«3530111333300000»です
卡号：«6222021234567890128»
Maestro card «676770987656»
"""

_ACCOUNT = """
account no. «72619384» at the High Street branch
sort code 20-00-00, account «55779911»
Kontonummer: «532013000»
Numéro de compte «00012345678»
cuenta bancaria «0200051332»
rekeningnummer «417164300»
口座番号は«1234567»です
계좌번호 «110-123-456789»
银行账号：«6217000010012345»
a/c «5031234567»
my acct number is «503123456789» (checking)
Konto nr «12 1020 1026 0000 0422 7020 1111»
número da conta: «0012345-6»
my bank account is «000123456789»
Konto «1234567890»
n° de compte : «12345678901»
número de cuenta «1234567890»
numero di conto «000000123456»
普通預金 «7654321»
계좌 «3333-01-1234567»
账户 «6228480402564890»
"""


def _read(kind: str, text: str) -> list[tuple[str, str]]:
    return [(kind, line) for line in text.strip().splitlines()]


VALUES: list[tuple[str, str]] = [
    *_read("phone", _PHONE),
    *_read("driver_licence", _LICENCE),
    *_read("passport", _PASSPORT),
    *_read("id", _ID),
    *_read("password", _PASSWORD),
    *_read("generic_secret", _SECRET),
    *_read("ipv4", _IP),
    *_read("credit_card", _CARD),
    *_read("bank_account", _ACCOUNT),
]
"""Type and sentence."""

_NOTHING = r"""
Your order number is 4155552671, thanks.
Call us about order 20391847 before noon.
Please contact support regarding ticket 48213377.
Invoice no. 2024001187 is overdue.
Tracking number: 1234567890123
Numéro de commande : 482913377
número de pedido 91827364
Bestellnummer 48213377 ist unterwegs
Ihre Kundennummer lautet 77123409.
Rechnung Nr. 20240119 vom 3. Mai
numero d'ordine 55512340
ordernummer 20481937
numer zamówienia 77120934
número da encomenda 55120934
注文番号は1234567890です。
주문번호는 2024051700123 입니다.
订单号码是20240517001234
快递单号：7312345678901
We reached 10 000 000 users last year.
The call took 35838 ms.
Call me on 2024-05-12 at 10:30.
We called on 20240512.
ISBN 978-3-16-148410-0
ISBN: 0306406152
Price: 1.234.567,00 EUR
1,234,567.89
rows 1200-1450 of 98000000
at 2024-04-23T10:15:30.123456Z
epoch 1713867330 and 1713867330123
commit 9fceb02d0ae598e95dc970b74767f19372d61af8
uuid 550e8400-e29b-41d4-a716-446655440000
md5 9e107d9d372bb6826bd81d3542a419d6
lat 52.5200066, lon 13.4049540
page 12345678 of the archive
The ring was sold for 4500000.
signal strength of -87.1234567 dB
version 4.12.3.1 is out
running nginx 1.25.3.1 in the cluster
Chrome/31.0.12.4 on Linux
Fassung 3.2.1.4 vom Mai
Version 12.4.0.33 installieren
la versión 2.3.4.1 corrige el fallo
la version 2.3.4.1 corrige le bogue
versione 5.1.0.22
wersja 4.3.2.1 jest gotowa
versão 7.1.2.3 disponível
versie 3.3.1.7
バージョン12.3.4.5をインストール
版本 4.2.1.19 已发布
버전 3.1.4.15 출시
firmware 1.0.9.128 for the router
driver 27.20.100.12 crashed
"app_version": "10.3.22.5"
"version":"1.44.200.7"
pip install foo==1.2.3.4
lib-1.2.3.4.jar is on the class path
app:1.4.200.9
see section 4.1.2.3 for details
siehe Abschnitt 3.2.1.1
clause 10.2.1.4 applies
upgrade from 2.4.12.1 to 2.4.13.0
we bumped it to 5.6.7.8 yesterday
Oracle 19.3.0.0 and SQL 11.0.2.1
bind9 9.18.24.1
v1.2.3.4
OID 1.3.6.1
nuget Foo.Bar 6.12.0.3
password is required
The password must be changed every 90 days.
password must be at least 8 characters
mot de passe oublié
Passwort vergessen?
contraseña incorrecta
パスワードを忘れた場合
비밀번호를 잊으셨나요?
密码错误，请重试
password: ********
password: <your-password>
password = ${DB_PASSWORD}
password=os.environ["DB_PASSWORD"]
password = getpass.getpass()
password: "{{ vault_db_password }}"
password: string
password: Optional[str] = None
const password = req.body.password;
password_hash = sha256(password1)
The password is base64-encoded and SHA-256 hashed.
passwords are 12-character strings
the passport office opened in 1998
passport renewal takes 6 weeks
passport expires 20290101
the driver crashed with error 0x80070005
MIT License 2024-2031
license key required
Windows licence XKCD-1234 is volume
licence plate B-AB 1234
driver update KB5034441
software license number 12345678
the national identity of 19th century Poland
ID 4
id: 8812
request id 1234567890
product id number 12345678
What is 4539148803436466 minus one, and 4539 1488 0343 6468?
SKU 676770987656
account holder Jane, opened in 2014
account manager since 20140301
bank holiday 25 December 2024
token count: 4096
max_tokens=128000
secret santa on 2024-12-20
the key takeaway is simple
primary key: customer_order_line_id
cache key user-profile-settings-page
My order is 07700900123X
PO: 4155552671
Bestellung 0176987654
version 10.0.0.4
release 8.8.8.8
Version: 192.168.1.1.2
Die Version ist 4.5.6.7
Build-Nummer 12.1.3.4
"version": "31.44.2.7"
image: postgres:14.2.1.3
requires libfoo >= 1.2.3.4
Released 5.4.3.2 today
the app (12.4.55.3) crashed
patient was seen 3 times
my password is secret
password: see the vault
password manager of 2024
Your password will expire in 30days
password reset link: https://x.example/reset?u=1
wachtwoord vergeten
hasło wygasło
password must contain A-Z, a-z and 0-9
if password == "": return
password = args.password or ENV["P2"]
permis de construire 12345678
the licence was granted in 1998
Driver 1 finished in 1:23.456
passport photo 35x45mm
identity matrix 4x4
account 42
accounts payable 1,234,567
call stack 0x7fff5fbff8a0
call sub_401000 at 00401000
reach level 9999999
my password is [PASSWORD_1]
password: <PASSWORD_1>
call [PHONE_1] or [PHONE_2B]
string password = textBox2.Text;
pwd VARCHAR(256) NOT NULL
"""

DECOYS: list[str] = _NOTHING.strip().splitlines()
"""Sentences in which nothing is to be found."""
