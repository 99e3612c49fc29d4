"""The way out for policies: one POST, no redirects, no cookies, bounded in time and size."""

from __future__ import annotations

import pytest

from proxy.post import MAX_ANSWER, Poster
from tests.kits.backend import Call, Script, backend, silent


async def posted(script: Script, seconds: float = 5.0, times: int = 1) -> tuple[list[tuple[int, bytes]], list[Call]]:
    poster = Poster()
    post = await poster.open()
    try:
        async with backend(script) as b:
            return [await post(b.url + "/x", {"X-A": "b"}, b"{}", seconds) for _ in range(times)], b.calls
    finally:
        await poster.close()
        await poster.close()


async def test_a_question_and_its_answer_on_a_connection_that_stays() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"yes", fields=[(b"Set-Cookie", b"a=b"), (b"Content-Type", b"application/json")])

    answers, calls = await posted(script, times=2)
    assert answers == [(200, b"yes")] * 2
    assert [(c.method, c.target, c.body, c.value(b"x-a")) for c in calls] == [(b"POST", b"/x", b"{}", b"b")] * 2
    assert calls[1].value(b"cookie") is None and calls[0].stream is calls[1].stream


async def test_a_redirect_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"", 307, [(b"Location", b"/elsewhere")])

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answers, calls = await posted(script)
    assert answers == [(307, b"")] and len(calls) == 1


async def test_an_answer_without_an_end_is_not_read() -> None:
    async def script(call: Call) -> None:
        await call.reply(b"x" * (MAX_ANSWER + 1))

    with pytest.raises(OSError, match="too large"):
        await posted(script)


async def test_time_is_bounded() -> None:
    with pytest.raises(TimeoutError):
        await posted(silent, seconds=0.05)


async def test_what_breaks_is_an_oserror_that_names_no_address() -> None:
    async def script(call: Call) -> None:
        call.reset()

    with pytest.raises(OSError) as caught:
        await posted(script)
    assert "127.0.0.1" not in str(caught.value)
