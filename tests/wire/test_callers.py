"""Who may call: keys, addresses and certificates over real sockets; what of them reaches the backend and the log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.callers.keys import digest
from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.gate import Gate, gate

KEY, OTHER = "hg-planted-key-aaaa", "hg-planted-key-bbbb"
ROWS = [
    {"name": "alice", "sha256": digest(KEY), "tenant": "acme", "scopes": ["ai:generate"], "tier": "pro"},
    {"name": "bob", "sha256": digest(OTHER), "disabled": True},
    {"name": "carol", "sha256": digest("expired"), "expires": "2020-01-01"},
]
BEARER = (b"Authorization", b"Bearer " + KEY.encode())


async def echo(call: Call) -> None:
    await call.read_body()
    fields = [[k.decode().lower(), v.decode("latin-1")] for k, v in call.fields]
    await call.reply(json.dumps(fields).encode(), fields=[(b"Content-Type", b"application/json")])


async def ask(g: Gate, *fields: tuple[bytes, bytes], path: str = "/v1/models") -> tuple[int, Any, Any]:
    reply = await fetch(g.port, request("GET", path, fields=list(fields)))
    return reply.status, json.loads(reply.body), reply


def policy(**callers: Any) -> str:
    return json.dumps({"callers": {"keys": ROWS, **callers}})


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([BEARER], 200),
        ([(b"authorization", b"bearer  " + KEY.encode() + b" ")], 200),
        ([(b"x-api-key", KEY.encode())], 200),
        ([(b"api-key", KEY.encode())], 200),
        ([BEARER, (b"x-api-key", KEY.encode())], 200),
        ([], 401),
        ([(b"Authorization", b"Bearer " + OTHER.encode())], 401),
        ([(b"Authorization", b"Bearer expired")], 401),
        ([(b"Authorization", b"Bearer wrong")], 401),
        ([(b"Authorization", b"Bearer " + KEY.encode() + b"x")], 401),
        ([(b"Authorization", b"Bearer ")], 401),
        ([(b"Authorization", b"Basic " + KEY.encode())], 401),
        ([(b"Authorization", KEY.encode())], 401),
        ([BEARER, (b"Authorization", b"Bearer other")], 401),
        ([BEARER, (b"x-api-key", b"other")], 401),
        ([(b"Authorization", b"Bearer \xff\xfe")], 401),
    ],
)
async def test_one_good_key_is_let_in(fields: list[tuple[bytes, bytes]], status: int) -> None:
    async with backend(echo) as b, gate(b.url, policy()) as g:
        got, doc, reply = await ask(g, *fields)
        assert got == status
        x = await g.settled()
        if status == 200:
            assert (x.caller, x.tenant, x.labels) == ("alice", "acme", {"tier": "pro"})
            assert not {"authorization", "x-api-key", "api-key"} & {name for name, _ in doc}, "the key was for us"
        else:
            assert doc["error"]["code"] == "invalid_api_key" and doc["error"]["type"] == "authentication_error"
            assert reply.value(b"www-authenticate") == b"Bearer"
        lines = json.dumps(await g.log_lines())
        assert KEY not in lines and OTHER not in lines and digest(KEY) not in lines


async def test_the_backends_key_takes_its_place_and_pass_through_keeps_it() -> None:
    async with backend(echo) as b:
        async with gate({"local": {"url": b.url, "key": "sk-backend"}}, policy()) as g:
            assert ["authorization", "Bearer sk-backend"] in (await ask(g, BEARER))[1]
        async with gate(b.url, policy(pass_through=True)) as g:
            assert ["authorization", "Bearer " + KEY] in (await ask(g, BEARER))[1]


async def test_scopes_and_errors_in_the_apis_shape() -> None:
    async with backend(echo) as b, gate(b.url, policy(scopes={"/v1/models": "ai:list", "/v1/*": "ai:generate"})) as g:
        status, doc, _ = await ask(g, BEARER)
        assert (status, doc["error"]["code"]) == (403, "insufficient_scope") and "ai:list" in doc["error"]["message"]
        assert (await ask(g, BEARER, path="/v1/files"))[0] == 200
        assert (await ask(g, BEARER, path="/v1//models"))[0] == 403
        status, doc, _ = await ask(g, path="/v1/messages")
        assert status == 401 and doc["type"] == "error" and doc["error"]["type"] == "authentication_error"


async def test_nobody_in_particular_and_a_wrong_key() -> None:
    async with backend(echo) as b, gate(b.url, policy(anonymous={"tenant": "public"})) as g:
        assert (await ask(g))[0] == 200
        assert (await ask(g, (b"Authorization", b"Bearer wrong")))[0] == 401, "a wrong key is no anonymous caller"
        assert [(x.caller, x.tenant) for x in g.exchanges] == [(None, "public"), (None, None)]


async def test_addresses_and_certificates_count_from_trusted_proxies_alone() -> None:
    told = [(b"X-Forwarded-For", b"198.51.100.7"), (b"X-Cert", b"CN=alice,O=Acme"), (b"X-Verify", b"SUCCESS")]
    certificate = {"header": "X-Cert", "format": "dn", "verified_by": "X-Verify", "scopes": ["ai:generate"]}
    async with backend(echo) as b:
        async with gate(b.url, policy(certificate=certificate, trusted_proxies=["127.0.0.0/8"])) as g:
            status, doc, _ = await ask(g, *told)
            assert status == 200 and not {"x-cert", "x-verify"} & {name for name, _ in doc}
            x = g.exchanges[-1]
            assert (x.caller, x.tenant, x.address) == ("alice", "Acme", "198.51.100.7")
            assert (await ask(g, *told[:2]))[0] == 401
            assert (await ask(g, *told[:2], (b"X-Verify", b"FAILED")))[0] == 401
            assert (await ask(g, *told, (b"X-Cert", b"CN=mallory")))[0] == 401
        async with gate(b.url, policy(certificate=certificate, trusted_proxies=["10.0.0.0/8"])) as g:
            assert (await ask(g, *told))[0] == 401
            status, doc, _ = await ask(g, BEARER, *told)
            assert status == 200 and not {"x-cert", "x-verify"} & {name for name, _ in doc}
            assert g.exchanges[-1].address == "127.0.0.1"


async def test_a_key_taken_out_of_its_file_is_refused_without_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps({"keys": ROWS[:1]}))
    text = json.dumps({"callers": {"keys_file": str(file)}})
    async with backend(echo) as b, gate(b.url, text) as g:
        assert (await ask(g, BEARER))[0] == 200

        def put(content: str) -> None:
            (tmp_path / "new").write_text(content)
            os.replace(tmp_path / "new", file)

        put("keys: [{name: alice, sha256: nonsense}]")
        lines = await g.log_lines(2)
        rejected = next(line for line in lines if line.get("event") == "caller_keys_rejected")
        assert "64 hexadecimal digits" in rejected["error"] and "keys.yaml:1" in rejected["error"]
        assert (await ask(g, BEARER))[0] == 200, "the old keys stay"
        put(json.dumps({"keys": []}))
        seen = [line.get("event") for line in await g.log_lines(4)]
        assert "caller_keys_reloaded" in seen
        assert (await ask(g, BEARER))[0] == 401


async def test_a_key_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    async with backend(echo) as b:
        with pytest.raises(Exception, match=r"callers.*FileNotFoundError"):
            async with gate(b.url, json.dumps({"callers": {"keys_file": str(tmp_path / "none.yaml")}})):
                pass


async def test_the_openai_client_is_told_what_is_wrong() -> None:
    async with backend(echo) as b, gate(b.url, policy()) as g:
        client = openai.AsyncOpenAI(base_url=g.url + "/v1", api_key="wrong", max_retries=3)
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
        assert caught.value.code == "invalid_api_key"
        await client.close()
        assert len(g.exchanges) == 1, "and does not try again"
