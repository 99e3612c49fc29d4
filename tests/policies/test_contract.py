"""The words that policies and the proxy share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.contract import Cut, Kind, Policy, PolicyOptions, Refuse, RequestBody, Segment, copy_document
from proxy.jsonio import Embedded, Number, decode, encode
from tests.kits.policy_kit import chat_body, exchange

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just(Number("1.50"))
DOCS = st.recursive(LEAVES, lambda d: st.lists(d, max_size=3) | st.dictionaries(st.text(max_size=2), d, max_size=3))


def containers(doc: Any) -> list[Any]:
    if isinstance(doc, dict):
        return [doc, *(c for v in doc.values() for c in containers(v))]
    if isinstance(doc, list):
        return [doc, *(c for v in doc for c in containers(v))]
    return []


@given(DOCS)
def test_a_copied_document_is_equal_and_shares_nothing_that_changes(doc: Any) -> None:
    twin = copy_document(doc)
    assert encode(twin) == encode(doc)
    assert not {id(c) for c in containers(doc)} & {id(c) for c in containers(twin)}


def test_a_document_may_nest_deeper_than_the_stack() -> None:
    doc: Any = []
    for _ in range(100_000):
        doc = [doc]
    twin = copy_document(doc)
    depth = 0
    while twin:
        twin, depth = twin[0], depth + 1
    assert depth == 100_000


def test_a_changed_inner_document_is_copied_as_it_will_be_sent() -> None:
    inner = Embedded(decode(b'{"to":"mail"}'), quoted=True)
    doc = {"arguments": inner}
    twin = copy_document(doc)
    assert twin == {"arguments": '{"to":"mail"}'}
    inner.rename(inner.doc, "to", "for")
    twin = copy_document(doc)
    assert twin == {"arguments": '{"for":"mail"}'}
    assert inner.doc == {"to": "mail"}, "copying renders the copy, not the original"


def test_a_forked_body() -> None:
    body = chat_body("Hello")
    twin = body.fork()
    twin.segments[0].text = "Bye"
    assert twin.read
    assert not body.read
    assert body.segments[0].text == body.doc["messages"][0]["content"] == "Hello"
    assert twin.doc["messages"][0]["content"] == "Bye"
    assert twin.size == body.size


def test_segments_write_back_only_what_changed() -> None:
    body = chat_body("Hello")
    (segment,) = body.segments
    segment.text = "Hello"
    assert not segment.changed
    segment.text = "Bye"
    assert segment.changed
    assert body.doc["messages"][0]["content"] == "Bye"


def test_opaque_is_known_once_the_text_is() -> None:
    body = RequestBody({}, 2, lambda doc: ([], ["image"]))
    assert body.opaque == []
    assert body.segments == []
    assert body.opaque == ["image"]


class Options(PolicyOptions):
    """Options to test with."""

    count: int = 1
    """A number."""


@pytest.mark.parametrize("given_", [{"count": "1"}, {"count": True}, {"count": 1.0}, {"cuont": 1}])
def test_options_are_strict_and_their_errors_quote_no_value(given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(given_)
    assert "input_value" not in str(caught.value)


def test_a_policy_takes_part_in_what_it_overrides() -> None:
    class Two(Policy):
        """Does two things.

        At length."""

        async def settle(self, x: Any) -> None:
            pass

        def choose(self, x: Any, candidates: Any) -> None:
            pass

    assert Two("a", None).phases() == {"settle", "choose"}
    assert Two("a", None).describe() == "Does two things."
    assert Policy("a", None).phases() == frozenset()


def test_stops_show_kinds_and_not_messages() -> None:
    refusal = Refuse(Kind.BLOCKED, "public", headers=iter([("a", "b")]))
    assert str(refusal) == "content_filter"
    assert refusal.headers == (("a", "b"),)
    assert str(Cut("rule", "public")) == "rule"


def test_records_show_no_text_and_no_key() -> None:
    segment = Segment("messages[0].content", "SECRET", lambda text: None)
    x = exchange(fields=[("Authorization", "Bearer SECRET")], path="/SECRET")
    assert "SECRET" not in repr([segment, chat_body("SECRET"), x, x.fork()])


def test_records_share_no_defaults() -> None:
    for one, two in ((exchange(), exchange()), (chat_body(), chat_body())):
        for name in one.__struct_fields__:
            value = getattr(one, name)
            if name != "headers" and isinstance(value, list | dict):
                assert value is not getattr(two, name), name


def test_a_segment_writes_back_once() -> None:
    written: list[str] = []
    segment = Segment("here", "a", written.append)
    segment.text = "a"
    assert not segment.changed
    segment.text = "b"
    segment.text = "b"
    segment.role = "tool"
    assert (segment.text, segment.changed, written) == ("b", True, ["b"])
