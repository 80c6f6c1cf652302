"""The table at the end of the demo."""

from typing import TYPE_CHECKING

from app.cli.session import console

if TYPE_CHECKING:
    from rich.table import Table

    from app.cli.demo import Demo

SPLITS = ("train", "validation", "test")
NOTE = "Made by a simulated teacher: it shows that the machinery works and teaches a model nothing."


def report(walk: "Demo", seconds: float) -> None:
    output = console()
    output.print()
    if output.is_terminal:
        output.print(_table(rows(walk, seconds)))
    else:
        # A file gets no padding.
        for name, value in rows(walk, seconds):
            output.print(f"{name:<14} {value}", soft_wrap=True)
    if walk.jobs["run"].get("simulated"):
        output.print(f"\n{walk.jobs['run'].get('note') or NOTE}")


def _table(lines: list[tuple[str, str]]) -> "Table":
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(min_width=14)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def rows(walk: "Demo", seconds: float) -> list[tuple[str, str]]:
    run, snapshot, tune = (walk.jobs[name] for name in ("run", "snapshot", "fine-tune"))
    counts, usage = run["counts"], run["usage"]
    lines = [("accepted", str(counts["accepted"])), ("rejected", str(counts["rejected"]))]
    reasons = sorted(counts["rejected_by_reason"].items(), key=lambda item: -item[1])
    lines += [("", f"{number:>5}  {reason}") for reason, number in reasons]
    tokens = f"{usage['prompt_tokens']:,} prompt ({usage['cached_tokens']:,} cached), {usage['completion_tokens']:,}"
    splits = ", ".join(f"{name} {snapshot['splits'][name]}" for name in SPLITS)
    summary = tune["summary"]
    lines += [
        ("teacher calls", f"{usage['requests']:,}"),
        ("tokens", f"{tokens} completion"),
        ("cost", f"${usage['cost_usd']}"),
        ("snapshot", f"{snapshot['rows']} rows ({splits}), digest {snapshot['digest'][:16]}…"),
        ("loss", f"{summary['loss_before']:.3f} before, {summary['loss_after']:.3f} after ({summary['split']})"),
        ("time", ", ".join(f"{name} {spent:.0f} s" for name, spent in walk.seconds.items()) + f", all {seconds:.0f} s"),
    ]
    lines.append(("files", f"in {walk.out}"))
    lines += [
        ("", f"{path.relative_to(walk.out)}  {_size(path.stat().st_size)}  {words}") for words, path in walk.files
    ]
    return lines


def _size(count: int) -> str:
    return f"{count:,} B" if count < 10_000 else f"{count / 1000:,.0f} kB" if count < 1e7 else f"{count / 1e6:,.0f} MB"
