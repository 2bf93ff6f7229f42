"""The .env file of the stack: values are read unchanged, and other lines stay unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.jenkins import env_file

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text("ab $#'\"\\\n={}!`")


@given(values=st.dictionaries(NAMES, TEXTS))
def test_every_value_is_read_unchanged(values: dict[str, str]) -> None:
    assert env_file.parse(env_file.update("", values)) == values


@given(before=st.dictionaries(NAMES, TEXTS), new=st.dictionaries(NAMES, TEXTS))
def test_an_update_changes_only_its_values(before: dict[str, str], new: dict[str, str]) -> None:
    text = env_file.update("# mine\n", before)
    after = env_file.update(text, new)
    assert env_file.parse(after) == before | new


def test_other_lines_stay_unchanged() -> None:
    text = "# for the office\nCT_BUCKET=bucket # a comment\n\nA=1\nB='two words'"
    assert env_file.update(text, {"A": "2", "C": "3"}) == (
        "# for the office\nCT_BUCKET=bucket # a comment\n\nA=2\nB='two words'\nC=3\n"
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=", ""),
        ("A=a#b", "a#b"),
        ("A=two words # and a comment", "two words"),
        ("A='$HOME # \"x\"'", '$HOME # "x"'),
        (r'A="\$5 \"each\"\n" # with a comment', '$5 "each"\n'),
        (r"A=C:\temp", r"C:\temp"),
        ("A=1\nA=2", "2"),
    ],
)
def test_a_line_is_read_as_compose_reads_it(line: str, value: str) -> None:
    assert env_file.parse(line) == {"A": value}


@pytest.mark.parametrize(
    "line",
    [
        "hunter2",
        "A: 1",
        "export A=1",
        "A =1",
        "1A=1",
        "A='1",
        'A="1',
        "A=$HOME",
        'A="$HOME"',
        "A='1' 2",
        r"A='it\'s'",
        "A=#1",
    ],
)
def test_a_malformed_line_is_reported_with_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(UserError, match=r"^line 2 is not NAME=value: .*$") as error:
        env_file.parse(f"OK=1\n{line}\n")
    assert line not in str(error.value)
