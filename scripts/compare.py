"""Compare: judge the candidate against the champion on the same fresh rows."""

import argparse
import logging

from continuous_training import command
from continuous_training.documents import IN_WORDS, Candidate, ModelCheck, Run, Snapshot, Verdict, write_atomically
from continuous_training.registry import connection
from continuous_training.settings import load_settings

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Write the verdict, and the same in words; a rejected candidate is a result, not an error."""
    from continuous_training.stages import compare  # scikit-learn takes seconds to import, --help should not

    run = Run.read()
    snapshot, candidate, model_check, timer = Snapshot.read(), Candidate.read(), ModelCheck.read(), Verdict.begin(run)
    verdict = compare.judge(
        connection.open_client(), run, load_settings(run.model), snapshot, candidate, model_check, timer
    )
    write_atomically(IN_WORDS, verdict.in_words + "\n")
    verdict.write()
    log.info("%s", verdict.in_words)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct compare"))
