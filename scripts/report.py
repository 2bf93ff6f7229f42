"""Report: write build/report.html, the page on this run, and its headline."""

import argparse

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Write the report from the documents in build/, at whichever stage the run stopped."""
    from continuous_training.reports import page

    print(page.write())


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct report"))
