"""Plan: decide whether there is anything new to learn."""

import argparse
import logging

from continuous_training import command, plan, registry, settings
from continuous_training.documents import Plan, Run, Snapshot


def main(_: argparse.Namespace) -> None:
    """Compare the fingerprint of this run with those already trained."""
    run, taken = Run.read(), Snapshot.read()
    made = plan.make(registry.open_client(), run, settings.load(run.model), taken, Plan.begin(run))
    made.write()
    told = {"train": made.reason, "nothing": f"Nothing new to learn: {made.reason}"}[made.decision]
    logging.getLogger(__name__).info("%s (fingerprint %s)", told, made.fingerprint[:12])


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct plan"))
