"""How answers are laid out on a terminal, and in a file that gets the same."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDEST: Final = 120
"""Columns beyond which prose is hard to read."""
NARROWEST: Final = 60
"""Columns that a table of which a column can be wrapped takes, if it needs them."""


def unpadded(text: str) -> Iterator[str]:
    """Its lines. Tables are padded to the width of the terminal; text in a file should not be."""
    return map(str.rstrip, text.splitlines())


def section(console: Console, title: str, *sentences: str) -> None:
    """A title with its sentences beside it, a line or more each."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7)
    grid.add_column(overflow="fold")
    for place, sentence in enumerate(sentences):
        grid.add_row(Text("" if place else title, style="bold"), Text(sentence))
    console.print(grid)


def indented(console: Console, *tables: Table) -> None:
    """Tables below each other, never cut."""
    width = console.width
    for table in tables:
        padded = Padding(table, (1, 0, 0, 2), expand=False)
        # In a narrow terminal a broken line can be read, a number that was cut cannot.
        console.width = WIDEST if all(one.no_wrap for one in table.columns) else NARROWEST
        console.width = max(width, console.measure(padded).maximum)
        console.print(padded)
    console.width = width
    console.print()


def borderless(first: str, *others: str) -> Table:
    """A table without lines: names to the left, numbers to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
