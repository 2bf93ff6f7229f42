"""Print the reference of training.yaml, or its JSON schema."""

import argparse
import json

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Print one of the two, or write both to the files that the repository keeps."""
    from continuous_training.documents import write_atomically
    from continuous_training.settings import reference

    if arguments.write:
        for path, text in reference.files().items():
            write_atomically(path, text)
    elif arguments.schema:
        print(json.dumps(reference.schema(), indent=2, ensure_ascii=False))
    else:
        print(reference.markdown(), end="")


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct settings --markdown", "ct settings --schema", "ct settings --write")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--markdown", action="store_true", help="print the reference as Markdown (the default)")
    forms.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")
    forms.add_argument("--write", action="store_true", help="write both to src/continuous_training/settings/")
    command.start(main, parser)
