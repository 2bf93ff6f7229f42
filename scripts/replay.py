"""Replay: run past months again, and compare the gate with never retraining, always promoting, and drift."""

import argparse
import logging

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Replay the months, in a workspace of their own; print a table and leave build/replay.html and .png."""
    from continuous_training.replay import months

    first, last = months.parse(arguments.first, "--from"), months.parse(arguments.last, "--to")
    from continuous_training.replay import loop, page, table  # seconds that --help should not take

    result = loop.replay(arguments.model, first, last, fresh=arguments.fresh, on_drift=arguments.drift)
    print(result.model_dump_json(indent=2) if arguments.json else table.table(result))
    for path in page.write(result):
        logging.getLogger(__name__).info("%s", path.resolve().as_uri())


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__), "ct replay --from 2013-04 --to 2013-12", "ct replay --from 2013-04 --to 2013-06 --json"
    )
    parser.add_argument("--from", dest="first", metavar="MONTH", required=True, help="the first month: 2013-04")
    parser.add_argument("--to", dest="last", metavar="MONTH", required=True, help="the last month: 2013-12")
    command.add_model(parser)
    parser.add_argument("--fresh", action="store_true", help="begin anew, whatever months are done already")
    parser.add_argument(
        "--without-drift",
        dest="drift",
        action="store_false",
        help="leave out the policy that retrains on drift, which goes through the same months once more, week by week",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command.start(main, parser)
