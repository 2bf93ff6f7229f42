"""Replay: run past months again, and compare the gate with never retraining, always promoting, and drift."""

import argparse
import logging

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Replay the months in a separate workspace, print a table, and write build/replay.html and replay.png."""
    from continuous_training.replay import months

    first, last = months.parse_month(arguments.first, "--from"), months.parse_month(arguments.last, "--to")
    from continuous_training.replay import loop, page, table  # imports take seconds, which --help does not need

    result = loop.replay(arguments.model, first, last, fresh=arguments.fresh, with_drift=arguments.drift)
    print(result.model_dump_json(indent=2) if arguments.json else table.format_table(result))
    for path in page.write_page(result):
        logging.getLogger(__name__).info("%s", path.resolve().as_uri())


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__), "ct replay --from 2013-04 --to 2013-12", "ct replay --from 2013-04 --to 2013-06 --json"
    )
    parser.add_argument("--from", dest="first", metavar="MONTH", required=True, help="the first month: 2013-04")
    parser.add_argument("--to", dest="last", metavar="MONTH", required=True, help="the last month: 2013-12")
    command.add_model(parser)
    parser.add_argument("--fresh", action="store_true", help="start again, without the months that are finished")
    parser.add_argument(
        "--without-drift",
        dest="drift",
        action="store_false",
        help="skip the policy that retrains on drift, which is a second pass through the months, week by week",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command.start(main, parser)
