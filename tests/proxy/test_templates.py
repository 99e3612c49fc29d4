"""Events told by their bytes: whatever a template reads, a full parse reads as well, and a stream is the same with and
without templates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.contract import Gate
from proxy import shapes
from proxy.channels import Line
from proxy.dialects import DIALECTS
from proxy.dialects.contract import Unreadable
from proxy.gated import GatedStream
from proxy.shapes import Shape, Shapes, shape
from proxy.sse import parse
from proxy.templates import Template, Templates
from tests.kits.gate_kit import Cutter, PassAll, Redactor

FAST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

CHAT = '{"id":"%(id)s","object":"chat.completion.chunk","created":%(number)s,"model":"m","choices":[{"index":0,"delta":'
MAKERS = {
    "chat": ("chat", CHAT + '{"content":%(text)s},"logprobs":null,"finish_reason":null}]}'),
    "chat with obfuscation": (
        "chat",
        CHAT + '{"content":%(text)s},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"%(word)s"}',
    ),
    "chat of tools": (
        "chat", CHAT + '{"tool_calls":[{"index":1,"function":{"arguments":%(text)s}}]},"finish_reason":null}]}',
    ),
    "chat with spaces": (
        "chat", '{"id": "%(id)s", "choices": [{"index": 1, "delta": {"content": %(text)s}}], "created": %(number)s}',
    ),
    "completions": ("completions", '{"id":"%(id)s","created":%(number)s,"choices":[{"index":0,"text":%(text)s}]}'),
    "responses, type first": (
        "responses",
        '{"type":"response.output_text.delta","sequence_number":%(number)s,"item_id":"%(id)s","output_index":0,'
        '"content_index":0,"delta":%(text)s,"logprobs":[],"obfuscation":"%(word)s"}',
    ),
    "responses, type last": (
        "responses",
        '{"content_index":0,"delta":%(text)s,"item_id":"%(id)s","logprobs":[],"output_index":0,'
        '"sequence_number":%(number)s,"type":"response.output_text.delta"}',
    ),
    "responses arguments": (
        "responses",
        '{"type":"response.function_call_arguments.delta","sequence_number":%(number)s,"item_id":"%(id)s",'
        '"output_index":2,"delta":%(text)s}',
    ),
    "messages": (
        "messages", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%(text)s}%(space)s}',
    ),
    "transcript": ("transcription", '{"type":"transcript.text.delta","delta":%(text)s}'),
}  # fmt: skip


def event(maker: str, text: str, n: int = 7, word: str = "aB3", id: str = "x-1", space: str = "  ", raw: str = "") -> bytes:
    body = MAKERS[maker][1] % {"text": raw or json.dumps(text), "number": n, "word": word, "id": id, "space": space}
    return f"data: {body}\n\n".encode()


def codec_of(maker: str) -> Any:
    codec = DIALECTS[MAKERS[maker][0]].codec()
    assert codec is not None
    return codec


@cache
def shape_of(maker: str) -> Shape:
    codec = codec_of(maker)
    raw = event(maker, "once")
    found = shape(raw, codec.parse(parse(raw)), codec)
    assert found is not None
    return found


def templates_of(maker: str) -> list[Template]:
    """As a stream has it at first, and once what seemed fixed has varied."""
    found = shape_of(maker)
    line = Line(found.part.channel, None)
    return [Template(found, line, event(maker, "once")), Template(found, line)]


@pytest.mark.parametrize("maker", MAKERS)
def test_what_varies_by_its_meaning_is_read_at_once(maker: str) -> None:
    first, general = templates_of(maker)
    assert first.read(event(maker, "once")) == "once"
    responses = maker.startswith("responses")
    later = event(maker, 'n\\"o', n=12 if responses else 7, word="", space="" if maker == "messages" else "  ")
    assert first.read(later) == general.read(later) == 'n\\"o'
    assert first.number == general.number == (12 if responses else -1)
    other = event(maker, "é😀", n=0, id="chatcmpl-~!", word="zzzzzzzzzzzzzzzz", space="      ")
    assert general.read(other) == "é😀"


@pytest.mark.parametrize("maker", MAKERS)
def test_a_shape_holds_no_value_of_its_stream(maker: str) -> None:
    found = shape_of(maker)
    assert found.general
    assert all(value not in found.prefix + found.suffix for value in (b"once", b"x-1", b"aB3"))
    assert found.part.text == ""


HOSTILE = (
    "0", "00", "-0", "-1", "1e5", "1.0", "1E400", "9" * 15, "9" * 16, "9" * 5000, "null", "true", '"7"', "[7]", "{}", "7 ",
    " 7", "7,7", "", "0x1", "+1", "7\n", "٣",
)  # fmt: skip
STRINGS = ("", '"', "\\", '\\"', "\\u0041", "é", "a\nb", "a\x00b", '","sequence_number":1,"a":"', "x" * 256, "x" * 257)
TOKENS = (
    '""', '"a', 'a"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\x"', '"a\nb"', '"\x01"', "null", "1", '["a"]', '"a","delta":"b"',
    '"a\\","logprobs":[],"b":"c"', '"a" ', ' "a"', '"a"}', '"\xe9"', '"\ufffd"', '"\\/"', '"\\u0022,\\u0022"',
)  # fmt: skip
CHANGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda raw: raw,
    lambda raw: raw.replace(b"\n\n", b"\r\n\r\n"),
    lambda raw: raw.replace(b"\n\n", b"\n"),
    lambda raw: raw + raw,
    lambda raw: raw[:-2] + b"x\n\n",
    lambda raw: b"id: 5\n" + raw,
    lambda raw: raw.replace(b"}\n\n", b',"created":8,"sequence_number":3}\n\n'),
    lambda raw: raw.replace(b"}\n\n", b',"sequence\\u005fnumber":3}\n\n'),
    lambda raw: raw.replace(b"}\n\n", b',"delta":"twice","text":"twice"}\n\n'),
    lambda raw: raw.replace(b"}\n\n", b',"d\\u0065lta":"twice"}\n\n'),
    lambda raw: raw.replace(b"}\n\n", b',"unknown":"text of nobody"}\n\n'),
    lambda raw: raw.replace(b"data: {", b'data: {"obfuscation":"q",'),
    lambda raw: raw.replace(b'"delta"', b'"delta" '),
    lambda raw: raw.replace(b",", b", "),
    lambda raw: raw.replace(b'"index":0', b'"index":1'),
    lambda raw: raw.replace(b"null", b'"stop"', 1),
    lambda raw: raw.replace(b'"logprobs":[]', b'"logprobs":[{"token":"x"}]'),
    lambda raw: re.sub(rb"[\xc3-\xff]", b"\xff", raw),
)


@pytest.mark.parametrize("maker", MAKERS)
def test_one_hostile_value_after_the_other(maker: str) -> None:
    good = {"text": '"a"', "number": "7", "word": "aB3", "id": "x-1", "space": "  "}
    bad = [("number", v) for v in HOSTILE] + [(k, v) for k in ("word", "id") for v in STRINGS] + [("text", v) for v in TOKENS]
    bad += [("space", v) for v in ("", " ", "\t", "    ", "\n", ',"a":1', "}", " {")]
    for key, value in bad:
        agree(maker, f"data: {MAKERS[maker][1] % {**good, key: value}}\n\n".encode())
    for change in CHANGES:
        agree(maker, change(event(maker, "a é")))


@pytest.mark.parametrize("maker", MAKERS)
@FAST
@given(data=st.data())
def test_what_a_template_reads_a_parse_reads(maker: str, data: Any) -> None:
    number = data.draw(st.sampled_from(HOSTILE) | st.integers(0, 10**17).map(str))
    word = data.draw(st.sampled_from(STRINGS) | st.text(max_size=8))
    token = data.draw(st.sampled_from(TOKENS) | st.text(max_size=8).map(json.dumps))
    body = MAKERS[maker][1] % {
        "text": token, "number": number, "word": word, "id": data.draw(st.sampled_from(STRINGS)),
        "space": data.draw(st.sampled_from(("", " ", "\t", "    ", ',"a":1', "}"))),
    }  # fmt: skip
    raw = data.draw(st.sampled_from(CHANGES))(f"data: {body}\n\n".encode())
    agree(maker, raw)


@pytest.mark.parametrize("maker", MAKERS)
@FAST
@given(place=st.integers(0, 500), put=st.binary(max_size=3), take=st.integers(0, 3))
def test_any_changed_byte(maker: str, place: int, put: bytes, take: int) -> None:
    raw = event(maker, "a b", n=12)
    at = place % len(raw)
    agree(maker, raw[:at] + put + raw[at + take :])


def agree(maker: str, raw: bytes) -> None:
    for template in templates_of(maker):
        text = template.read(raw)
        if not text:
            continue
        codec = codec_of(maker)
        parsed = codec.parse(parse(raw))  # what cannot be read in full must not be read at all
        assert parsed.parts == [template.shape.part._replace(text=text)]
        assert parsed.simple
        assert parsed.choices == template.shape.choices
        assert not (parsed.ends or parsed.follows or parsed.copies or parsed.terminal or parsed.error or parsed.usage)
        assert parsed.track == template.tracked
        assert not parse(raw).has_id
        if parsed.track:
            assert template.number == parsed.doc["sequence_number"]
        other = codec.parse(parse(template.fill(raw, 'an "other" é')))
        assert other.parts == [template.shape.part._replace(text='an "other" é')]
        want = json.loads(parse(raw).data or b"")
        got = json.loads(parse(template.fill(raw, text)).data or b"")
        assert got == want


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices":[{"index":0,"delta":{"content":"twice"}}],"x":"twice"}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"stop_reason":"STOP"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"index":0,"delta":{"content":"a","reasoning":"b"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"error":{"message":"b"}}',
    ],
)
def test_what_is_more_than_one_text_has_no_shape(raw: bytes) -> None:
    codec = codec_of("chat")
    full = b"data: " + raw + b"\n\n"
    assert shape(full, codec.parse(parse(full)), codec) is None


@pytest.mark.parametrize(("last", "number"), [(1, None), (2, 2)])
def test_a_key_that_occurs_twice_has_no_hole(last: int, number: int | None) -> None:
    raw = b'data: {"sequence_number":1,"type":"response.output_text.delta","delta":"a","sequence\\u005fnumber":%d}\n\n' % last
    codec = codec_of("responses, type first")
    found = shape(raw, codec.parse(parse(raw)), codec)
    assert (found and (found.number, found.numbered, found.general)) == (number and (number, False, False))


def test_shapes_that_are_shared_are_few_and_the_latest() -> None:
    known, codec = Shapes(), codec_of("chat")
    raws = [event("chat", "t").replace(b'"m"', b'"m%d"' % n) for n in range(20)]
    for raw in raws:
        found = shape(raw, codec.parse(parse(raw)), codec)
        assert found is not None
        known.add(found, codec)
    hits = [known.find(raw, codec) is not None for raw in raws]
    assert hits == [False] * 12 + [True] * 8
    assert known.find(raws[-1], codec_of("completions")) is None


# -- whole streams -------------------------------------------------------------------------------------------------

OPENINGS = {
    "responses": [
        b'data: {"type":"response.created","sequence_number":0,"response":{"id":"r","output":[]}}\n\n',
        b'data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"x-1"}}\n\n',
    ],
    "messages": [b'data: {"type":"message_start","message":{"id":"m","content":[]}}\n\n'],
    "chat": [b'data: {"id":"x-1","created":7,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'],
}
GATES: dict[str, Callable[[], Gate]] = {
    "pass": PassAll,
    "redact": lambda: Redactor(["secret", "al"]),
    "cut": lambda: Cutter(["stop now"]),
}


def played(maker: str, raws: list[bytes], gate: str, *, learns: bool) -> tuple[bytes, Any]:
    stream = GatedStream(DIALECTS[MAKERS[maker][0]], lambda channel: [GATES[gate]()], include_usage=True)
    stream._templates = Templates(stream._codec, stream._book.line, learns=learns)
    stream._known = stream._templates.known
    out = b"".join(stream.feed(raw) for raw in raws)
    cut = stream.cut
    out += stream.end() if cut is None else b""
    state = {
        "cut": cut, "choices": stream._codec.choices, "changed": stream.changed,
        "ending": stream._codec.cut("m", include_usage=True) if cut is None else b"", "scanned": stream.scanned,
    }  # fmt: skip
    if not maker.startswith("responses"):  # nobody reads it there
        state["events"] = stream._codec.events
    return out, state


@pytest.mark.parametrize("maker", MAKERS)
@settings(FAST, max_examples=25)
@given(
    gate=st.sampled_from(sorted(GATES)),
    opened=st.booleans(),
    said=st.lists(
        st.tuples(
            st.sampled_from(["a", "sec", "ret", "secret", "al", "stop", " now", "é", '"', "plain words "]),
            st.integers(0, 3), st.sampled_from(["", "aB3", "q"]), st.sampled_from(["x-1", "x-2"]),
            st.sampled_from(["", "  "]), st.integers(0, 20),
        ),
        max_size=14,
    )
)  # fmt: skip
def test_a_stream_is_the_same_without_templates(maker: str, gate: str, opened: bool, said: list[Any]) -> None:
    raws = list(OPENINGS.get(MAKERS[maker][0], ())) if opened else []
    at = 2
    for text, step, word, id, space, joint in said:
        at += step
        raw = event(maker, text, at, word, id, space)
        if joint == 0 and raws:
            raws[-1] += raw  # two events in one piece
        else:
            raws.append(raw)
    (fast, after), (slow, wanted) = (played(maker, raws, gate, learns=learns) for learns in (True, False))
    assert after == wanted
    assert told(fast) == told(slow)
    if not wanted["changed"]:
        assert fast == slow == b"".join(raws)


def told(stream: bytes) -> list[Any]:
    """Events as clients read them: an event that was written anew may have other spaces."""
    out: list[Any] = []
    for raw in stream.split(b"\n\n")[:-1]:
        data = parse(raw + b"\n\n").data
        try:
            out.append(json.loads(data or b"null"))
        except ValueError:
            out.append(data)
    return out


@pytest.mark.parametrize(("held", "then"), [("more s", "stop now"), ("more st", "op now")])
def test_an_ending_has_the_number_after_the_last_event_that_left(held: str, then: str) -> None:
    maker = "responses, type first"
    raws = [*OPENINGS["responses"], event(maker, "word", 3), event(maker, held, 5), event(maker, then, 9)]
    (fast, _), (slow, _) = (played(maker, raws, "cut", learns=learns) for learns in (True, False))
    assert told(fast) == told(slow)
    assert [doc["sequence_number"] for doc in told(fast)][:6] == [0, 1, 3, 5, 6, 7]


@pytest.mark.parametrize("maker", ["chat", "completions", "responses, type first", "messages"])
def test_the_first_text_of_a_later_stream_is_not_parsed(maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.templates.SHARED", Shapes())
    opening = OPENINGS.get(MAKERS[maker][0], [])
    for n, id in enumerate(("x-1", "y-22")):
        stream = GatedStream(DIALECTS[MAKERS[maker][0]], lambda channel: [PassAll()], include_usage=True)
        if n:
            parsed: list[bytes] = []
            monkeypatch.setattr(stream._codec, "parse", noting(stream._codec.parse, parsed))
        for raw in opening:
            stream.feed(raw)
        for k in range(3):
            raw = event(maker, f"word {k}", n=9 + k if "responses" in maker else 7, id=id)
            assert stream.feed(raw) == raw
        if n:
            assert parsed == ([] if maker == "chat" else opening)  # of a chat even the opening is known
            if maker == "completions":  # what an ending repeats is still known
                assert json.loads(stream._codec.cut(None, include_usage=False)[6:].split(b"\n")[0])["id"] == "y-22"


def noting(parse: Callable[[Any], Any], into: list[bytes]) -> Callable[[Any], Any]:
    def noted(event: Any) -> Any:
        into.append(event.raw)
        return parse(event)

    return noted


def test_a_failed_decode_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    template = templates_of("chat")[1]
    assert template.read(event("chat", "", raw='"\\ud800"')) is None
    assert template.read(event("chat", "", raw='"a\nb"')) is None
    with pytest.raises(Unreadable):
        codec_of("chat").parse(parse(b"data: {\n\n"))
    assert shapes.SHARED.find(b"", codec_of("chat")) is None
