"""Refit: fit a better candidate once more on all rows, and hold the new model to it."""

import argparse
import logging

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Write which model is registered, as JSON and as text. If the refit is refused, that is the candidate."""
    from continuous_training.documents import REFIT_TEXT, Candidate, Refit, Run, Snapshot, Verdict, write_atomically
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings
    from continuous_training.stages import refit

    run = Run.read()
    settings, timer = load_settings(run.model), Refit.begin(run)
    document = refit.refit(
        connection.open_client(), run, settings, Snapshot.read(), Candidate.read(), Verdict.read(), timer
    )
    write_atomically(REFIT_TEXT, f"{document.summary}\n")
    document.write()
    logging.getLogger(__name__).info("%s", document.summary)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct refit"))
