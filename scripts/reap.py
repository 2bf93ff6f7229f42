"""Reap: terminate forgotten EC2 instances, and delete the volumes and uploads that they left behind."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.errors import UsageError


def main(arguments: argparse.Namespace) -> None:
    """Terminate instances past their deadline, or all of a run; print the ids of what was terminated or deleted."""
    from continuous_training.compute.ec2 import reap
    from continuous_training.compute.ec2.aws import Aws

    run = _find_run() if arguments.run else None
    report = reap.reap(Aws(), os.environ.get("CT_BUCKET") or None, run, dry_run=arguments.dry_run)
    if arguments.json:
        print(report.model_dump_json())
    else:
        for name in (*report.instances, *report.volumes, *report.uploads):
            print(name)
    logging.getLogger(__name__).info(
        "%d instances, %d volumes, %d uploads", len(report.instances), len(report.volumes), len(report.uploads)
    )


def _find_run() -> str:
    """Return the run of BUILD_TAG, which is set however the run ended; else that of build/run.json."""
    from continuous_training.compute.ec2.tags import run_identifier
    from continuous_training.documents import Run

    if tag := os.environ.get("BUILD_TAG"):
        return run_identifier(tag, os.environ.get("BUILD_URL", ""))
    run = Run.find()
    if run is None:
        raise UsageError("--run needs a run: BUILD_TAG is not set, and there is no build/run.json")
    return run_identifier(run.build_tag, run.build_url)


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct reap", "ct reap --dry-run", "ct reap --run")
    parser.add_argument(
        "--run", action="store_true", help="terminate all instances of this workspace's run, past their deadline or not"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print which instances would be terminated")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
