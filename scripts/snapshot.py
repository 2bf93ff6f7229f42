"""Snapshot: fetch this run's rows from the warehouse and keep them as Parquet."""

import argparse
import logging

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Take the snapshot of the run in build/run.json."""
    from continuous_training.documents import Run, Snapshot
    from continuous_training.settings import load_settings
    from continuous_training.stages.snapshot import take_snapshot

    run = Run.read()
    snapshot = take_snapshot(run, load_settings(run.model), Snapshot.begin(run))
    snapshot.write()
    logging.getLogger(__name__).info(
        "%s training rows (%s to %s), %s fresh rows (to %s); snapshot %s",
        f"{snapshot.train.rows:,}",
        snapshot.since.date(),
        snapshot.fresh_since.date(),
        f"{snapshot.fresh.rows:,}",
        snapshot.until.date(),
        snapshot.hash[:12],
    )


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct snapshot"))
