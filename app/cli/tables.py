"""Tables and fields for people, through Rich, which counts the cells of a Korean or an emoji character right.

On a terminal a table fits the window and long texts fold. In a file or a pipe each row is one line of plain text.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough for a digest.
MAX_CELL = 64
# Cells for a column of text beside ids that must not fold, and for the gap between two columns.
MIN_COLUMN, GAP = 8, 2
# No line of plain text reaches this width, so Rich never folds one.
PLAIN_WIDTH = 100_000


def console() -> Console:
    """Standard output. Markup is off: a `[` in a row stands for itself."""
    output = Console(highlight=False, markup=False, emoji=False)
    if output.is_terminal:
        return output
    return Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH, no_color=True)


def print_table(rows: Iterable[dict], names: Sequence[str], output: Console | None = None) -> None:
    """A row for each resource. `names` are its columns; `counts.accepted` reads an inner value."""
    output = output or console()
    lines = [[one_line(value_at(row, name)) for name in names] for row in rows]
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(names)
    ids = [name for name in names if name == "id" or name.endswith("_id")]
    fits = _ids_fit(names, columns, ids, output.width)
    table = Table(box=box.SIMPLE_HEAD if output.is_terminal else None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name in names:
        table.add_column(Text(label(name)), overflow="fold", no_wrap=fits and name in ids)
    for line in lines:
        table.add_row(*map(Text, line))
    _print(table, output)


def print_fields(fields: Iterable[tuple[str, str]], output: Console | None = None) -> None:
    """A line for each name and value."""
    output = output or console()
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(Text(name), Text(value))
    _print(grid, output)


def label(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")


def value_at(resource: dict, path: str) -> object:
    """The value at `counts.accepted`; None where there is none."""
    value: object = resource
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def one_line(value: object) -> str:
    """One line of at most MAX_CELL cells, however long the text and however many lines it has."""
    text = Text(" ".join(plain(value).split()))
    text.truncate(MAX_CELL, overflow="ellipsis")
    return text.plain


def _ids_fit(names: Sequence[str], columns: Sequence[Sequence[str]], ids: Sequence[str], width: int) -> bool:
    """Whether the window has room for whole ids; where it has not they fold, rather than lose characters."""
    id_cells = sum(
        max(map(cell_len, [label(name), *cells])) for name, cells in zip(names, columns, strict=True) if name in ids
    )
    return id_cells + MIN_COLUMN * (len(names) - len(ids)) + (GAP + 1) * len(names) <= width


def _print(table: Table, output: Console) -> None:
    if output.is_terminal:
        output.print(table)
        return
    with output.capture() as lines:
        output.print(table)
    # Rich pads each cell of the last column, too.
    output.file.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))
