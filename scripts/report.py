"""Report: write build/report.html, the page that tells a person what this run found and did."""

import argparse

from continuous_training import command, report


def main(_: argparse.Namespace) -> None:
    """Report on whatever documents the run has left in build/, wherever it stopped."""
    print(report.write())


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct report"))
