"""Snapshot: fetch this run's rows from the warehouse and keep them as Parquet."""

import argparse
import logging

from continuous_training import command, settings
from continuous_training.documents import Run, Snapshot
from continuous_training.stages import snapshot


def main(_: argparse.Namespace) -> None:
    """Take the snapshot of the run in build/run.json."""
    run = Run.read()
    taken = snapshot.take(run, settings.load(run.model), Snapshot.begin(run))
    taken.write()
    logging.getLogger(__name__).info(
        "%s rows to train on (%s to %s), %s fresh rows to judge by (to %s); snapshot %s",
        f"{taken.train.rows:,}",
        taken.since.date(),
        taken.fresh_since.date(),
        f"{taken.fresh.rows:,}",
        taken.until.date(),
        taken.hash[:12],
    )


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct snapshot"))
