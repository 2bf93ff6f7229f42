"""Ant's file patterns, the format of `archiveArtifacts`, `junit` and `stash`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jenkinsfile.steps.file_patterns import find_files

if TYPE_CHECKING:
    from pathlib import Path

FILES = (
    "a.xml",
    "build/b.xml",
    "build/junit/c.xml",
    "build/junit/deep/d.xml",
    "build/e.json",
    ".git/f.xml",
    "src/g.xml",
)


@pytest.mark.parametrize(
    ("includes", "excludes", "names"),
    [
        ("build/junit/*.xml", "", "c"),
        ("./build/junit/*.xml", "", "c"),
        ("build/**/*.xml", "", "bcd"),
        ("build/", "", "bcde"),
        ("build/e.json", "", "e"),
        ("*.xml", "", "a"),
        ("**/*.xml", "", "abcdg"),
        ("**/junit/*", "", "c"),
        ("build/j*/**", "", "cd"),
        ("build/?.json, src/*.xml , build/e.json", "", "eg"),
        ("build/**, src/**", "**/*.json, build/junit/**", "bg"),
        (".git/*", "", ""),
        ("../*/a.xml", "", ""),
        ("no/such/*.xml", "", ""),
        ("a.xml/*", "", ""),
    ],
)
def test_files_match_as_on_jenkins(tmp_path: Path, includes: str, excludes: str, names: str) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert (
        "".join(path.stem for path in sorted(find_files(tmp_path, includes, excludes), key=lambda p: p.stem)) == names
    )


def test_an_absolute_path_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.xml").touch()
    assert find_files(tmp_path, f"{tmp_path}/*.xml") == []
