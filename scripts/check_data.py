"""Check data: check the snapshot against training.yaml and the champion's snapshot; a failure ends the run."""

import argparse
import logging

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Check the snapshot in build/snapshot.json; raises a UserError if a check fails, after writing them all down."""
    from continuous_training.comparison.lineage import read_lineage
    from continuous_training.documents import DataCheck, Run, Snapshot
    from continuous_training.registry import connection, model_versions, runs
    from continuous_training.settings import load_settings
    from continuous_training.stages import check_data

    run, snapshot = Run.read(), Snapshot.read()
    timer = DataCheck.begin(run)
    client, settings = connection.open_client(), load_settings(run.model)
    runs.experiment_id(client, run.model)  # one that was deleted would fail the training
    champion = model_versions.by_alias(client, run.model, model_versions.CHAMPION)
    lineage = read_lineage(client, champion, settings) if champion else None
    document = DataCheck(checks=check_data.check(run, settings, snapshot, lineage), **timer.stop())
    document.write()
    for check in document.failures:
        log.error("✗ %s%s: %s", check.name, f" of {check.column}" if check.column else "", check.message)
        for row in check.rows:
            log.error("    %s", ", ".join(f"{name}={value}" for name, value in row.items()))
    if document.failures:
        raise UserError(f"{len(document.failures)} of {len(document.checks)} data checks failed: nothing is trained")
    log.info("All %d data checks passed", len(document.checks))


if __name__ == "__main__":
    other = "Not to be confused with ct data-check, which looks between runs whether new data call for one."
    command.start(main, command.parser(f"{__doc__}\n\n{other}", "ct check-data"))
