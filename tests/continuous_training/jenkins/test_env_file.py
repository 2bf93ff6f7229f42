"""The .env file of the stack: what is written comes back, and what a person wrote stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.jenkins import env_file

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text("ab $#'\"\\\n={}!`")


@given(given=st.dictionaries(NAMES, TEXTS))
def test_every_value_comes_back_as_it_was(given: dict[str, str]) -> None:
    assert env_file.parse(env_file.update("", given)) == given


@given(before=st.dictionaries(NAMES, TEXTS), new=st.dictionaries(NAMES, TEXTS))
def test_what_is_changed_is_changed_and_nothing_else(before: dict[str, str], new: dict[str, str]) -> None:
    text = env_file.update("# mine\n", before)
    after = env_file.update(text, new)
    assert env_file.parse(after) == before | new


def test_lines_of_a_person_stay_where_they_are() -> None:
    text = "# for the office\nCT_BUCKET=ours # not theirs\n\nA=1\nB='two words'"
    assert env_file.update(text, {"A": "2", "C": "3"}) == (
        "# for the office\nCT_BUCKET=ours # not theirs\n\nA=2\nB='two words'\nC=3\n"
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
def test_a_line_means_what_it_means_to_compose(line: str, value: str) -> None:
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
def test_a_malformed_line_is_told_by_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(UserError, match=r"^line 2 is not NAME=value: .*$") as refused:
        env_file.parse(f"OK=1\n{line}\n")
    assert line not in str(refused.value)
