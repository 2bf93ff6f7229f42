"""Train: train the candidate on the selected compute, as an MLflow run."""

import argparse
import logging

from continuous_training import command

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Train the candidate of build/plan.json."""
    from continuous_training.documents import Candidate, Plan, Run, Snapshot
    from continuous_training.formatting.generalization import describe_gap
    from continuous_training.formatting.scorers import format_score, plain_name
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings
    from continuous_training.stages import train

    run = Run.read()
    settings = load_settings(run.model)
    candidate = train.train(connection.open_client(), run, settings, Snapshot.read(), Plan.read(), Candidate.begin(run))
    candidate.write()
    metrics = ", ".join(f"{plain_name(name)} {format_score(value, name)}" for name, value in candidate.metrics.items())
    log.info("Candidate in MLflow run %s: %s", candidate.run_id, metrics)
    if gap := describe_gap(candidate.metrics, settings.compare.metric):
        log.warning("! %s", gap)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct train"))
