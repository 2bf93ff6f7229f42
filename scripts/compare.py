"""Compare: judge the candidate against the champion on the same fresh rows."""

import argparse
import logging

from continuous_training import command, compare, registry, settings
from continuous_training.documents import Candidate, ModelCheck, Run, Snapshot, Stopwatch, write_atomically

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Write the verdict, and the same in words; a rejected candidate is a result, not an error."""
    run = Run.read()
    taken, candidate, checked, timer = Snapshot.read(), Candidate.read(), ModelCheck.read(), Stopwatch(run.build_tag)
    verdict = compare.judge(registry.open_client(), run, settings.load(run.model), taken, candidate, checked, timer)
    said = [*compare.in_words(verdict)]
    write_atomically(compare.IN_WORDS, "\n".join(said) + "\n")
    verdict.write()
    for line in said:
        log.info("%s", line)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct compare"))
