"""Monitor: examine what the champion is asked now, and ask Jenkins for a training if it has moved too far."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """Print what was found, and leave build/monitor.html, monitor.json and monitor/drift.html."""
    from continuous_training.monitoring import examination, page  # seconds that --help should not take
    from continuous_training.registry import connection

    page.forget()
    client, as_of = connection.open_client(), os.environ.get("AS_OF", "")
    examiner = examination.of(client, arguments.model, arguments.source, as_of)
    found = examiner.examine(arguments.jenkins, as_of.strip() or None)
    log.info("%s", page.write(client, found, examiner.given.monitor.history_length).resolve().as_uri())
    print(found.model_dump_json(indent=2) if arguments.json else found.summary)
    if found.asking and found.asking.preview and not arguments.json:
        print(found.asking.preview)
    if found.faults:
        raise UserError("; ".join(found.faults))


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct monitor",
        "ct monitor --source warehouse --jenkins none",
        "ct monitor --jenkins https://jenkins.example.com",
    )
    command.add_model(parser)
    parser.add_argument(
        "--source",
        choices=["log", "warehouse"],
        help="the predictions log, or the newest rows of the warehouse (default: what training.yaml says)",
    )
    command.add_jenkins(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
