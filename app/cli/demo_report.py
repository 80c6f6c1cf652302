"""The table at the end of the demo."""

from app.cli.demo_stages import DemoStages
from app.cli.tables import console, print_fields

SPLITS = ("train", "validation", "test")
NOTE = "Made by a simulated teacher: it shows that the machinery works and teaches a model nothing."


def print_report(stages: DemoStages, seconds: float) -> None:
    """Print the results of all stages. `seconds` is the duration of the whole demo."""
    output = console()
    output.print()
    print_fields(report_lines(stages, seconds), output)
    # A reader of the numbers must not think that this model has learned anything.
    if stages.jobs["run"].get("simulated"):
        output.print(f"\n{stages.jobs['run'].get('note') or NOTE}")


def report_lines(stages: DemoStages, seconds: float) -> list[tuple[str, str]]:
    """Return the lines of the report as (label, text); a line that continues the one before has an empty label."""
    run, snapshot, tune = (stages.jobs[name] for name in ("run", "snapshot", "fine-tune"))
    counts, usage = run["counts"], run["usage"]
    lines = [("accepted", str(counts["accepted"])), ("rejected", str(counts["rejected"]))]
    # The most frequent reasons come first: they explain most of the rejected rows.
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
        (
            "time",
            ", ".join(f"{name} {spent:.0f} s" for name, spent in stages.seconds.items()) + f", all {seconds:.0f} s",
        ),
    ]
    lines.append(("files", f"in {stages.out}"))
    lines += [
        ("", f"{path.relative_to(stages.out)}  {_size(path.stat().st_size)}  {description}")
        for description, path in stages.files
    ]
    return lines


def _size(count: int) -> str:
    return f"{count:,} B" if count < 10_000 else f"{count / 1000:,.0f} kB" if count < 1e7 else f"{count / 1e6:,.0f} MB"
