"""Release: end the hold of a model, so that runs promote better versions again."""

import argparse

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Release the model, and print which hold has ended; a model that is not on hold is no error."""
    from continuous_training.documents import Stopwatch, is_run_of
    from continuous_training.registry import connection
    from continuous_training.stages import hold

    status = hold.release(connection.open_client(), arguments.model, Stopwatch.of_environment())
    if is_run_of("release", status.build_tag):
        status.write()
    print(status.model_dump_json(indent=2) if arguments.json else status.message)


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct release", "ct release --model flight_delays --json")
    command.add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    command.start(main, parser)
