"""Notify: tell the channel of SLACK_WEBHOOK_URL what became of the run."""

import argparse
import os

from continuous_training import command
from continuous_training.jenkins import notifications
from continuous_training.reports.page import HEADLINE


def main(arguments: argparse.Namespace) -> None:
    """Post the run's result, and what its report says in a line."""
    headline = HEADLINE.read_text(encoding="utf-8").strip() if HEADLINE.exists() else "there is no report"
    notifications.send(notifications.message(arguments.result, headline, os.environ))


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct notify FAILURE")
    parser.add_argument("result", metavar="RESULT", help="the run's result, as Jenkins has it")
    command.start(main, parser)
