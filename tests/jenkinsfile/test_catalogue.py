"""What a local run knows is what a real controller knows, by the same names."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from jenkinsfile import catalogue
from jenkinsfile.syntax.model import Pipeline, Stage
from symbols import REFERENCE, symbols

OLDER_NAMES = {("password", "defaultValue")}  # documented, and accepted beside the name that the controller lists
OF_THE_STRUCTURE = {  # options that are no properties of a job: wrappers, and those of the declarative plugin
    *("ansiColor", "newContainerPerStage", "parallelsAlwaysFailFast", "quietPeriod", "retry", "skipDefaultCheckout"),
    *("skipStagesAfterUnstable", "timeout", "timestamps"),
}


@pytest.fixture(scope="module")
def controller():
    return symbols()


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("steps", {name: step.arguments for name, step in catalogue.STEPS.items()}),
        ("parameters", catalogue.PARAMETERS),
        ("whenConditions", catalogue.CONDITIONS | dict.fromkeys(catalogue.CONDITIONS_OF_CONDITIONS, ())),
        ("jobProperties", {name: given for name, given in catalogue.OPTIONS.items() if name not in OF_THE_STRUCTURE}),
    ],
)
def test_names_and_arguments_are_the_controllers(controller, kind, known):
    for name, arguments in known.items():
        real = controller[kind].get(name) or controller["publishers"][name]
        taken = {parameter["name"] for parameter in real["parameters"]}
        assert {one for one in arguments if (name, one) not in OLDER_NAMES} <= taken, name


def test_steps_take_a_body_where_the_controllers_do(controller):
    for name, step in catalogue.STEPS.items():
        if name in controller["steps"]:
            assert step.body == controller["steps"][name]["takesBlock"], name


@pytest.mark.parametrize(
    ("model", "definition", "own"),
    [
        (Pipeline, "pipeline", {}),
        (Stage, "stage", {"steps": "branches", "fail_fast": "failFast"}),
    ],
)
def test_the_model_has_the_sections_of_the_official_schema(model, definition, own):
    schema = json.loads((REFERENCE / "declarative-ast-schema.json").read_text())["definitions"][definition]
    named = {own.get(field.name, field.name) for field in fields(model)} - {"position"}
    assert named == schema["properties"].keys()
