"""Write a new model from data: its package under src/ and its tests."""

import argparse
import logging
import sys

from continuous_training import command
from continuous_training.new_model import creation
from continuous_training.new_model.dialogue import Dialogue
from continuous_training.new_model.frameworks import DEFAULT, FRAMEWORKS
from continuous_training.new_model.origin import Address
from continuous_training.new_model.roles import RoleOptions

log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> None:
    """Profile the data, choose the columns' roles, and write the files."""
    dialogue = Dialogue(interactive=sys.stdin.isatty())
    address = Address(arguments.files, arguments.table, arguments.query, arguments.warehouse)
    if address[:3] == (None, None, None):
        address = Address(files=dialogue.choose("from", "A CSV or Parquet file, or a folder of them", []))
    options = RoleOptions(arguments.time, arguments.target, tuple(arguments.key or ()), arguments.task)
    for folder in creation.create(arguments.name, address, options, arguments.framework, dialogue):
        print(folder)
    log.info("Next: read src/%s/training.yaml, then scripts/ct run -P MODEL=%s", arguments.name, arguments.name)


if __name__ == "__main__":
    parser = command.parser(
        f"{__doc__}\n\nOn a terminal it prompts for missing options; otherwise it chooses them from the data.",
        "ct new returns --from data/orders.csv --target returned",
        "ct new demand --table sales.orders --warehouse postgres://reader@db.example.com/shop --target amount",
        "ct new demand --query 'SELECT * FROM orders JOIN items USING (order_id)' --time placed --target amount",
    )
    parser.add_argument("name", metavar="NAME", help="the model, in lower case: src/NAME and tests/NAME")
    rows = parser.add_argument_group("where the rows are").add_mutually_exclusive_group()
    rows.add_argument(
        "--from", dest="files", metavar="PATH", help="a CSV or Parquet file, a folder of them, or a pattern"
    )
    rows.add_argument("--table", help="a table of the warehouse")
    rows.add_argument("--query", metavar="SQL", help="a SELECT in DuckDB's SQL")
    parser.add_argument(
        "--warehouse", metavar="URL", help="default: CT_WAREHOUSE_URL, else duckdb://.ct/warehouse.duckdb"
    )
    columns = parser.add_argument_group("what the columns are")
    columns.add_argument("--time", metavar="COLUMN", help="each row's time")
    columns.add_argument("--target", metavar="COLUMN", help="what is predicted")
    columns.add_argument("--key", metavar="COLUMN", action="append", help="what identifies a row; may be repeated")
    columns.add_argument("--task", choices=["classification", "regression"])
    parser.add_argument(
        "--framework", choices=FRAMEWORKS, default=DEFAULT, help="what the model is made with (default: %(default)s)"
    )
    command.start(main, parser)
