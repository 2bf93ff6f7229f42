"""`currentBuild`: the properties and methods of the running build in expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import Result
from jenkinsfile.expressions.values import EvaluationError, Value
from jenkinsfile.steps.input_step import current_user

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Context

USER_CAUSE = "UserIdCause"
RESTART_CAUSE = "org.jenkinsci.plugins.pipeline.modeldefinition.causes.RestartDeclarativePipelineCause"


class CurrentBuild(Mapping[str, Value]):
    """`currentBuild`. Its `result` is null while the build is successful, as on Jenkins."""

    def __init__(self, context: Context) -> None:
        self._context = context
        build = context.build
        result = max(build.result, context.stage.result)
        previous = build.previous.result
        self._values: dict[str, Value] = {
            "number": build.record.number,
            "id": str(build.record.number),
            "displayName": f"#{build.record.number}",
            "fullDisplayName": f"{context.environment.get('JOB_NAME', '')} #{build.record.number}",
            "projectName": context.environment.get("JOB_NAME"),
            "result": None if result is Result.SUCCESS else result.name,
            "currentResult": result.name,
            "description": build.record.description,
            "absoluteUrl": context.environment.get("BUILD_URL"),
            "previousBuild": None if previous is None else {"result": previous.name},
        }

    @property
    def causes(self) -> list[dict[str, Value]]:
        """The causes of the build: the user, and the origin of a restart."""
        user, record = current_user(), self._context.build.record
        causes: list[dict[str, Value]] = [
            {
                "_class": f"hudson.model.Cause${USER_CAUSE}",
                "shortDescription": f"Started by user {user}",
                "userId": user,
                "userName": user,
            }
        ]
        if record.origin_build is not None:
            causes.append(
                {
                    "_class": RESTART_CAUSE,
                    "shortDescription": f"Restarted from build #{record.origin_build}, stage {record.origin_stage}",
                    "originRunNumber": record.origin_build,
                    "originStage": record.origin_stage,
                }
            )
        return causes

    def set_description(self, description: str) -> None:
        """Set the description of the build, masked."""
        self._context.build.record.description = self._context.console.secrets.mask(description)
        self._context.build.save()
        self._context.log(f"description: {description}")

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, _default: Value = None) -> Value:
        """Return a property. Raises EvaluationError, and does not return null, for one that is not supported."""
        if name not in self._values:
            raise EvaluationError(f"currentBuild has no property '{name}' that a local run supports")
        return self._values[name]
