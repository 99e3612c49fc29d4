"""Forms: what is read, what is not, and that writing changes one field and no other byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import forms, jsonio
from proxy.dialects import DIALECTS

TYPE = b"multipart/form-data; boundary=XyZ"
AUDIO = b"RIFF\x00\x01\r\n\r\n\xff\xfe--XyZ-- \r\n--Xy\r\n\n-"


def part(head: bytes, content: bytes, boundary: bytes = b"XyZ") -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, content)


def field(name: str, content: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="%b"' % name.encode(), content)


FILE = part(b'Content-Disposition: form-data; name="file"; filename="a b.wav"\r\nContent-Type: audio/wav', AUDIO)
END = b"--XyZ--\r\n"
BODY = field("model", b"7") + FILE + field("prompt", "Grüße an ann".encode()) + field("temperature", b"0.50") + END


def doc_of(body: bytes, kind: bytes = TYPE) -> dict[str, Any]:
    form = forms.read(body, kind)
    assert form.encode(form.doc) is None
    return form.doc


def test_a_form_as_policies_see_it() -> None:
    doc = doc_of(BODY)
    assert doc == {
        "model": "7",
        "file": {"filename": "a b.wav", "content_type": "audio/wav", "size": len(AUDIO)},
        "prompt": "Grüße an ann",
        "temperature": 0.5,
    }
    assert isinstance(doc["temperature"], jsonio.Number) and doc["temperature"].text == "0.50"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"", ""), (b"true", True), (b"false", False), (b"True", "True"), (b"null", "null"), (b"0", 0), (b"-1", -1),
        (b"007", "007"), (b"+1", "+1"), (b" 1", " 1"), (b"1\r\n", "1\r\n"), (b"1e3", 1000.0), (b"NaN", "NaN"), (b"1.", "1."),
        (b"4111111111111111", 4111111111111111), (b"9" * 5000, "9" * 5000), (b"[1]", "[1]"), (b"1_0", "1_0"),
    ],
)  # fmt: skip
def test_fields_that_json_would_write_alike_are_numbers_and_booleans(sent: bytes, seen: Any) -> None:
    doc = doc_of(field("x", sent) + END)
    assert doc == {"x": seen} and type(doc["x"]) in (type(seen), jsonio.Number)


def test_a_name_that_comes_twice_is_a_list() -> None:
    doc = doc_of(field("g[]", b"word") + field("x", b"1") + field("g[]", b"segment") + END)
    assert doc == {"g[]": ["word", "segment"], "x": 1}


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (b"multipart/form-data; boundary=XyZ", b"XyZ"),
        (b'multipart/form-data; boundary="XyZ"', b"XyZ"),
        (b"Multipart/Form-Data ;  BOUNDARY=XyZ", b"XyZ"),
        (b"multipart/form-data; charset=utf-8; boundary=XyZ", b"XyZ"),
        (b'multipart/form-data; charset="UTF-8"; boundary=XyZ;', b"XyZ"),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", b"----WebKitFormBoundary7MA4YWxkTrZu0gW"),
        (b'multipart/form-data; boundary="a b=c:/?(d),\'"', b"a b=c:/?(d),'"),
        (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
    ],
)  # fmt: skip
def test_boundaries(kind: bytes, boundary: bytes) -> None:
    assert forms.boundary_of(kind) == boundary
    head = b'Content-Disposition: form-data; name="p"'
    body = part(head, b"--" + boundary[:-1], boundary) + b"--" + boundary + b"--"
    assert doc_of(body, kind) == {"p": "--" + boundary[:-1].decode()}


@pytest.mark.parametrize(
    "kind",
    [
        b"", b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary=a; Boundary=a",
        b"multipart/form-data; boundary=a\x00", b"multipart/form-data; boundary=\xff", b'multipart/form-data; boundary="a',
        b'multipart/form-data; boundary="a "', b"multipart/form-data; boundary=" + b"x" * 71, b"multipart/mixed; boundary=XyZ",
        b"multipart/form-data; boundary*=utf-8''a", b"multipart/form-data; boundary=a b", b"multipart/form-data, boundary=a",
        b"multipart/form-data; charset=utf-16; boundary=XyZ", b'multipart/form-data; boundary="a\\"b"', b"\xff; boundary=XyZ",
    ],
)  # fmt: skip
def test_content_types_without_one_plain_boundary(kind: bytes) -> None:
    with pytest.raises(forms.NotAForm):
        forms.read(BODY, kind)


GOOD = {
    "a preamble": b"This is a form.\r\n" + BODY,
    "an empty line first": b"\r\n" + BODY,
    "an epilogue": BODY + b"and so on\r\n",
    "no line end at the end": BODY[:-2],
    "the boundary inside a line": field("prompt", b"see --XyZ-- there") + END,
    "only a file": FILE + END,
    "text/plain": part(b'Content-Disposition: form-data; name="p"\r\nContent-Type: text/plain; charset=UTF-8', b"x") + END,
    "json": part(b'Content-Disposition: form-data; name="p"\r\nContent-Type: application/json', b"{}") + END,
    "other fields": part(b'X-Y: z\r\ncontent-disposition:form-data;name=p\r\nContent-Length: 1', b"x") + END,
    "a harmless encoding": part(b'Content-Disposition: form-data; name="p"\r\nContent-Transfer-Encoding: 8bit', b"x") + END,
    "no file chosen": part(b'Content-Disposition: form-data; name="f"; filename=""', b"") + END,
    "an empty field": field("p", b"") + END,
    "utf-8 said": field("_charset_", b"utf-8") + field("p", b"x") + END,
}  # fmt: skip


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_what_is_read(body: bytes) -> None:
    doc_of(body)


def disposition(value: bytes) -> bytes:
    return part(b"Content-Disposition: " + value, b"x") + END


BAD = {
    "nothing": b"",
    "no boundary": b"hello",
    "no last boundary": BODY[: -len(END)],
    "cut in the last boundary": BODY[:-4],
    "cut in a head": BODY[:30],
    "only the last boundary": END,
    "another boundary": BODY.replace(b"XyZ", b"XyQ"),
    "a longer boundary": BODY.replace(b"--XyZ\r\n", b"--XyZZ\r\n"),
    "a padded boundary": BODY.replace(b"--XyZ\r\n", b"--XyZ \r\n"),
    "a padded last boundary": BODY[:-2] + b" \r\n",
    "LF lines": BODY.replace(b"\r\n", b"\n"),
    "a boundary after LF": FILE + field("prompt", b"x\n--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\ny") + END,
    "a boundary after CR": FILE + field("prompt", b"x\r--XyZ\r\nContent-Disposition: form-data; name=a\r\n\r\ny") + END,
    "a line that begins like it": field("prompt", b"x\r\n--XyZab") + END,
    "parts after the end": BODY + field("prompt", b"more") + END,
    "something behind the end": BODY[:-2] + b"x\r\n",
    "no head": b"--XyZ\r\n\r\nx\r\n" + END,
    "no blank line": b'--XyZ\r\nContent-Disposition: form-data; name="p"\r\n' + END,
    "no content": b'--XyZ\r\nContent-Disposition: form-data; name="p"\r\n\r\n' + END,
    "a long head": part(b'Content-Disposition: form-data; name="p"\r\nX: ' + b"x" * 9000, b"x") + END,
    "a folded head": part(b'Content-Disposition: form-data;\r\n name="p"', b"x") + END,
    "a bare LF in a head": part(b'Content-Disposition: form-data; name="p"\nX: y', b"x") + END,
    "NUL in a head": part(b'Content-Disposition: form-data; name="p\x00"', b"x") + END,
    "a blank before the colon": part(b'Content-Disposition : form-data; name="p"', b"x") + END,
    "a head field twice": part(b'Content-Disposition: form-data; name="p"\r\n' * 2 + b"X: y", b"x") + END,
    "no disposition": part(b"Content-Type: text/plain", b"x") + END,
    "an attachment": disposition(b'attachment; name="p"'),
    "no name": disposition(b"form-data"),
    "two names": disposition(b'form-data; name="p"; name="q"'),
    "a name in another encoding": disposition(b"form-data; name*=utf-8''p"),
    "two file names": disposition(b"form-data; name=p; filename=a; filename*=utf-8''b"),
    "an escaped quote": disposition(b'form-data; name="p\\"; filename=\\"x"'),
    "a semicolon in a name": disposition(b'form-data; name="p; name=q"'),
    "a semicolon in a file name": disposition(b'form-data; name="f"; filename="x; name=p"'),
    "a backslash in a name": disposition(b'form-data; name="p\\q"'),
    "a windows path": disposition(b'form-data; name="f"; filename="C:\\x\\y.wav"'),
    "a backslash at the end": disposition(b'form-data; name="p\\"'),
    "an open quote": disposition(b'form-data; name="p'),
    "junk behind the name": disposition(b'form-data; name="p"x'),
    "a name that is not UTF-8": disposition(b'form-data; name="\xff"'),
    "base64": part(b'Content-Disposition: form-data; name="p"\r\nContent-Transfer-Encoding: base64', b"eA==") + END,
    "quoted-printable": part(b'Content-Disposition: form-data; name="p"\r\nContent-Transfer-Encoding: Quoted-Printable',
                             b"=78") + END,
    "another charset": part(b'Content-Disposition: form-data; name="p"\r\nContent-Type: text/plain; charset=utf-7', b"x") + END,
    "another charset for all": field("_charset_", b"iso-8859-1") + field("p", b"x") + END,
    "not UTF-8": field("p", b"\xff") + END,
    "parts in a part": part(b'Content-Disposition: form-data; name="f"\r\nContent-Type: multipart/mixed; boundary=q', b"") + END,
    "a thousand and one parts": field("p", b"") * 1001 + END,
}  # fmt: skip


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_what_is_not_read(body: bytes) -> None:
    with pytest.raises(forms.NotAForm) as caught:
        forms.read(body, TYPE)
    assert len(str(caught.value)) < 60 and "x" * 10 not in str(caught.value)


def test_every_way_to_cut_a_form_off_is_seen() -> None:
    for at in range(len(BODY) - 2):
        with pytest.raises(forms.NotAForm):
            forms.read(BODY[:at], TYPE)


# -- writing


def test_only_the_changed_field_changes() -> None:
    form = forms.read(BODY, TYPE)
    form.doc["prompt"] = "Grüße an [NAME_1]"
    assert form.encode(form.doc) == BODY.replace(b"an ann", b"an [NAME_1]")
    form.doc["file"]["filename"] = 'x"\\\r\n.wav'
    expected = BODY.replace(b"an ann", b"an [NAME_1]").replace(b'"a b.wav"', b'"x%22%5C%0D%0A.wav"')
    assert form.encode({**form.doc, "model": "m"}) == expected.replace(b"\r\n7\r\n", b"\r\nm\r\n")


def test_fields_that_policies_add_and_take_away() -> None:
    form = forms.read(BODY, TYPE)
    del form.doc["temperature"], form.doc["model"]
    form.doc |= {"n": 2, "stream": True, "user": 'a"b', "prompt": ["one", "two"], "seed": None}
    body = form.encode(form.doc)
    assert body is not None
    again = forms.read(body, TYPE).doc
    assert again == {"file": form.doc["file"], "prompt": ["one", "two"], "n": 2, "stream": True, "user": 'a"b'}
    assert AUDIO in body


def test_a_field_that_leaves_is_gone_with_its_boundary() -> None:
    form = forms.read(b"pre\r\n" + field("a", b"1") + field("b", b"2") + field("c", b"3") + END + b"post", TYPE)
    assert form.encode({"b": 2}) == b"pre\r\n" + field("b", b"2") + END + b"post"
    assert form.encode({}) == b"pre\r\n" + END + b"post"


@pytest.mark.parametrize("text", ["--XyZ", "a\r\n--XyZ--", "a\n--XyZ", "\ud800"])
def test_a_text_that_a_form_cannot_hold(text: str) -> None:
    form = forms.read(BODY, TYPE)
    form.doc["prompt"] = text
    with pytest.raises(forms.NotAForm):
        form.encode(form.doc)


NAMES = st.sampled_from(["prompt", "model", "x", "hotwords", "g[]", "größe"])
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(["\r\n", "--", "0.5", "true", "", "--Xy", "\r\n--XyZ"]))
BYTES = st.lists(st.sampled_from([b"\r", b"\n", b"--", b"X", b"y", b"Z", b"\xff", b"--XyZ", b"\0"]), max_size=12).map(b"".join)


@settings(max_examples=200)
@given(st.lists(st.tuples(NAMES, TEXTS), max_size=5), BYTES, st.binary(max_size=9), TEXTS, TEXTS)
def test_laws_of_forms(rows: list[tuple[str, str]], audio: bytes, after: bytes, new: str, filename: str) -> None:
    """A form that is not changed is not written; one that is changed has the new text and is else the same bytes."""
    made = [field(name, text.encode()) for name, text in rows if _fits(text)]
    fine = not any(b"\n" + b"--XyZ" in b or b"\r--XyZ" in b for b in (b"\r\n" + audio, b"\n" + after, after))
    body = b"".join([*made, part(b'Content-Disposition: form-data; name="file"; filename="f"', audio), END, after])
    if not fine:
        with pytest.raises(forms.NotAForm):
            forms.read(body, TYPE)
        return
    form = forms.read(body, TYPE)
    assert form.encode(form.doc) is None
    found, opaque = DIALECTS["transcription"].request(form.doc)
    assert opaque[-1:] == ["file: file"] and len(opaque) == 1
    for segment in found:
        before, old = form.encode(form.doc) or body, segment.text
        segment.text = filename if segment.where == "file.filename" else new
        if segment.text == old or (segment.where != "file.filename" and not _fits(new)):
            segment.text = old
            continue
        changed = form.encode(form.doc)
        assert changed is not None and changed != before
        size = forms._quoted if segment.where == "file.filename" else str.encode
        assert len(changed) - len(before) == len(size(segment.text)) - len(size(old))
        assert plain(forms.read(changed, TYPE).doc) == plain(form.doc)
        segment.text = old
        assert (form.encode(form.doc) or body) == before


def _fits(text: str) -> bool:
    return "--XyZ" not in text


def plain(doc: dict[str, Any]) -> dict[str, Any]:
    """Fields as text; of files only that they are there."""
    return {k: forms._text(v) if not isinstance(v, list | dict) else 0 for k, v in doc.items()}
