"""Remember: keep rows on which the model fails; every candidate must pass them from then on."""

import argparse
import os
from datetime import datetime

from continuous_training import command
from continuous_training.errors import UsageError


def main(arguments: argparse.Namespace) -> None:
    """Write the rows to tests/<model>/past_failures/, and print whether the champion passes them."""
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings, parse_as_of, time_windows
    from continuous_training.stages import remember

    if not arguments.reason.strip():
        raise UsageError("a reason is missing: set --reason 'late by a strike, predicted on time'")
    settings = load_settings(arguments.model)
    first, _, last = time_windows(settings.data, parse_as_of(os.environ.get("AS_OF", ""), settings.data.clock))
    conditions = {name: getattr(arguments, name) for name in ("min_probability", "max_error", "min_share")}
    memory = remember.remember(
        connection.open_client(),
        arguments.model,
        settings,
        remember.Selection(arguments.where, arguments.since or first, arguments.until or last, arguments.limit),
        remember.make_expectation(settings, **conditions),
        reason=arguments.reason,
        label=arguments.label,
        name=arguments.name,
    )
    rows = f"{len(memory.failure.rows):,} of {memory.matches:,} rows that match"
    passes = "" if memory.champion is None else f"; the champion {'passes' if memory.champion.passed else 'fails'}: "
    print(f"{memory.path}: {rows}{passes}{memory.champion.message if memory.champion else ''}; commit the file")


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct remember --where \"origin = 'JFK' AND wind_speed > 30\" --min-share 0.6 --reason 'storms at JFK'",
        "AS_OF=2013-05-01 ct remember --where 'late' --min-probability 0.2 --limit 50 --reason 'late ones'",
    )
    parser.add_argument("--where", required=True, help="a condition in SQL, of DuckDB, on the columns of the source")
    parser.add_argument("--reason", required=True, help="why they are remembered; the check is named after it")
    parser.add_argument("--since", type=datetime.fromisoformat, metavar="DATE", help="the default is a run's first row")
    parser.add_argument("--until", type=datetime.fromisoformat, metavar="DATE", help="the default is a run's last row")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="take at most N, evenly spread over time")
    parser.add_argument("--label", help="what is expected, in place of the rows' own target")
    parser.add_argument(
        "--min-probability",
        type=float,
        metavar="P",
        help="the least probability of the label; the default is that the label is the most probable class",
    )
    parser.add_argument(
        "--max-error", type=float, metavar="E", help="of a regression: the largest distance from the label"
    )
    parser.add_argument("--min-share", type=float, metavar="S", help="of the rows for which it must hold (default: 1)")
    parser.add_argument("--name", help="of the file (default: made of the reason)")
    command.add_model(parser)
    command.start(main, parser)
