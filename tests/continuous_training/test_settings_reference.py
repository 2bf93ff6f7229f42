"""The reference of training.yaml, its JSON schema and its examples agree with the code."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from conftest import TIMEOUT
from continuous_training.settings import Settings, parse_settings, reference
from continuous_training.settings.section import Section, keys, section_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(reference.EXAMPLES.glob("*.yaml"))


def all_sections() -> list[type[Section]]:
    sections: list[type[Section]] = [Settings]
    for section in sections:
        children = (section_of(field.annotation) for field in keys(section).values())
        sections += [child for child in children if child and child not in sections]
    return sections


@pytest.mark.parametrize("path", reference.files(), ids=lambda path: path.name)
def test_the_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference.files()[path], "run scripts/ct settings --write"


@pytest.mark.parametrize("section", all_sections())
def test_every_key_is_described(section: type[Section]) -> None:
    assert section.__doc__
    for name, field in keys(section).items():
        child = section_of(field.annotation)
        assert field.description or (child and child.__doc__), f"{section.__name__}.{name}"


def test_the_reference_has_every_key() -> None:
    text = reference.markdown()
    for section in all_sections():
        for name, field in keys(section).items():
            if field.description:
                assert f"\n| `{name}` | " in text, f"{section.__name__}.{name}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid_and_complete(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    settings = parse_settings(text, path)
    assert settings.model.task == {"multi-class": "classification"}.get(path.stem, path.stem)
    assert text in reference.markdown()


def test_the_examples_are_of_all_tasks() -> None:
    assert {path.stem for path in EXAMPLES} == {"classification", "multi-class", "regression"}


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(reference.schema())


class TestSchema:
    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_it_accepts_the_examples(self, validator, path: Path) -> None:
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    @pytest.mark.parametrize(
        ("old", "new"),
        [("model:", "modl:"), ("train_days: 180", "train_days: soon"), ("task: regression", "task: regresion")],
    )
    def test_it_rejects_mistakes(self, validator, old: str, new: str) -> None:
        text = (reference.EXAMPLES / "regression.yaml").read_text(encoding="utf-8")
        assert old in text
        assert not validator.is_valid(yaml.safe_load(text.replace(old, new)))


@pytest.mark.parametrize(("option", "start"), [("--markdown", "# Reference of training.yaml\n"), ("--schema", "{\n")])
def test_the_command_prints_the_reference_or_the_schema(option: str, start: str) -> None:
    command = [sys.executable, ROOT / "scripts/settings.py", option]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
    assert output.startswith(start)
    if option == "--schema":
        assert json.loads(output) == json.loads(reference.SCHEMA.read_text(encoding="utf-8"))
