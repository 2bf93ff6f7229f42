"""The Jenkinsfiles fit the schema of the declarative plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema_rs import Draft4Validator

from conftest import ROOT
from jenkinsfile.syntax.parser import parse
from syntax_tree import Node, syntax_tree

FILES = [
    ROOT / "Jenkinsfile",
    *sorted((ROOT / "jenkins").glob("*.Jenkinsfile")),
    *sorted((ROOT / "tests/jenkinsfile/samples").glob("*.Jenkinsfile")),
]
SMALL = """pipeline {
    agent any
    triggers {
        cron('H 2 * * *')
    }
    stages {
        stage('A') {
            steps {
                sh label: 'B', script: "echo ${C}"
            }
        }
    }
}
"""


@pytest.fixture(scope="module")
def schema() -> Draft4Validator:
    return Draft4Validator(json.loads((ROOT / "tests/jenkinsfile/reference/declarative-ast-schema.json").read_text()))


def tree(text: str) -> Node:
    return syntax_tree(parse(text, "Jenkinsfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_jenkinsfile_fits_the_schema(schema: Draft4Validator, path: Path) -> None:
    assert [error.message for error in schema.iter_errors(tree(path.read_text()))] == []


def test_a_pipeline_has_the_syntax_tree_of_a_controller() -> None:
    assert tree(SMALL) == {
        "pipeline": {
            "agent": {"type": "any"},
            "triggers": {
                "triggers": [{"name": "cron", "arguments": [{"isLiteral": True, "value": "H 2 * * *"}]}],
            },
            "stages": [
                {
                    "name": "A",
                    "branches": [
                        {
                            "name": "default",
                            "steps": [
                                {
                                    "name": "sh",
                                    "arguments": [
                                        {"key": "label", "value": {"isLiteral": True, "value": "B"}},
                                        {"key": "script", "value": {"isLiteral": False, "value": '"echo ${C}"'}},
                                    ],
                                }
                            ],
                        }
                    ],
                }
            ],
        }
    }


@pytest.mark.parametrize("section", ["agent", "stages"])
def test_a_pipeline_without_a_required_section_does_not_fit(schema: Draft4Validator, section: str) -> None:
    invalid_tree = tree(SMALL)
    del invalid_tree["pipeline"][section]
    assert not schema.is_valid(invalid_tree)


def test_an_unknown_section_does_not_fit(schema: Draft4Validator) -> None:
    invalid_tree = tree(SMALL)
    [stage] = invalid_tree["pipeline"]["stages"]
    stage["stepz"] = stage.pop("branches")
    assert not schema.is_valid(invalid_tree)
