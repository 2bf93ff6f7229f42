"""The catalogue has the names and arguments that a real controller has."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from controller_symbols import REFERENCE, read_symbols
from jenkinsfile import catalogue
from jenkinsfile.syntax.model import Pipeline, Stage

LEGACY_ARGUMENTS = {("password", "defaultValue")}  # documented, and accepted beside the name that the controller lists
DECLARATIVE_OPTIONS = {  # options that are not properties of a job: wrappers, and those of the declarative plugin
    *("ansiColor", "newContainerPerStage", "parallelsAlwaysFailFast", "quietPeriod", "retry", "skipDefaultCheckout"),
    *("skipStagesAfterUnstable", "timeout", "timestamps"),
}


@pytest.fixture(scope="module")
def controller():
    return read_symbols()


@pytest.mark.parametrize(
    ("kind", "signatures"),
    [
        ("steps", {name: step.arguments for name, step in catalogue.STEPS.items()}),
        ("parameters", catalogue.PARAMETERS),
        ("whenConditions", catalogue.CONDITIONS | dict.fromkeys(catalogue.COMPOSITE_CONDITIONS, ())),
        ("jobProperties", {n: names for n, names in catalogue.OPTIONS.items() if n not in DECLARATIVE_OPTIONS}),
    ],
)
def test_names_and_arguments_are_those_of_the_controller(controller, kind, signatures):
    for name, arguments in signatures.items():
        symbol = controller[kind].get(name) or controller["publishers"][name]
        expected = {parameter["name"] for parameter in symbol["parameters"]}
        assert {argument for argument in arguments if (name, argument) not in LEGACY_ARGUMENTS} <= expected, name


def test_steps_have_a_body_where_the_steps_of_the_controller_do(controller):
    for name, step in catalogue.STEPS.items():
        if name in controller["steps"]:
            assert step.body == controller["steps"][name]["takesBlock"], name


@pytest.mark.parametrize(
    ("model", "definition", "schema_names"),
    [
        (Pipeline, "pipeline", {}),
        (Stage, "stage", {"steps": "branches", "fail_fast": "failFast"}),
    ],
)
def test_the_model_has_the_sections_of_the_official_schema(model, definition, schema_names):
    schema = json.loads((REFERENCE / "declarative-ast-schema.json").read_text())["definitions"][definition]
    sections = {schema_names.get(field.name, field.name) for field in fields(model)} - {"position"}
    assert sections == schema["properties"].keys()
