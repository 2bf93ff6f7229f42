"""Verify: examine versions in the registry, install their packages, and compare their golden predictions."""

import argparse
import json
import logging

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """Open each version in a process of its own, as Compare and a server do, and print what it is."""
    from continuous_training.registry import connection, model_versions
    from continuous_training.settings import load_settings
    from continuous_training.versions.examination import Policy
    from continuous_training.versions.opening import open_version

    client, policy = connection.open_client(), Policy(arguments.model, load_settings(arguments.model).model)
    errors, reports = [], []
    for name in arguments.version:
        look_up = model_versions.by_number if name.isdigit() else model_versions.by_alias
        try:
            version = look_up(client, arguments.model, name)
            if version is None:
                raise UserError("the registry has no such version")
            with open_version(version.uri, policy, version.run_id) as opened:
                opened.check_golden_predictions()
                manifest = opened.manifest
        except UserError as error:
            errors.append(f"{name} of {arguments.model}: {error}")
            continue
        report = {"version": version.number, "framework": manifest.framework, "python": manifest.python}
        reports.append({"name": arguments.model, **report, "packages": manifest.packages})
        log.info("Version %s of %s predicts as it did when it was made", version.number, arguments.model)
    if arguments.json:
        print(json.dumps(reports, indent=2))
    else:
        for each in reports:
            print(f"{each['name']} {each['version']}: {each['framework']}, Python {each['python']}, intact")
    if errors:
        raise UserError("; ".join(errors))


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct verify", "ct verify champion previous", "ct verify 12 --json")
    parser.add_argument(
        "version", nargs="*", default=["champion"], help="its number or alias in the registry (default: champion)"
    )
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects, with all packages")
    command.start(main, parser)
