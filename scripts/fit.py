"""Fit: the training entry point that MLproject names; `ct train` runs it."""

import argparse
from pathlib import Path

from continuous_training import command


def main(given: argparse.Namespace) -> None:
    """Fit the model on a snapshot and print the id of its MLflow run."""
    from continuous_training import fit  # MLflow takes seconds to import, --help should not

    print(fit.fit(given.model, given.snapshot))


if __name__ == "__main__":
    arguments = command.parser(str(__doc__), "ct fit --snapshot .ct/snapshots/1f2e3d4c5b6a7980")
    arguments.add_argument("--model", default="flight_delays", help="the package under src/ (default: %(default)s)")
    arguments.add_argument("--snapshot", type=Path, required=True, help="the folder of a snapshot")
    command.start(main, arguments)
