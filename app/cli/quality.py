"""Prints the report of a run as tables, with histograms as bars (seedbed runs report)."""

from collections.abc import Iterator

from app.cli.session import Session, print_json
from app.cli.tables import console, print_fields

BARS = " ▁▂▃▄▅▆▇█"


def show_report(session: Session, report: dict) -> None:
    """Print the report of a run: rejections, cost by step, survival by operation, quality; raw with --json."""
    if session.json:
        print_json(report)
        return
    output = console()
    economy = report["economy"]
    output.print(f"{report['method']}  {report['accepted']} accepted, {report['rejected']} rejected")
    reasons = sorted(report["rejected_by_reason"].items(), key=lambda item: -item[1])
    print_fields([(f"{count:>8}", reason) for reason, count in reasons], output)
    output.print(
        f"\ncost a row  {economy['requests_per_accepted']} calls, {economy['tokens_per_accepted']} tokens, "
        f"${economy['cost_usd_per_accepted']}"
    )
    fields = ("name", "calls", "calls_per_accepted", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
    session.table(economy["steps"], fields)
    # Only Evol-Instruct has operations.
    if report["operations"]:
        output.print()
        fields = ("operation", "offered", "accepted", "survival", "judged_equal.equal", "calls", "cost_usd", "rejected")
        session.table(report["operations"], fields)
    _show_quality(session, report["quality"])
    if report["note"]:
        output.print(f"\n{report['note']}")


def _show_quality(session: Session, quality: dict) -> None:
    output = console()
    output.print(f"\nquality of {quality['rows']} rows")
    session.table(quality["checklist"], ("question", "share_good", "good", "rows", "answered_by"))
    output.print()
    show_scores(session, quality)
    output.print()
    print_fields(_diversity(quality["diversity"]), output)


def show_scores(session: Session, quality: dict) -> None:
    """Print the mean and the histogram of each score. `quality` is the part of that name of a report."""
    scores = (
        {
            "score": name,
            "mean": score["mean"],
            "rows": score["rows"],
            "spread": draw_bars(score["histogram"]["counts"]),
        }
        for name, score in quality["scores"].items()
    )
    session.table(scores, ("score", "mean", "rows", "spread"))


def _diversity(diversity: dict) -> Iterator[tuple[str, str]]:
    distinct = " ".join(str(diversity[f"distinct_{length}"]) for length in (1, 2, 3))
    yield "diversity", f"distinct-1/2/3 {distinct}, vendi {diversity['vendi_score']}"
    for name in ("verbs", "topics", "task_types"):
        # The counts are sorted. A line has room for about eight of them.
        counts = list(diversity[name]["counts"].items())[:8]
        if counts:
            text = ", ".join(f"{value} {count}" for value, count in counts)
            yield name.replace("_", " "), f"{diversity[name]['different']} different: {text}"
    if similarity := diversity["similarity"]:
        spread = draw_bars(similarity["histogram"]["counts"])
        yield "similarity", f"mean {similarity['mean']}, p99 {similarity['p99']}  {spread}"


def draw_bars(counts: list[int]) -> str:
    """Return a histogram as one bar for each count, relative to the highest count: ▁▃█▂."""
    # Rounded up, so that only a count of 0 has an empty bar.
    max_count = max(counts, default=0)
    return "".join(BARS[-(-count * (len(BARS) - 1) // max_count)] if max_count else BARS[0] for count in counts)
