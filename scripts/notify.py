"""Notify: post the result of the run to the channel of SLACK_WEBHOOK_URL."""

import argparse
import os

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Post the run's result and the headline of its report."""
    from continuous_training.jenkins import notifications
    from continuous_training.reports.page import HEADLINE

    headline = HEADLINE.read_text(encoding="utf-8").strip() if HEADLINE.exists() else "there is no report"
    notifications.send(notifications.format_message(arguments.result, headline, os.environ))


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct notify FAILURE")
    parser.add_argument("result", metavar="RESULT", help="the run's result in Jenkins, such as SUCCESS")
    command.start(main, parser)
