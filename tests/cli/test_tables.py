"""Tables: plain and whole in a pipe, aligned by cells, and never without an id on a terminal."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from app.cli.tables import PLAIN_WIDTH, print_fields, print_table

RUN = "run_" + "7" * 26
DATASET = "ds_" + "8" * 26
ROWS = [
    {"id": RUN, "dataset_id": DATASET, "text": "한국어 데이터 🦉", "counts": {"accepted": 3}},
    {"id": RUN, "dataset_id": DATASET, "text": "plain [bold]text[/bold] :owl:", "counts": {"accepted": 12}},
]


def printed(width: int, terminal: bool, rows: list[dict] = ROWS, names=("text", "counts.accepted", "id", "dataset_id")):
    output = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, markup=False, emoji=False
    )
    print_table(rows, names, output)
    return output.file.getvalue()


def test_in_a_pipe_each_row_is_one_line_with_whole_ids():
    header, first, second = printed(PLAIN_WIDTH, terminal=False).splitlines()
    assert header.split("  ")[0] == "text" and "counts accepted" in header
    for line in (first, second):
        assert line.endswith(f"{RUN}  {DATASET}")
    assert "plain [bold]text[/bold] :owl:  12" in second


def test_columns_align_by_cells():
    _, first, second = printed(PLAIN_WIDTH, terminal=False).splitlines()
    assert cell_len(first[: first.index(RUN)]) == cell_len(second[: second.index(RUN)])


def test_a_long_text_is_one_short_line():
    [_, line] = printed(PLAIN_WIDTH, False, [{"text": "긴 문장\n" * 40, "id": RUN}], ("text", "id")).splitlines()
    assert "…" in line and cell_len(line) <= 64 + 2 + len(RUN)


def test_a_terminal_folds_texts_and_leaves_ids_whole():
    shown = printed(100, terminal=True)
    assert shown.count(RUN) == shown.count(DATASET) == 2
    assert all(cell_len(line) <= 100 for line in shown.splitlines())


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_folds_ids_and_loses_no_character(width):
    shown = printed(width, terminal=True)
    assert shown.count("7") == 2 * RUN.count("7") and shown.count("8") == 2 * DATASET.count("8")


def test_no_rows_give_the_names_of_the_columns():
    assert printed(PLAIN_WIDTH, terminal=False, rows=[]).split() == [
        "text",
        "counts",
        "accepted",
        "id",
        "dataset",
        "id",
    ]


def test_fields_are_a_line_each_with_long_values_whole_in_a_pipe(capsys):
    print_fields([("id", RUN), ("error", "long " * 60 + "end"), ("", "more")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"id     {RUN}" and lines[1].endswith("long end") and lines[2] == "       more"
