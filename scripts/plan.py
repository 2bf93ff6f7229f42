"""Plan: decide whether there is anything new to learn."""

import argparse
import logging

from continuous_training import command, settings
from continuous_training.documents import Plan, Run, Snapshot
from continuous_training.registry import connection
from continuous_training.stages import plan


def main(_: argparse.Namespace) -> None:
    """Compare the fingerprint of this run with those already trained."""
    run, taken = Run.read(), Snapshot.read()
    made = plan.make(connection.open_client(), run, settings.load(run.model), taken, Plan.begin(run))
    made.write()
    words = {"train": "", "nothing": "Nothing new to learn: ", "answered": "Answered already: "}
    told = words[made.decision] + made.reason
    logging.getLogger(__name__).info("%s (fingerprint %s)", told, made.fingerprint[:12])


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct plan"))
