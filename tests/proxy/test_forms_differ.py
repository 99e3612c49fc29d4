"""A form that headgate reads is read alike by other parsers: what policies saw is what a server gets."""

from __future__ import annotations

import asyncio
import email
import email.policy
from typing import Any

import aiohttp
from aiohttp import BodyPartReader, MultipartReader
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy import forms

TYPE = b"multipart/form-data; boundary=XyZ"
FILE = b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n\x00\xff\r\n'
PROMPT = b'--XyZ\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhello ann\r\n'
END = b"--XyZ--\r\n"
Rows = list[tuple[str, bool, bytes]]


def ours(body: bytes) -> Rows:
    form = forms.read(body, TYPE)
    return [(p.name, isinstance(p.given, dict), body[p.value : p.end]) for p in form._parts]


def of_email(body: bytes) -> Rows:
    """CPython's own parser, made for mail: very lenient."""
    message: Any = email.message_from_bytes(b"Content-Type: " + TYPE + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    assert message.is_multipart()
    return [
        (str(p.get_param("name", header="content-disposition")), p.get_filename() is not None, p.get_payload(decode=True))
        for p in message.iter_parts()
    ]


async def of_aiohttp(body: bytes) -> Rows:
    stream = aiohttp.StreamReader(_Flow(), 2**16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    stream.feed_data(body)
    stream.feed_eof()
    out: Rows = []
    reader = MultipartReader(CIMultiDict({"Content-Type": TYPE.decode()}), stream)
    while (part := await reader.next()) is not None:
        assert isinstance(part, BodyPartReader)
        out.append((part.name or "", part.filename is not None, bytes(await part.read(decode=False))))
    return out


class _Flow:
    """A connection that is never paused."""

    _reading_paused = False

    def pause_reading(self) -> None:
        return

    def resume_reading(self, **_: object) -> None:
        return


PIECES = st.sampled_from([
    b"\r\n", b"\n", b"\r", b"--", b"--XyZ", b"--XyZ--", b"--XyZ\r\n", b"\r\n--XyZ\r\n", b"\r\n\r\n", b" ", b"\t", b";", b'"',
    b"\\", b"\\\"", b"x", b"\0", b"\xff", b'; filename="x"', b"; name=other", b"name*=utf-8''x", b"X-A: b\r\n",
    b'Content-Disposition: form-data; name="prompt"\r\n\r\n', b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Type: text/plain; charset=utf-16\r\n",
])  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, 260), st.integers(0, 12), PIECES), max_size=4)


@settings(max_examples=400, deadline=None)
@given(st.permutations([FILE, PROMPT]), EDITS)
@example([FILE, PROMPT], [])
@example([FILE, PROMPT], [(0, 0, b"a preamble\r\n")])
def test_others_read_the_same_parts(parts: list[bytes], edits: list[tuple[int, int, bytes]]) -> None:
    body = b"".join([*parts, END])
    for at, gone, put in edits:
        body = body[:at] + put + body[at + gone :]
    try:
        seen = ours(body)
    except forms.NotAForm:
        return
    assert of_email(body) == seen
    assert asyncio.run(of_aiohttp(body)) == seen
