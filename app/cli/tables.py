"""Prints tables and fields for people. Rich lays them out: it knows that Korean characters and emoji take two cells.

On a terminal a table fits the window and long texts are folded. In a file or a pipe each row is one line of plain
text.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough for a SHA-256 digest in hexadecimal, which is useless when it is cut.
MAX_CELL = 64
# In cells: the least width of a column of text beside ids that must not fold, and the gap between two columns.
MIN_COLUMN, GAP = 8, 2
# No line of plain text reaches this width, so Rich never folds one.
PLAIN_WIDTH = 100_000


def console() -> Console:
    """Return a console on standard output. Markup is off, since rows may contain `[` and `:` as plain text."""
    output = Console(highlight=False, markup=False, emoji=False)
    if output.is_terminal:
        return output
    # Plain lines for `grep` and `cut`: no folding, no colours.
    return Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH, no_color=True)


def print_table(rows: Iterable[dict], names: Sequence[str], output: Console | None = None) -> None:
    """Print a table with a row for each resource.

    Args:
        rows: The resources.
        names: The fields to show as columns; `counts.accepted` reads a nested field.
        output: The console, standard output by default.
    """
    output = output or console()
    lines = [[format_cell(get_value(row, name)) for name in names] for row in rows]
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(names)
    # Ids are copied into the next command, so they must stay complete.
    ids = [name for name in names if name == "id" or name.endswith("_id")]
    ids_fit = _ids_fit(names, columns, ids, output.width)
    table = Table(box=box.SIMPLE_HEAD if output.is_terminal else None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name in names:
        table.add_column(Text(column_title(name)), overflow="fold", no_wrap=ids_fit and name in ids)
    for line in lines:
        table.add_row(*map(Text, line))
    _print(table, output)


def print_fields(fields: Iterable[tuple[str, str]], output: Console | None = None) -> None:
    """Print each (name, value) on a line."""
    output = output or console()
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(Text(name), Text(value))
    _print(grid, output)


def column_title(name: str) -> str:
    """Return the title of a field: `counts.rejected_by_reason` becomes "counts rejected by reason"."""
    return name.replace("_", " ").replace(".", " ")


def get_value(resource: dict, path: str) -> object:
    """Return the value at a path such as `counts.accepted`, or None if it is missing."""
    value: object = resource
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def format_value(value: object) -> str:
    """Return a value as text: nested fields and lists with commas, floats with 4 digits, None as an empty text."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {format_value(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(format_value(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def format_cell(value: object) -> str:
    """Return a value as one line of at most MAX_CELL cells."""
    text = Text(" ".join(format_value(value).split()))
    text.truncate(MAX_CELL, overflow="ellipsis")
    return text.plain


def _ids_fit(names: Sequence[str], columns: Sequence[Sequence[str]], ids: Sequence[str], width: int) -> bool:
    """Return whether the window has room for complete ids. Otherwise ids are folded, so that no character is lost."""
    id_cells = sum(
        max(map(cell_len, [column_title(name), *cells]))
        for name, cells in zip(names, columns, strict=True)
        if name in ids
    )
    return id_cells + MIN_COLUMN * (len(names) - len(ids)) + (GAP + 1) * len(names) <= width


def _print(table: Table, output: Console) -> None:
    if output.is_terminal:
        output.print(table)
        return
    with output.capture() as lines:
        output.print(table)
    # Rich pads the last column with spaces, which would end up in files and confuse `cut` and `diff`.
    output.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))
