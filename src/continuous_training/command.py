"""The common part of all scripts: arguments, logging, errors and exit codes."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from continuous_training.errors import UsageError, UserError
from continuous_training.fork_server.client import DEFAULTS
from continuous_training.model_packages import default_model

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURE = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count
OBJECTS_BETWEEN_COLLECTIONS = 50_000  # with Python's 700, an import of MLflow takes a tenth longer
SIGNAL_EXIT_CODES = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}


def parser(description: str, *examples: str) -> argparse.ArgumentParser:
    """Return the argument parser of a script.

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
    """Add --model: the package under src/, and the name in the registry."""
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
    """Add --jenkins, for the scripts that send pings."""
    arguments.add_argument(
        "--jenkins",
        metavar="URL",
        default=os.environ.get("CT_JENKINS_URL") or os.environ.get("JENKINS_URL") or "none",
        help="the Jenkins to send a ping to; none only prints the ping (default: CT_JENKINS_URL, JENKINS_URL, or none)",
    )


def start(main: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser) -> NoReturn:
    """Parse the command line, run `main` and exit with its exit code (None is 0).

    Results go to standard output, so the log goes to standard error. A UserError is printed as one line, or one line
    per mistake, and exits with its own code. Any other exception is a defect of this program: it is printed as one line
    with its type, and exits with 1.
    """
    arguments = parser.parse_args()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO, format="%(message)s", stream=sys.stderr
    )
    _configure_libraries(debug=arguments.debug)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # run the cleanup of context managers
    try:
        code = main(arguments) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has exited
        sys.stderr.close()
        code = 0
    except Exception as error:
        if arguments.debug:
            raise
        code = _signal_exit_code(error) or _report(parser.prog, error)
    sys.exit(code)


def _report(program: str, error: Exception) -> int:
    """Print an error as one line, or one line per mistake; return its exit code."""
    if isinstance(error, UserError):
        message, code = str(error), error.exit_code
    else:
        message, code = " ".join(f"{type(error).__name__}: {error} (--debug shows where)".split()), FAILURE
    print(f"{program}: error: {message}", file=sys.stderr)
    return code


def _signal_exit_code(error: BaseException | None) -> int | None:
    """Return the exit code of a signal that a library has turned into its own error, as DuckDB does."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(error, SystemExit) and error.code in SIGNAL_EXIT_CODES:
            return int(error.code)
        error = error.__cause__
    return None


def _configure_libraries(*, debug: bool) -> None:
    """Set the variables of libraries that the caller has not set, and keep their logs quiet without --debug."""
    quiet = {"MLFLOW_LOGGING_LEVEL": "INFO"} if debug else {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    for name, value in (DEFAULTS | quiet).items():
        os.environ.setdefault(name, value)
    for name in () if debug else ("alembic", "boto3", "botocore", "httpx", "s3transfer", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
