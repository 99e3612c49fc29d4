"""The composition root: parts that know of each other, probes, the log and the metrics of a relayed request."""

from __future__ import annotations

from tests.kits.backend import backend, hello
from tests.kits.client import connect, fetch, request
from tests.kits.gate import gate
from tests.kits.stream import until


async def test_a_request_shows_in_log_and_metrics() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        await fetch(g.port, request("GET", "/v1/models?key=secret", None, [(b"Authorization", b"Bearer sk-secret")]))
        (line,) = await g.log_lines(1)
        assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "GET", "/v1/models", 200)
        assert "secret" not in str(line)
        page = g.metrics.exposition()[0].decode()
        assert 'headgate_requests_total{route="models",status="200",tier="opaque"} 1.0' in page


async def test_a_refused_head_shows_too() -> None:
    async with backend(hello) as b, gate(b.url) as g, connect(g.port) as client:
        await client.send(b"GET /secret HTTP/9.9\r\n\r\n")
        assert (await client.reply()).status == 400
        (line,) = await g.log_lines(1)
        assert (line["event"], line["fault"]) == ("refused", "bad_http")
        assert "secret" not in str(line)
        assert 'headgate_faults_total{kind="bad_http"} 1.0' in g.metrics.exposition()[0].decode()


async def test_backends_are_probed_until_one_answers() -> None:
    async with backend(hello) as first:
        port = first.port
    async with gate(f"http://127.0.0.1:{port}") as g:
        at = g.app.runtime.backends["local"]
        await until(lambda: at.reachable is False)
        async with backend(hello, port=port):
            g.app.probe(only_lost=True)
            await until(lambda: at.reachable)


async def test_ids_are_not_given_twice() -> None:
    async with backend(hello) as b, gate(b.url) as one, gate(b.url) as other:
        ids = [(await fetch(g.port, request())).value(b"x-request-id") for g in (one, other) for _ in range(20)]
        assert len(set(ids)) == 40


async def test_a_reload_without_a_file_is_refused() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        g.app._load = None
        assert not await g.app.reload()


async def test_a_reload_tells_what_needs_a_restart() -> None:
    async with backend(hello) as b, gate(b.url) as g:
        g.configure(b.url, listen="127.0.0.1:1")
        assert await g.app.reload()
        lines = await g.log_lines(2)
        assert [line["event"] for line in lines] == ["policy_reloaded", "restart_needed"]
