"""Monitor: check the champion for drift and performance loss, and ping Jenkins for a training if it needs one."""

import argparse
import logging
import os

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """End a probation, print the report, and write build/monitor.html, monitor.json and monitor/drift.html."""
    from continuous_training.monitoring import monitor, page  # imports take seconds, which --help does not need
    from continuous_training.registry import connection
    from continuous_training.stages import probation

    page.remove_outputs()
    client, as_of = connection.open_client(), os.environ.get("AS_OF", "")
    model_monitor = monitor.create_monitor(client, arguments.model, arguments.source, as_of)
    model_monitor.findings += probation.check(model_monitor)  # first: what follows is about the champion that remains
    report = model_monitor.check(arguments.jenkins, as_of.strip() or None)
    path = page.write_page(client, report, model_monitor.settings.monitor.history_length)
    log.info("%s", path.resolve().as_uri())
    print(report.model_dump_json(indent=2) if arguments.json else report.summary)
    if report.ping_result and report.ping_result.preview and not arguments.json:
        print(report.ping_result.preview)
    if report.errors:
        raise UserError("; ".join(report.errors))


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
        help="check the predictions log or the newest rows of the warehouse (default: monitor.source in training.yaml)",
    )
    command.add_jenkins(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
