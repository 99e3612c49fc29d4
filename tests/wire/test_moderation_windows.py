"""Replies under a classifier, over real sockets: what leaves when, cuts, slow and dead classifiers, clients that go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.contract import Kind
from tests.kits.backend import Call, backend
from tests.kits.client import Broken, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.judges import BAD, Endpoint, endpoint
from tests.kits.stream import until

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
GOOD = ["Water ", "boils at ", "a hundred ", "degrees. ", "At least ", "at sea ", "level it ", "does."]
ASK: list[Any] = [{"role": "user", "content": "hi"}]


def say(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    doc = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def ask(stream: bool = True, **more: Any) -> bytes:
    fields = [(b"Content-Type", b"application/json"), *more.pop("fields", [])]
    return request("POST", PATH, json.dumps({"model": "m", "messages": ASK, "stream": stream, **more}).encode(), fields)


def text_of(body: bytes | bytearray) -> str:
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    choices = [c for e in events for c in json.loads(e).get("choices", ())]
    return "".join(c["delta"].get("content") or "" for c in choices)


def classified(url: str, mode: str = "enforce", on_error: str = "closed", **options: Any) -> list[dict[str, Any]]:
    window = {"first": [4], "tokens": 4, "time": "1h", "context": 4000}
    classifier = {"url": url, "channels": ["content"], "window": window, **options}
    return [{"use": "output_moderation", "mode": mode, "on_error": on_error, "classifier": classifier}]


def talk(*texts: str, finish: bool = True, then: Any = None) -> Any:
    """A backend that streams these texts, and then a finish, or what ``then`` does."""

    async def script(call: Call) -> None:
        if json.loads(call.body).get("stream") is not True:
            message = {"role": "assistant", "content": "".join(texts)}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            doc = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            await call.reply(json.dumps(doc).encode(), fields=[(b"Content-Type", b"application/json")])
            return
        await call.begin_sse()
        await call.chunk(*map(say, texts))
        if then is not None:
            await then(call)
        if finish:
            await call.chunk(say("", "stop"), DONE)
            await call.end_chunked()

    return script


class Turn:
    """Lets the endpoint answer one question after the other."""

    def __init__(self, e: Endpoint) -> None:
        self.e = e
        self.waiting: list[tuple[Call, str]] = []
        e.reply = self._hold

    async def _hold(self, call: Call, text: str) -> None:
        self.waiting.append((call, text))

    async def next(self) -> str:
        await until(lambda: self.waiting)
        call, text = self.waiting.pop(0)
        await self.e.good(call, text)
        return text


@pytest.mark.parametrize("policies", [classified, lambda url: lagging(url, 20)], ids=["hold", "lag"])
async def test_a_clean_stream_crosses_byte_for_byte(policies: Any) -> None:
    async with endpoint() as e, backend(talk(*GOOD)) as b, gate(b.url, policies=policies(e.url)) as g:
        reply = await fetch(g.port, ask())
        assert reply.body == b"".join(map(say, GOOD)) + say("", "stop") + DONE
        x = await g.settled()
        assert x.fault is None and x.findings == []
        assert e.inputs[-1] == "".join(GOOD), "a short text is all context"


async def test_held_text_leaves_with_its_verdict_and_not_before() -> None:
    async with endpoint() as e, backend(talk(*GOOD)) as b:
        turn = Turn(e)
        async with gate(b.url, policies=classified(e.url)) as g, connect(g.port) as client:
            await client.send(ask())
            await client.head()
            await until(lambda: turn.waiting)
            assert not client.buffer, "nothing has its verdict yet"
            asked = ""
            while b"[DONE]" not in client.buffer:
                assert asked.startswith(text_of(client.buffer))
                asked = await turn.next()
                await until(lambda: turn.waiting or b"[DONE]" in client.buffer)
            assert text_of(client.buffer) == asked == "".join(GOOD)


async def test_a_flagged_window_ends_the_stream_and_the_backend() -> None:
    async def on_and_on(call: Call) -> None:
        await call.gone()

    texts = ["All is well here. ", "But now ", f"{BAD} ", "and more of it"]
    async with endpoint() as e, backend(talk(*texts, finish=False, then=on_and_on)) as b:
        async with gate(b.url, policies=classified(e.url)) as g:
            reply = await fetch(g.port, ask(stream_options={"include_usage": True}))
            assert BAD not in reply.body.decode()
            assert "".join(texts).startswith(text_of(reply.body))
            events = reply.body.split(b"\n\n")
            assert json.loads(events[-4][6:])["choices"][0]["finish_reason"] == "content_filter"
            assert json.loads(events[-3][6:])["usage"] is not None
            assert events[-2:] == [b"data: [DONE]", b""]
            x = await g.settled()
            assert x.fault is Kind.CUT
            assert ("violence", "block") in [(f.kind, f.action) for f in x.findings]
        await until(lambda: b.open == 0)


async def test_a_lagging_classifier_is_no_more_than_its_lag_behind() -> None:
    words = [f"word{n:02} " for n in range(40)]
    async with endpoint() as e, backend(talk(*words)) as b:
        turn = Turn(e)
        async with gate(b.url, policies=lagging(e.url, 70)) as g, connect(g.port) as client:
            await client.send(ask())
            await client.head()
            await until(lambda: turn.waiting and len(text_of(client.buffer)) >= 70)
            (pump,) = g.app.runtime.judging
            await until(lambda: pump.stream.held)
            assert text_of(client.buffer) == "".join(words)[:70], "ten words of seven, without any verdict"
            e.reply = e.good
            await turn.next()
            await until(lambda: b"[DONE]" in client.buffer)
            assert text_of(client.buffer) == "".join(words)
            x = await g.settled()
            assert x.ahead == 70
            assert "headgate_unjudged_characters_count 1" in g.metrics.exposition()[0].decode()


def lagging(url: str, lag: int) -> list[dict[str, Any]]:
    made = classified(url)
    made[0]["classifier"] |= {"mode": "lag", "lag": lag}
    return made


async def test_a_lagging_verdict_still_decides_how_the_reply_ends() -> None:
    async with endpoint() as e, backend(talk("So ", BAD)) as b, gate(b.url, policies=lagging(e.url, 500)) as g:
        reply = await fetch(g.port, ask())
        assert BAD in text_of(reply.body), "it had left"
        assert b'"content_filter"' in reply.body and b'"stop"' not in reply.body
        assert (await g.settled()).fault is Kind.CUT


@pytest.mark.parametrize("stance", ["closed", "open"])
@pytest.mark.parametrize("how", ["broken", "hung", "dead"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_classifier_that_fails_goes_by_the_stance(stance: str, how: str, stream: bool) -> None:
    async with endpoint() as e, backend(talk(*GOOD)) as b:
        url = e.url
        if how == "dead":
            await e.server.stop_listening()
        else:
            e.reply = getattr(e, how)
        policies = classified(url, on_error=stance)
        policies[0]["classifier"] |= {"timeout": "50ms", "failures": 1}
        async with gate(b.url, policies=policies) as g:
            reply = await fetch(g.port, ask(stream))
            x = await g.settled()
            if stance == "open":
                assert x.fault is None
                assert text_of(reply.body) == "".join(GOOD) if stream else b"does." in reply.body
            else:
                assert x.fault is Kind.CUT and b"Water" not in reply.body and b"content_filter" in reply.body
            before = len(e.inputs)
            await fetch(g.port, ask(stream))
            assert len(e.inputs) == before, "nobody asks a service that has just failed"


async def test_a_client_that_goes_away_takes_its_question_back() -> None:
    async with endpoint() as e, backend(talk(*GOOD, finish=False, then=lambda call: call.gone())) as b:
        e.reply = e.hung
        async with gate(b.url, policies=classified(e.url)) as g:
            async with connect(g.port) as client:
                await client.send(ask())
                await until(lambda: e.inputs)
            x = await g.settled()
            assert x.fault is Kind.CLIENT_GONE
            await until(lambda: e.gone == 1)
            await g.idle()


async def test_a_backend_lost_while_its_text_waits_is_an_error_event() -> None:
    async def reset(call: Call) -> None:
        await until(lambda: e.inputs)
        call.reset()

    async with endpoint() as e, backend(talk(*GOOD, finish=False, then=reset)) as b:
        e.reply = e.hung
        async with gate(b.url, policies=classified(e.url)) as g:
            with pytest.raises(Broken) as caught:
                await fetch(g.port, ask())
            assert b'"error"' in caught.value.partial and b"[DONE]" not in caught.value.partial
            assert b"Water" not in caught.value.partial
            await until(lambda: e.gone == 1)


async def test_a_window_that_only_time_can_close() -> None:
    async with endpoint() as e, backend(talk("Hi", finish=False, then=lambda call: call.gone())) as b:
        policies = classified(e.url)
        policies[0]["classifier"]["window"] = {"time": "10s"}
        async with gate(b.url, policies=policies) as g, connect(g.port) as client:
            await client.send(ask())
            await client.head()
            await until(lambda: g.app.runtime.judging)
            assert not e.inputs
            g.advance(11)
            assert text_of(await client.chunk()) == "Hi"
            assert e.inputs == ["Hi"]


async def test_a_backend_far_ahead_of_the_verdicts_is_not_read() -> None:
    async def flood(call: Call) -> None:
        await call.chunk(*[say(f"{n:07} ") for n in range(2000)])

    async with endpoint() as e, backend(talk("first ", then=flood)) as b:
        turn = Turn(e)
        policies = classified(e.url)
        async with gate(b.url, policies=policies, stream={"max_held": 1000}) as g, connect(g.port) as client:
            await client.send(ask())
            await client.head()
            await until(lambda: turn.waiting)
            (pump,) = g.app.runtime.judging
            await until(lambda: pump.stream.full)
            e.reply = e.good
            await turn.next()
            await until(lambda: b"[DONE]" in client.buffer)
            assert text_of(client.buffer) == "first " + "".join(f"{n:07} " for n in range(2000))
            assert (await g.settled()).fault is None


@pytest.mark.parametrize("stream", [True, False])
async def test_shadow_mode_waits_for_nobody_and_still_tells(stream: bool) -> None:
    async with endpoint() as e, backend(talk("So ", BAD)) as b:
        turn = Turn(e)
        async with gate(b.url, policies=classified(e.url, mode="shadow")) as g:
            reply = await fetch(g.port, ask(stream))
            assert BAD in reply.body.decode() and b"content_filter" not in reply.body
            assert not g.exchanges, "its verdict is still to come"
            await turn.next()
            await until(lambda: g.exchanges or turn.waiting)
            while turn.waiting:
                await turn.next()
            x = await g.settled()
            assert [(f.action, f.shadow) for f in x.findings if f.kind == "violence"][-1:] in (
                [("would_cut", True)],
                [("block", True)],
            )


async def test_whole_replies_are_judged_before_they_leave() -> None:
    async with endpoint() as e, backend(talk("So ", BAD, " it is")) as b, gate(b.url, policies=classified(e.url)) as g:
        reply = await fetch(g.port, ask(stream=False))
        choice = json.loads(reply.body)["choices"][0]
        assert choice["finish_reason"] == "content_filter" and BAD not in reply.body.decode()
        assert e.inputs == [f"So {BAD} it is"], "one question"
        assert reply.value(b"x-headgate-findings") is None


@pytest.mark.parametrize("stream", [True, False])
async def test_annotations_for_those_who_ask(stream: bool) -> None:
    async with endpoint() as e, backend(talk("So ", BAD)) as b, gate(b.url, policies=classified(e.url)) as g:
        reply = await fetch(g.port, ask(stream, fields=[(b"X-Headgate-Annotate", b"true")]))
        assert b.calls[0].value(b"x-headgate-annotate") is None
        assert b'"content_filter_results":{"violence":{"filtered":true,"detected":true}}' in reply.body
        if not stream:
            said = reply.value(b"x-headgate-findings")
            assert said is not None and b"output_moderation/block/violence;n=1" in said
        plain = await fetch(g.port, ask(stream))
        assert b"content_filter_results" not in plain.body
