"""What differs between the stages of a run on Jenkins and those of one on this machine."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jenkinsfile.builds.records import StageRecord

ABOVE = " » "


def differences(jenkins: Iterable[StageRecord], here: Iterable[StageRecord]) -> list[str]:
    """Return a sentence for each stage that is not the same in both: its name, its place, its result."""
    there, mine = results(jenkins), results(here)
    found = [f"«{name}» is a stage here, and none on Jenkins" for name in mine if name not in there]
    found += [f"«{name}» is a stage on Jenkins, and none here" for name in there if name not in mine]
    found += [
        f"«{name}» is {there[name]} on Jenkins and {result} here"
        for name, result in mine.items()
        if name in there and there[name] != result
    ]
    if not found:
        found = [
            f"«{one}» comes on Jenkins where «{other}» comes here"
            for one, other in zip_longest(there, mine)
            if one != other
        ]
    return found


def results(stages: Iterable[StageRecord]) -> dict[str, str]:
    """Return each stage's result under its full name, those side by side in the order of their names.

    Only the record of a local run has the stages inside one that was skipped, so they are left out.
    """
    found: dict[str, str] = {}
    beside: dict[str, str] = {}
    above = ""
    for stage in stages:
        if stage.depth:
            if found[above] != Result.NOT_BUILT.name:
                beside[f"{above}{ABOVE}{stage.name}"] = stage.result
        else:
            found |= sorted(beside.items())
            beside = {}
            above = stage.name
            found[above] = stage.result
    return found | dict(sorted(beside.items()))
