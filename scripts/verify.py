"""Verify: examine versions in the registry, install their packages, and compare their golden predictions."""

import argparse
import json
import logging
from typing import Any

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """Open each version in a process of its own, as Compare and a server do, and print what it is."""
    from continuous_training.registry import connection, holds

    reports, errors = [], []
    for name in arguments.version:
        try:
            reports.append(verify(arguments.model, name))
        except UserError as error:
            errors.append(f"{name} of {arguments.model}: {error}")
    if arguments.json:
        print(json.dumps(reports, indent=2))
    else:
        for report in reports:
            print("{name} {version}: {framework}, Python {python}, intact".format(**report))
    hold = holds.find_if_readable(connection.open_client(), arguments.model)
    if hold:
        log.info("%s; scripts/ct release ends this", hold.describe(arguments.model))
    if errors:
        raise UserError("; ".join(errors))


def verify(model: str, name: str) -> dict[str, Any]:
    """Open a version, compare its golden predictions, and return what it is.

    Raises:
        UserError: there is no such version, it cannot be opened, or it predicts something else.
    """
    from continuous_training.registry import connection, model_versions
    from continuous_training.settings import load_settings
    from continuous_training.versions.examination import Policy
    from continuous_training.versions.opening import open_version

    look_up = model_versions.by_number if name.isdigit() else model_versions.by_alias
    version = look_up(connection.open_client(), model, name)
    if version is None:
        raise UserError("the registry has no such version")
    with open_version(version.uri, Policy(model, load_settings(model).model), version.run_id) as opened:
        opened.check_golden_predictions()
        manifest = opened.manifest
    return {
        "name": model,
        "version": version.number,
        "framework": manifest.framework,
        "python": manifest.python,
        "packages": manifest.packages,
    }


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct verify", "ct verify champion previous", "ct verify 12 --json")
    parser.add_argument(
        "version", nargs="*", default=["champion"], help="its number or alias in the registry (default: champion)"
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects, with all packages")
    command.start(main, parser)
