"""Set up: clear build/ and write the parameters of this run."""

import argparse

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Write build/run.json from MODEL, AS_OF, COMPUTE, FORCE, PROMOTE, ROLLBACK, HOLD, ACCEPT, TRIGGER and REASON."""
    from continuous_training.stages import set_up

    set_up.begin().write()


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct setup", "AS_OF=2013-05-01 ct setup"))
