"""The frame of every script: its arguments, its log, its errors and its exit code."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from continuous_training.errors import UsageError, UserError
from continuous_training.model_packages import default_model

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURE = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count
ENDED_FROM_OUTSIDE = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}


def parser(description: str, *examples: str) -> argparse.ArgumentParser:
    """Make the argument parser of one script.

    Args:
        description: what the script does.
        *examples: command lines at the end of `--help`, such as `ct run` or `AS_OF=2013-05-01 ct setup`; `ct` is
            printed with its folder, so that a line works as written at the root of the repository.
    """
    parser = argparse.ArgumentParser(
        prog=f"ct {Path(sys.argv[0]).stem.rstrip('_').replace('_', '-')}",
        description=description,
        epilog="\n".join(["examples:", *(f"  {_command_line(example)}" for example in examples)]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="log more, and show the traceback of an error")
    return parser


def _command_line(example: str) -> str:
    """Put the folder of `ct` before it, after variables of the environment such as `AS_OF=2013-05-01`."""
    return re.sub(r"^((?:[A-Z_]+=\S+ )*)ct\b", r"\1scripts/ct", example)


def add_model(arguments: argparse.ArgumentParser) -> None:
    """Add --model, which is the package under src/, and what its versions are registered as."""
    arguments.add_argument(
        "--model",
        type=_model,
        default="",
        help="the model, a package under src/ (default: MODEL, else the only model there is)",
    )


def _model(name: str) -> str:
    try:
        return name or default_model()
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_jenkins(arguments: argparse.ArgumentParser) -> None:
    """Add --jenkins, which is the same for all who ping."""
    arguments.add_argument(
        "--jenkins",
        metavar="URL",
        default=os.environ.get("CT_JENKINS_URL") or os.environ.get("JENKINS_URL") or "none",
        help="whom to ask for a training; none only shows the ping (default: CT_JENKINS_URL, JENKINS_URL, or none)",
    )


def start(body: Callable[[argparse.Namespace], int | None], arguments: argparse.ArgumentParser) -> NoReturn:
    """Parse the command line, run `body` and leave with its exit code (None is 0).

    Results belong on standard output, so the log goes to standard error. A UserError ends as one line, or one for each
    of its mistakes, and its own exit code; any other exception ends as one line that names its type, and with 1, for it
    is an error in this program.
    """
    given = arguments.parse_args()
    logging.basicConfig(level=logging.DEBUG if given.debug else logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not given.debug:
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MLflow sets its level when it is imported
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for chatty in ("alembic", "boto3", "botocore", "httpx", "s3transfer", "urllib3"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that what must be undone is undone
    try:
        code = body(given) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        sys.stderr.close()
        code = 0
    except Exception as error:
        if given.debug:
            raise
        if isinstance(error, UserError):
            message, code = str(error), error.exit_code
        else:
            message, code = " ".join(f"{type(error).__name__}: {error} (--debug shows where)".split()), FAILURE
        print(f"{arguments.prog}: error: {message}", file=sys.stderr)
    sys.exit(code)
