"""Reap: end instances that were forgotten, and remove what they left behind."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.compute.ec2 import reap
from continuous_training.compute.ec2.account import identity
from continuous_training.compute.ec2.aws import Aws
from continuous_training.documents import Run
from continuous_training.errors import UsageError


def main(arguments: argparse.Namespace) -> None:
    """End what is past its deadline, or all that a run has; print the ids of what was ended."""
    run = _this_run() if arguments.run else None
    found = reap.reap(Aws(), os.environ.get("CT_BUCKET") or None, run, dry=arguments.dry_run)
    if arguments.json:
        print(found.model_dump_json())
    else:
        for name in (*found.instances, *found.volumes, *found.uploads):
            print(name)
    logging.getLogger(__name__).info(
        "%d instances, %d volumes, %d uploads", len(found.instances), len(found.volumes), len(found.uploads)
    )


def _this_run() -> str:
    """Return the run that the environment names, which is there however the run ended; else that of build/."""
    if tag := os.environ.get("BUILD_TAG"):
        return identity(tag, os.environ.get("BUILD_URL", ""))
    run = Run.find()
    if run is None:
        raise UsageError("which run? BUILD_TAG is not set, and there is no build/run.json")
    return identity(run.build_tag, run.build_url)


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct reap", "ct reap --dry-run", "ct reap --run")
    parser.add_argument(
        "--run", action="store_true", help="all that the run of this workspace has, past its deadline or not"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which instances would be ended")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
