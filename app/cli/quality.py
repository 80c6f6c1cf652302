"""seedbed runs report: a run's report as tables, and its histograms as bars."""

from app.cli.session import Session, console, print_json

BARS = " ▁▂▃▄▅▆▇█"


def show_report(session: Session, report: dict) -> None:
    if session.json:
        print_json(report)
        return
    out = console()
    economy = report["economy"]
    out.print(f"{report['method']}  {report['accepted']} accepted, {report['rejected']} rejected")
    for reason, count in sorted(report["rejected_by_reason"].items(), key=lambda one: -one[1]):
        out.print(f"{count:>8}  {reason}")
    out.print(
        f"\ncost a row  {economy['requests_per_accepted']} calls, {economy['tokens_per_accepted']} tokens, "
        f"${economy['cost_usd_per_accepted']}"
    )
    fields = ("name", "calls", "calls_per_accepted", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
    session.table(economy["steps"], fields)
    if report["operations"]:
        out.print()
        fields = ("operation", "offered", "accepted", "survival", "judged_equal.equal", "calls", "cost_usd", "rejected")
        session.table(report["operations"], fields)
    _show_quality(session, report["quality"])
    if report["note"]:
        out.print(f"\n{report['note']}")


def _show_quality(session: Session, quality: dict) -> None:
    out = console()
    out.print(f"\nquality of {quality['rows']} rows")
    session.table(quality["checklist"], ("question", "share_good", "good", "rows", "answered_by"))
    scores = (
        {"score": name, "mean": one["mean"], "rows": one["rows"], "spread": bars(one["histogram"]["counts"])}
        for name, one in quality["scores"].items()
    )
    out.print()
    session.table(scores, ("score", "mean", "rows", "spread"))
    diversity = quality["diversity"]
    out.print(
        f"\ndiversity  distinct-1/2/3 {diversity['distinct_1']} {diversity['distinct_2']} {diversity['distinct_3']}, "
        f"vendi {diversity['vendi_score']}"
    )
    for name in ("verbs", "topics", "task_types"):
        counts = list(diversity[name]["counts"].items())[:8]
        if counts:
            shown = ", ".join(f"{value} {count}" for value, count in counts)
            out.print(f"{name.replace('_', ' '):<10} {diversity[name]['different']} different: {shown}")
    if diversity["similarity"]:
        one = diversity["similarity"]
        out.print(f"similarity  mean {one['mean']}, p99 {one['p99']}  {bars(one['histogram']['counts'])}")


def bars(counts: list[int]) -> str:
    """A histogram in one word: ▁▃█▂."""
    most = max(counts, default=0)
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] if most else BARS[0] for count in counts)
