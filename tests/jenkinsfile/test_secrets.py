"""Credentials, and their masks in the console, the log and the record."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jenkinsfile.builds.console import Console, ScriptOutput
from jenkinsfile.builds.masking import Secrets
from local_build import pipeline, run_build

ENVIRONMENT = {"MY_TOKEN": "s3cr'et", "REGISTRY": "joe:pa55word", "KEY": "first line\n}\nsecond line"}
STEPS = """
withCredentials([string(credentialsId: 'my-token', variable: 'T'),
                 usernamePassword(credentialsId: 'registry', usernameVariable: 'U', passwordVariable: 'P'),
                 usernameColonPassword(credentialsId: 'registry', variable: 'UP'),
                 string(credentialsId: 'key', variable: 'K')]) {
    sh 'echo "$T"; echo "$U"; echo "$P" "$UP"; echo "$K"; printf "pa55"; printf "word\\n"'
    sh 'test "$UP" = "$U:$P" && env | grep -c "^MY_TOKEN" || echo hidden'
    echo "${T} ${env.P}"
    writeFile file: 'token', text: T
}
error "failed with ${MY}"
"""


def test_a_bound_credential_is_available_and_masked(tmp_path):
    outcome = run_build(
        tmp_path, pipeline(STEPS, "environment { MY = credentials('my-token') }"), environment=ENVIRONMENT
    )
    output = (
        "\n".join(outcome.lines) + (outcome.folder / "log").read_text() + (outcome.folder / "build.json").read_text()
    )
    for secret in ("s3cr", "pa55word", "first line", "second line"):
        assert secret not in output
    assert (tmp_path / "token").read_text() == ENVIRONMENT["MY_TOKEN"]
    assert {"joe", "hidden", "**** ****", "ERROR: failed with ****"} <= set(outcome.lines)


def test_a_username_with_password_sets_three_variables(tmp_path):
    text = pipeline("sh 'echo ${LOGIN_USR} ${#LOGIN_PSW} ${#LOGIN}'", "environment { LOGIN = credentials('registry') }")
    for environment in (ENVIRONMENT, {"REGISTRY_USR": "joe", "REGISTRY_PSW": "pa55word"}):
        assert "joe 8 12" in run_build(tmp_path, text, environment=environment).lines


def test_a_pass_through_credential_is_unset_if_its_variable_is_unset(tmp_path):
    text = pipeline("sh 'echo ${MY_TOKEN-unset}'", "environment { MY_TOKEN = credentials('my-token') }")
    assert "unset" in run_build(tmp_path, text).lines
    assert "****" in run_build(tmp_path, text, environment=ENVIRONMENT).lines


def test_the_description_is_masked(tmp_path):
    text = pipeline('script { currentBuild.setDescription("with ${MY}") }', "environment { MY = credentials('key') }")
    outcome = run_build(tmp_path, text, environment=ENVIRONMENT)
    assert outcome.record["description"] == "with ****"
    assert "second line" not in (outcome.folder / "log").read_text()


def test_a_url_with_a_colon_is_a_secret_text(tmp_path):
    text = pipeline("sh 'echo ${#URI} ${URI_PSW:-none}'", "environment { URI = credentials('uri') }")
    assert "21 none" in run_build(tmp_path, text, environment={"URI": "http://127.0.0.1:5000"}).lines


class RecordingConsole:
    def __init__(self):
        self.lines = []

    def line(self, text, **_options):
        self.lines.append(text)

    def progress(self, text, _label=""):
        self.lines.append(text)


@settings(max_examples=200)
@given(
    st.lists(st.text("ab+.$\\", min_size=1, max_size=6), min_size=1, max_size=4),
    st.text("ab+.$\\ \n", max_size=20),
    st.data(),
)
def test_no_secret_remains_after_masking(values, around, data):
    secrets = Secrets()
    for value in values:
        secrets.add(value)
    value = data.draw(st.sampled_from(values))
    text = secrets.mask(f"{around}{value}{around}").replace("****", "\0")
    assert not value.strip() or value.strip() not in text


@settings(max_examples=100)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_output_in_pieces_becomes_whole_lines(sizes):
    console, content = RecordingConsole(), b"before s3cret after\r\rs3cret\rs3cret again\n" * 2
    output, offset = ScriptOutput(console), 0
    for size in [*sizes, len(content)]:
        output.write(content[offset : offset + size])
        offset += size
    output.close()
    for line in console.lines:
        assert "s3cret" in line or not any(part in line for part in ("s3", "3c", "cr", "et")), line


def test_carriage_returns_update_the_terminal_and_not_the_log(tmp_path, capsys):
    console = Console(Secrets())
    console.log_to(tmp_path / "log")
    output = ScriptOutput(console)
    output.write(b"10%\r50%\r")
    output.write(b"100%\nnext")
    output.close()
    console.close()
    assert (tmp_path / "log").read_text() == "100%\nnext\n"
    assert capsys.readouterr().out == "100%\nnext\n"


@pytest.mark.parametrize("value", ["", "   ", "\n"])
def test_an_empty_secret_masks_nothing(value):
    secrets = Secrets()
    secrets.add(value)
    assert secrets.mask("a b\n c") == "a b\n c"
