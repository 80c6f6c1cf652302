"""A run's report: what each step cost, what became of each operation, and how good the accepted rows are."""

from decimal import Decimal

import numpy as np
from sqlalchemy.orm import Session

from app.datasets.schemas import SIMULATED_NOTE
from app.runs import store
from app.runs.schemas import ReportView, money
from app.synth.report import quality_report
from app.tables.datasets import Record
from app.tables.runs import Completion, Run

SAMPLE, SEEDS, POINTS = 2000, 1000, 50


def of_run(session: Session, run: Run) -> ReportView:
    rows = store.sample_rows(session, run.id, SAMPLE)
    known = store.family_embeddings(session, [row.family for row in rows])
    seeds = store.seed_embeddings(session, run.dataset_id, SEEDS)
    return ReportView(
        run_id=run.id,
        method=run.method,
        accepted=run.accepted,
        rejected=run.rejected,
        rejected_by_reason=run.rejected_by_reason,
        economy=_economy(session, run),
        novelty=_novelty(session, run),
        operations=_operations(session, run),
        sampled_rows=len(rows),
        quality=quality_report(rows, _matrix(rows, known), _stacked(seeds)),
        simulated=run.simulated,
        note=SIMULATED_NOTE if run.simulated else None,
    )


def _economy(session: Session, run: Run) -> dict:
    """Calls and tokens by step, and a row's share of them."""
    steps = store.cost_by(session, run.id, Completion.step)
    return {
        "steps": [_costs(one, run.accepted) for one in steps],
        "requests_per_accepted": _per(run.requests, run.accepted),
        "tokens_per_accepted": _per(run.prompt_tokens + run.completion_tokens + run.unknown_tokens, run.accepted),
        "cost_usd_per_accepted": money(run.cost_usd / run.accepted) if run.accepted else None,
    }


def _costs(one: dict, accepted: int) -> dict:
    return one | {"cost_usd": money(Decimal(one["cost_usd"])), "calls_per_accepted": _per(one["calls"], accepted)}


def _novelty(session: Session, run: Run) -> dict:
    """The accepted share of one stretch of candidates after another: about `POINTS` of them."""
    batches = store.outcomes_over_time(session, run.id)
    offered = sum(accepted + rejected for accepted, rejected in batches)
    stretch = max(20, -(-offered // POINTS))
    points, accepted, seen, last = [], 0, 0, 0
    for n, (kept, away) in enumerate(batches, 1):
        accepted, seen = accepted + kept, seen + kept + away
        if seen - last >= stretch or (n == len(batches) and seen > last):
            points.append({"offered": seen, "share": round(accepted / (seen - last), 4)})
            accepted, last = 0, seen
    return {"window": run.saturation_window, "least_share": run.saturation_share, "points": points}


def _operations(session: Session, run: Run) -> list[dict]:
    """By operation: offered, survived, why not, what it cost, and what the judge said of it."""
    found: dict[str, dict] = {}
    for operation, status, reason, rows in store.outcomes_by_operation(session, run.id):
        if operation is None:
            continue
        one = found.setdefault(operation, {"operation": operation, "offered": 0, "accepted": 0, "rejected": {}})
        one["offered"] += rows
        if status == "accepted":
            one["accepted"] += rows
        else:
            one["rejected"][reason] = one["rejected"].get(reason, 0) + rows
    verdicts = store.equality_verdicts(session, run.id)
    costs = {one["name"]: one for one in store.cost_by(session, run.id, Completion.operation)}
    for operation, one in found.items():
        judged, equal = verdicts.get(operation, (0, 0))
        spent = costs.get(operation)
        one["survival"] = round(one["accepted"] / one["offered"], 4)
        one["judged_equal"] = {"asked": judged, "equal": equal}
        one["calls"] = spent["calls"] if spent else 0
        one["cost_usd"] = money(Decimal(spent["cost_usd"])) if spent else "0"
    return sorted(found.values(), key=lambda one: one["operation"])


def _per(total: int, rows: int) -> float | None:
    return round(total / rows, 3) if rows else None


def _matrix(rows: list[Record], known: dict[str, bytes]) -> np.ndarray | None:
    """The rows' embeddings; None unless every row has one, since the report takes them row by row."""
    if not rows or any(row.family not in known for row in rows):
        return None
    return _stacked([known[row.family] for row in rows])


def _stacked(vectors: list[bytes]) -> np.ndarray | None:
    return np.stack([np.frombuffer(one, dtype=np.float32) for one in vectors]) if vectors else None
