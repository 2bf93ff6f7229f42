"""Start the test cloud by hand: `python tests/continuous_training/cloud`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

from cloud.aws import Aws
from cloud.machine import ROOT, Machines
from cloud.mlflow_server import MlflowServer

EXAMPLE = """
Its instances execute their user data with bash on this machine, with the packages of .venv; shutdown ends them as on
EC2. When it is ready, it prints the environment variables for its use. Ctrl-C ends it:

  $ .venv/bin/python tests/continuous_training/cloud > cloud.env &   # wait until it is ready
  $ source cloud.env
  $ scripts/ct run -P COMPUTE=ec2
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/continuous_training/cloud",
        description="AWS (moto), EC2 machines and an MLflow server on this machine, until Ctrl-C.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minute",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="length of a minute of `shutdown -P +N` (default: 60)",
    )
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # background jobs of a shell ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="cloud-") as name:
        folder = Path(name)
        machines = folder / "machines"
        with (
            Aws() as aws,
            Machines(aws, machines, ROOT / ".venv", arguments.minute, log=_log),
            MlflowServer(folder) as mlflow,
        ):
            for variable, value in {**aws.environment, "MLFLOW_TRACKING_URI": mlflow.uri}.items():
                print(f"export {variable}={value}", flush=True)
            _log("ready; Ctrl-C ends it")
            signal.pause()


def _log(line: str) -> None:
    print(f"cloud: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
