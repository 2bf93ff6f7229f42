"""Report: write build/report.html, the page that tells a person what this run found and did, and its headline."""

import argparse

from continuous_training import command
from continuous_training.reports import page


def main(_: argparse.Namespace) -> None:
    """Report on whatever documents the run has left in build/, wherever it stopped."""
    print(page.write())


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct report"))
