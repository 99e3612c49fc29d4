"""Walking documents: dotted paths, allowed parameters, control characters, addresses."""

from __future__ import annotations

from typing import Any

import pytest

from policies.document import AllowTree, DottedPath, MediaHosts, has_control, media_urls, shown, strings

DOC = {
    "model": "m",
    "seed": None,
    "stream_options": {"include_usage": True, "other": None},
    "messages": [{"role": "user", "name": "a"}, {"role": "user", "name": "b"}, 5],
    "stop": ["x", "y"],
    "empty": [],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("model", ["m"]),
        ("seed", []),
        ("nothing", []),
        ("stream_options.include_usage", [True]),
        ("stream_options.other", []),
        ("stream_options.*", [True]),
        ("messages.name", ["a", "b"]),
        ("m*.n?me", ["a", "b"]),
        ("stop", [["x", "y"]]),
        ("empty", [[]]),
        ("model.x", []),
    ],
)
def test_dotted_paths(path: str, values: list[Any]) -> None:
    found = list(DottedPath(path).find(DOC))
    assert sorted(map(repr, found)) == sorted(map(repr, values))
    assert DottedPath(path).within(DOC) is bool(values)


@pytest.mark.parametrize(
    ("allow", "doc", "denied"),
    [
        (["a"], {"a": {"x": 1}}, None),
        (["a"], {"a": 1, "b": 2}, "b"),
        (["a"], {"b": None}, None),
        (["a*"], {"abc": 1}, None),
        (["a.x"], {"a": {"x": 1}}, None),
        (["a.x"], {"a": {"x": 1, "y": None}}, None),
        (["a.x"], {"a": {"y": 1}}, "a.y"),
        (["a.x"], {"a": 5}, None),
        (["a.x"], {"a": [{"x": 1}, {"z": 1}]}, "a.z"),
        (["a.x", "a"], {"a": {"y": 1}}, None),
        (["a.x.y"], {"a": {"x": {"y": 1}}}, None),
        (["a.x.y"], {"a": {"x": {"q": 1}}}, "a.x.q"),
        (["a.x.*"], {"a": {"x": {"q": 1}}}, None),
        (["a.b"], {"a.b": 1}, "a.b"),
    ],
)
def test_allowed_parameters(allow: list[str], doc: dict[str, Any], denied: str | None) -> None:
    assert AllowTree(allow).denied(doc) == denied


def test_strings_include_keys_at_any_depth() -> None:
    assert sorted(strings({"a": ["b", {"c": 1, "d": "e"}], "f": None})) == ["a", "b", "c", "d", "e", "f"]
    doc: Any = "end"
    for _ in range(50_000):
        doc = [doc]
    assert list(strings(doc)) == ["end"]
    assert list(media_urls(doc)) == []


@pytest.mark.parametrize("code", range(0x100))
def test_control_characters(code: int) -> None:
    control = (code < 0x20 and chr(code) not in "\t\n\r") or 0x7F <= code <= 0x9F
    assert has_control(f"a{chr(code)}b\n") is control


def test_text_of_all_scripts_has_no_control_characters() -> None:
    assert not has_control("Grüße, 你好, עִבְרִית, 👩‍👩‍👧, \u2028\u200b\ufeff\u00a0")


@pytest.mark.parametrize(
    ("name", "same"),
    [("n", True), ("a.b-c_9", True), ("4111", False), ("a b", False), ("é", False), ("x" * 65, False), ("", False)],
)
def test_only_names_are_shown(name: str, same: bool) -> None:
    assert shown(name) == (name if same else None)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "image_url", "image_url": {"url": "u", "detail": "low"}}, [("image_url", "u")]),
        ({"type": "input_image", "image_url": "u"}, [("image_url", "u")]),
        ({"audio_url": {"url": "u"}}, [("audio_url", "u")]),
        ({"video_url": {"url": "u"}}, [("video_url", "u")]),
        ({"type": "input_file", "file_url": "u"}, [("file_url", "u")]),
        ({"type": "image", "source": {"type": "url", "url": "u"}}, [("source", "u")]),
        ({"type": "image", "source": {"type": "base64", "data": "u"}}, []),
        ({"type": "mcp", "server_url": "u"}, [("server_url", "u")]),
        ({"image_url": ["u", {"url": "v"}]}, [("image_url", "u"), ("image_url", "v")]),
        ({"image_url": {"url": 5}}, [("image_url", 5)]),
        ({"image_url": {"url": None}}, []),
        ({"image_url": None}, []),
        ({"properties": {"image_url": {"type": "string"}}}, []),
        ({"source": "a book"}, []),
        ({"input_audio": {"data": "AAAA", "format": "wav"}}, []),
        ({"deep": [[{"image_url": "u"}]]}, [("image_url", "u")]),
    ],
)
def test_addresses_that_a_server_may_fetch(part: dict[str, Any], found: list[tuple[str, Any]]) -> None:
    doc = {"messages": [{"role": "user", "content": [part]}]}
    assert list(media_urls(doc)) == found


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64,AAAA",
        "DATA:text/plain,x",
        "https://cdn.example.com/a.png",
        "http://cdn.example.com",
        "HTTPS://CDN.Example.COM:443/a?b#c",
        "https://cdn.example.com./a",
        "https://a.b.img.example.org/@user/x",
        "http://[::1]:80/x",
    ],
)
def test_allowed_addresses(address: str) -> None:
    assert MediaHosts(["cdn.example.com", "*.IMG.example.org", "[[]::1]", "[::1]"]).allows(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/a",
        "https://evil.example/cdn.example.com",
        "https://cdn.example.com.evil.example/",
        "https://cdn.example.com@evil.example/",
        "https://user:pass@cdn.example.com/",
        "https://cdn.example.com\\@evil.example/",
        "https://cdn.example.com#@evil.example/",
        "https://cdn.example.com?@evil.example/",
        "https://cdn.example.com:80:90/",
        "https://cdn.example.com/a b",
        "https://cdn.example.com/\n",
        "https://cdn.example.com\n",
        "\thttps://cdn.example.com/",
        "https:/cdn.example.com/",
        "https:cdn.example.com",
        "//cdn.example.com/",
        "ftp://cdn.example.com/",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f000001/",
        "http://cdn。example.com/",
        "/relative",
        "",
        None,
        5,
        ["https://cdn.example.com/"],
    ],
)
def test_refused_addresses(address: Any) -> None:
    assert not MediaHosts(["cdn.example.com"]).allows(address)
    assert not MediaHosts([]).allows(address)
