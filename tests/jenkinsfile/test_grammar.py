"""A grammar's tables come from a cache, and a cache that is missing, foreign or not writable changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import lark
import pytest

from jenkinsfile.expressions import parser as expressions
from jenkinsfile.syntax import grammar, parser

GRAMMARS = [pytest.param(parser.GRAMMAR, id="pipeline"), pytest.param(expressions.GRAMMAR, id="expressions")]


@pytest.fixture(autouse=True)
def _no_grammar_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    grammar.load_grammar.cache_clear()
    yield
    grammar.load_grammar.cache_clear()


def _load_anew(path: Path) -> lark.Lark:
    grammar.load_grammar.cache_clear()
    return grammar.load_grammar(path)


@pytest.mark.parametrize("path", GRAMMARS)
def test_the_cached_tables_are_those_of_the_grammar(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = grammar.load_grammar(path)
    monkeypatch.setattr(grammar.lark, "Lark", _only_from_a_cache(grammar.lark.Lark))
    second = _load_anew(path)
    assert second.rules == first.rules
    assert second.parser.parser._parse_table.states.keys() == first.parser.parser._parse_table.states.keys()


def _only_from_a_cache(lark_class: type) -> type:
    class Lark(lark_class):
        def __init__(self, *_: object, **__: object) -> None:
            raise AssertionError("the tables were computed again")

    return Lark


def test_a_pipeline_parsed_with_cached_tables_is_the_same() -> None:
    source = (Path(__file__).parent / "samples" / "everything.Jenkinsfile").read_text()
    first = parser.parse(source)
    grammar.load_grammar.cache_clear()
    assert parser.parse(source) == first


@pytest.mark.parametrize("content", ["", "{", "[]", "[{}, {}]", json.dumps([{"parser": 1}, {"0": 2}])])
def test_a_cache_that_cannot_be_used_is_written_anew(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = grammar.load_grammar(parser.GRAMMAR)
    [cache] = (tmp_path / "cache" / "jenkinsfile").iterdir()
    cache.write_text(content)
    assert _load_anew(parser.GRAMMAR).rules == first.rules
    monkeypatch.setattr(grammar.lark, "Lark", _only_from_a_cache(grammar.lark.Lark))
    assert _load_anew(parser.GRAMMAR).rules == first.rules


@pytest.mark.parametrize("path", GRAMMARS)
def test_a_cache_folder_that_cannot_be_made_is_no_error(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert _load_anew(path).rules
