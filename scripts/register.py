"""Register: make the promoted candidate a version in the model registry."""

import argparse
import logging

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Register the model of build/refit.json, if the candidate's verdict is `promote`."""
    from continuous_training.documents import Candidate, Refit, Registration, Run, Verdict
    from continuous_training.registry import connection
    from continuous_training.stages import register

    run = Run.read()
    timer = Registration.begin(run)
    registration = register.register(
        connection.open_client(), run, Candidate.read(), Verdict.read(), Refit.read(), timer
    )
    registration.write()
    log = logging.getLogger(__name__)
    log.info("Registered as version %s of %s", registration.model_version, registration.name)
    if message := registration.hold_message:
        log.warning("%s", message)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct register"))
