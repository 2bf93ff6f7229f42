"""Plan: decide whether there is anything new to learn."""

import argparse
import logging

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Compare the fingerprint of this run with those of earlier trainings."""
    from continuous_training.documents import Plan, Run, Snapshot
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings
    from continuous_training.stages.plan import make_plan

    run, snapshot = Run.read(), Snapshot.read()
    plan = make_plan(connection.open_client(), run, load_settings(run.model), snapshot, Plan.begin(run))
    plan.write()
    prefix = {"train": "", "nothing": "Nothing new to train: ", "duplicate": "Repeated ping: "}[plan.decision]
    logging.getLogger(__name__).info("%s%s (fingerprint %s)", prefix, plan.reason, plan.fingerprint[:12])


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct plan"))
