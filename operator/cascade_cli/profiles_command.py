"""`cascade profiles`: the engine profiles that come along, with their sources."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from cascade_cli.errors import DONE
from cascade_cli.pool import profile_documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `cascade profiles`."""
    parser.add_argument("--json", action="store_true", help="print the profiles whole, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the profiles; the exit status."""
    documents = profile_documents()
    if args.json:
        print(json.dumps(documents, indent=2))
        return DONE
    console = Console(highlight=False)
    for name, document in documents.items():
        with console.capture() as captured:
            console.print(name, style="bold")
            facts = Table.grid(padding=(0, 2))
            facts.add_column(width=8, style="dim")
            for key in ("model", "gpu", "engine", "source", "date"):
                facts.add_row(f"  {key}", document[key])
            console.print(facts)
        # As everywhere: a table is padded to the width of the terminal, text should not be.
        for line in captured.get().splitlines():
            print(line.rstrip())
    return DONE
