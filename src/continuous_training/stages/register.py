"""Register: create a version in the registry from the candidate, or from its refit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.documents import APPROVED_BY, Candidate, Refit, Registration, Run, Stopwatch, Verdict
from continuous_training.errors import UserError
from continuous_training.registry import holds, model_versions, promotion, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register(
    client: MlflowClient, run: Run, candidate: Candidate, verdict: Verdict, refit: Refit, timer: Stopwatch
) -> Registration:
    """Register the candidate or its refit under the alias `candidate`; the version belongs to the candidate's run.

    With PROMOTE=never the run ends here, and while the model is on hold, unless a person has decided otherwise.

    Raises:
        UserError: its verdict is not `promote`; PROMOTE=ask and it has no approval; or it was rolled back before
            and FORCE is not set; or the model's hold cannot be read.
    """
    if verdict.decision != "promote":
        raise UserError(f"the candidate was rejected ({verdict.message}): it is not registered")
    approval_tags = _approval_tags(run)
    for version in model_versions.by_run(client, run.model, candidate.run_id):
        promotion.require_not_rolled_back(version, force=run.force)
    tags = {
        "ct.verdict": verdict.decision,
        "ct.said": verdict.message,
        "ct.rules": verdict.summary,  # of the judged candidate
        "ct.refit": refit.summary,
        runs.TRAINED_UNTIL: refit.trained_until.isoformat(),
        "ct.build_tag": run.build_tag,
        **({"ct.accepted": verdict.acceptance.model_dump_json()} if verdict.acceptance else {}),
    } | approval_tags
    hold = holds.find(client, run.model)
    version = model_versions.register(client, run.model, candidate.run_id, refit.model_uri, tags)
    is_held = run.is_held(on_hold=hold is not None)
    if is_held:
        runs.set_outcome(client, candidate.run_id, runs.HELD)
    else:
        runs.clear_outcome(client, candidate.run_id)
    return Registration(
        name=version.name,
        model_version=version.number,
        decision="hold" if is_held else "promote",
        hold=hold,
        **timer.stop(),
    )


def _approval_tags(run: Run) -> dict[str, str]:
    """Return the tag with the approver's name, if approval is required."""
    if run.promote != "ask":
        return {}
    try:
        return {"ct.approved_by": APPROVED_BY.read_text(encoding="utf-8").strip()}
    except FileNotFoundError:
        raise UserError("PROMOTE=ask, and the candidate is not approved: restart the run from Approve") from None
