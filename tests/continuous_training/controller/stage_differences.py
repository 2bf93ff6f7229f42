"""Differences between the stages of a build on Jenkins and those of a local run."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jenkinsfile.builds.records import StageRecord

SEPARATOR = " » "


def find_differences(jenkins: Iterable[StageRecord], local: Iterable[StageRecord]) -> list[str]:
    """Return a sentence for each stage whose name, position or result differs."""
    on_jenkins, locally = stage_results(jenkins), stage_results(local)
    differences = [f"«{name}» is a stage locally, not on Jenkins" for name in locally if name not in on_jenkins]
    differences += [f"«{name}» is a stage on Jenkins, not locally" for name in on_jenkins if name not in locally]
    differences += [
        f"«{name}» is {on_jenkins[name]} on Jenkins and {result} locally"
        for name, result in locally.items()
        if name in on_jenkins and on_jenkins[name] != result
    ]
    if not differences:
        differences = [
            f"«{jenkins_name}» runs on Jenkins where «{local_name}» runs locally"
            for jenkins_name, local_name in zip_longest(on_jenkins, locally)
            if jenkins_name != local_name
        ]
    return differences


def stage_results(stages: Iterable[StageRecord]) -> dict[str, str]:
    """Return each stage's result under its full name, parallel stages in alphabetical order.

    Stages inside a skipped one are left out, because only a local run records them.
    """
    results: dict[str, str] = {}
    parallel: dict[str, str] = {}
    parent = ""
    for stage in stages:
        if stage.depth:
            if results[parent] != Result.NOT_BUILT.name:
                parallel[f"{parent}{SEPARATOR}{stage.name}"] = stage.result
        else:
            results |= sorted(parallel.items())
            parallel = {}
            parent = stage.name
            results[parent] = stage.result
    return results | dict(sorted(parallel.items()))
