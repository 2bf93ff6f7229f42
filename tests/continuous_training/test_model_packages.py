"""The default model of a command."""

import argparse
from pathlib import Path

import pytest

from continuous_training import command
from continuous_training.errors import UsageError
from continuous_training.model_packages import default_model, list_models


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL", raising=False)
    Path("src/no_model").mkdir(parents=True)


def add(*names: str) -> None:
    for name in names:
        Path("src", name).mkdir()
        Path("src", name, "training.yaml").touch()


def parse(*arguments: str) -> str:
    parser = argparse.ArgumentParser()
    command.add_model(parser)
    return str(parser.parse_args(arguments).model)


def test_the_only_model_is_the_default() -> None:
    add("prices")
    assert list_models() == ["prices"]
    assert default_model() == parse() == "prices"


def test_the_environment_sets_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    add("prices", "demand")
    monkeypatch.setenv("MODEL", "demand")
    assert default_model() == parse() == "demand"


def test_an_option_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "demand")
    assert parse("--model", "prices") == "prices"


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "there is no model"), (("prices", "demand"), "MODEL must be set to one of them: demand, prices")],
)
def test_without_a_default_the_error_names_the_models(
    names: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add(*names)
    with pytest.raises(UsageError, match=message):
        default_model()
    with pytest.raises(SystemExit) as end:
        parse()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
