"""Fit: the training entry point of MLproject, which `ct train` runs."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuous_training import command
from continuous_training.errors import UserError
from continuous_training.fork_server import client

if TYPE_CHECKING:
    from continuous_training.registry.trials import Share


def main(arguments: argparse.Namespace) -> None:
    """Fit the model on a snapshot in a process of its own, and print the id of its MLflow run."""
    from continuous_training.compute import data_parallel, supervision
    from continuous_training.settings import load_settings

    if data_parallel.is_replica():
        with data_parallel.process_group() as number:
            _fit(arguments, is_first=number == 0)
        return
    limits = load_settings(arguments.model).compute
    with supervision.supervised(limits.max_hours):
        if limits.data_parallel:
            data_parallel.start_replicas()  # and end this program, if there are several GPUs
        _fit(arguments)


def _fit(arguments: argparse.Namespace, *, is_first: bool = True) -> None:
    from continuous_training.stages import fit  # MLflow takes seconds to import, which --help should not pay

    if arguments.share:
        if "MLFLOW_RUN_ID" not in os.environ:
            raise UserError("--share is for a training whose MLflow run is in MLFLOW_RUN_ID, and that is not set")
        fit.try_share(arguments.model, arguments.snapshot, os.environ["MLFLOW_RUN_ID"], arguments.share)
    elif is_first:
        print(fit.fit(arguments.model, arguments.snapshot, arguments.parameters))
    else:
        fit.replicate(arguments.model, arguments.snapshot, arguments.parameters)


def overrides(text: str) -> dict[str, Any]:
    """Read parameters from a JSON object."""
    try:
        parameters = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise argparse.ArgumentTypeError(f'{text} is not a JSON object: write it as {{"max_iter": 100}}')
    return parameters


def share(text: str) -> "Share":
    """Read a share of the trials."""
    from continuous_training.registry.trials import Share

    return Share.parse(text)


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct fit --snapshot .ct/snapshots/1f2e3d4c5b6a7980")
    command.add_model(parser)
    parser.add_argument("--snapshot", type=Path, required=True, help="the folder of a snapshot")
    parser.add_argument(
        "--parameters",
        type=overrides,
        default="{}",
        help="a JSON object that overrides the parameters of training.yaml",
    )
    parser.add_argument(
        "--share",
        type=share,
        metavar="1/2",
        help="only do this share of the trials of a grid or a search, for the training in the MLflow run MLFLOW_RUN_ID",
    )
    if client.is_usable(sys.argv[1:]):  # MLflow starts this script by itself, not by `ct`
        client.run("scripts/fit.py", sys.argv[1:])
    command.start(main, parser)
