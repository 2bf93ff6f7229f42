"""Deploy: make the registered version the champion, and wait until every server serves it."""

import argparse
import logging

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Deploy the version of build/registration.json."""
    from continuous_training.documents import Candidate, Deployment, Registration, Run, Verdict
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings
    from continuous_training.stages import deploy

    run = Run.read()
    timer = Deployment.begin(run)
    candidate, registration, verdict = Candidate.read(), Registration.read(), Verdict.read()
    settings = load_settings(run.model)
    log = logging.getLogger(__name__)
    try:
        deployment = deploy.deploy(connection.open_client(), run, settings, candidate, registration, verdict, timer)
    except deploy.OnHoldError as on_hold:  # a person's decision, and no failure of the run
        on_hold.registration.write()
        log.warning("%s", on_hold)
        return
    deployment.write()
    if deployment.hold_message:
        log.warning("%s", deployment.hold_message)
    log.info("Version %s is champion; send requests to %s/invocations", deployment.model_version, deployment.servers[0])


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct deploy", "SERVING_URLS=http://a:8000,http://b:8000 ct deploy"))
