"""The cache of parse tables: it is written once, and a cache that cannot be used is ignored."""

from __future__ import annotations

import io

import lark
import pytest

from jenkinsfile.syntax.grammar import load_grammar
from jenkinsfile.syntax.parser import GRAMMAR
from local_build import pipeline

TEXT = pipeline("echo 'hello'")


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "jenkinsfile"


def load(grammar=GRAMMAR):
    return load_grammar.__wrapped__(grammar)  # without the cache of this process


def test_the_second_parser_comes_from_the_cache_and_parses_the_same(cache_folder):
    first = load()
    (cache,) = cache_folder.iterdir()
    written = cache.stat().st_mtime_ns
    second = load()
    assert second.parse(TEXT) == first.parse(TEXT)
    assert [terminal.name for terminal in second.terminals] == [terminal.name for terminal in first.terminals]
    assert cache.stat().st_mtime_ns == written
    assert cache_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x05N."], ids=["empty", "no pickle", "null"])
def test_a_broken_cache_is_replaced(cache_folder, content):
    load()
    (cache,) = cache_folder.iterdir()
    cache.write_bytes(content)
    assert load().parse(TEXT)
    assert lark.Lark.load(io.BytesIO(cache.read_bytes())).parse(TEXT)


def test_another_grammar_has_another_cache(cache_folder, tmp_path):
    load()
    changed = tmp_path / GRAMMAR.name
    changed.write_text(GRAMMAR.read_text() + "\n// a comment\n")
    load(changed)
    assert len([*cache_folder.iterdir()]) == 2


def test_without_a_writable_cache_folder_the_parser_works(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load().parse(TEXT)
