"""A run's report: the cost of each step, the outcomes of each operation, and the quality of the accepted rows."""

from decimal import Decimal

import numpy as np
from sqlalchemy.orm import Session

from app.api.schemas import SIMULATED_NOTE
from app.calls import service as accounts
from app.calls import store as accounts_store
from app.calls.schemas import AccountReport, SpendingView, money
from app.datasets import run_rows, sampling_queries
from app.datasets import store as dataset_store
from app.datasets.rows import RecordRow
from app.runs import store
from app.runs.schemas import ReportView, rate
from app.synth.quality.report import quality_report
from app.tables.runs import Run

# So many rows give the shares and means within about two percentage points.
MAX_SAMPLED_ROWS = 2000
MAX_SEEDS = 1000
# The points of the curve of the accepted share, which a client draws.
MAX_POINTS = 50


def build_report(session: Session, run: Run) -> ReportView:
    """Return the report; its quality is that of a fixed sample where the run has more accepted rows.

    Args:
        session: the transaction, whose queries also read the account and the seeds of the dataset.
        run: the run, in any status.
    """
    rows = run_rows.sample_accepted(session, run.id, MAX_SAMPLED_ROWS)
    stored_embeddings = dataset_store.load_embeddings(session, [row.group_id for row in rows])
    account = accounts_store.account(session, run.project_id, run.account_id)
    spent = accounts.report(session, account)
    seeds = sampling_queries.load_seed_embeddings(session, run.dataset_id, MAX_SEEDS)
    return ReportView(
        run_id=run.id,
        method=run.method,
        accepted=run.accepted,
        rejected=run.rejected,
        rejected_by_reason=run.rejected_by_reason,
        economy=_economy(spent, run),
        novelty=_novelty(session, run),
        operations=_operations(session, spent, run),
        sampled_rows=len(rows),
        quality=quality_report(rows, _matrix(rows, stored_embeddings), _stacked(seeds)),
        simulated=account.simulated,
        note=SIMULATED_NOTE if account.simulated else None,
    )


def _economy(spent: AccountReport, run: Run) -> dict:
    """Calls and tokens by step, in all and per accepted row."""
    usage = spent.usage
    tokens = usage.prompt_tokens + usage.completion_tokens + usage.unknown_tokens
    return {
        "steps": [_costs(step, run.accepted) for step in spent.steps],
        "requests_per_accepted": rate(usage.requests, run.accepted),
        "tokens_per_accepted": rate(tokens, run.accepted),
        "cost_usd_per_accepted": money(Decimal(usage.cost_usd) / run.accepted) if run.accepted else None,
    }


def _costs(step: SpendingView, accepted: int) -> dict:
    return step.model_dump() | {"calls_per_accepted": rate(step.calls, accepted)}


def _novelty(session: Session, run: Run) -> dict:
    """The accepted share over time, as about `MAX_POINTS` points: each covers so many candidates in their order."""
    batches = store.list_batch_outcomes(session, run.id)
    offered = sum(accepted + rejected for accepted, rejected in batches)
    # The share of a few candidates is mostly chance.
    per_point = max(20, -(-offered // MAX_POINTS))
    points, accepted, offered_so_far, last = [], 0, 0, 0
    for n, (accepted_of_batch, rejected_of_batch) in enumerate(batches, 1):
        accepted, offered_so_far = accepted + accepted_of_batch, offered_so_far + accepted_of_batch + rejected_of_batch
        if offered_so_far - last >= per_point or (n == len(batches) and offered_so_far > last):
            points.append({"offered": offered_so_far, "share": round(accepted / (offered_so_far - last), 4)})
            accepted, last = 0, offered_so_far
    return {"window": run.saturation_window, "least_share": run.saturation_share, "points": points}


def _operations(session: Session, spent: AccountReport, run: Run) -> list[dict]:
    """By operation: offered and accepted rows, reasons of rejections, cost, and verdicts of the equality judge."""
    counts_by_operation: dict[str, dict] = {}
    for operation, status, reason, rows in run_rows.count_outcomes_by_operation(session, run.id):
        if operation is None:
            continue
        counts = counts_by_operation.setdefault(
            operation, {"operation": operation, "offered": 0, "accepted": 0, "rejected": {}}
        )
        counts["offered"] += rows
        if status == "accepted":
            counts["accepted"] += rows
        else:
            counts["rejected"][reason] = counts["rejected"].get(reason, 0) + rows
    verdicts = run_rows.count_equality_verdicts(session, run.id)
    costs = {group.name: group for group in spent.operations}
    for operation, counts in counts_by_operation.items():
        judged, equal = verdicts.get(operation, (0, 0))
        cost = costs.get(operation)
        counts["survival"] = round(counts["accepted"] / counts["offered"], 4)
        counts["judged_equal"] = {"asked": judged, "equal": equal}
        counts["calls"] = cost.calls if cost else 0
        counts["cost_usd"] = cost.cost_usd if cost else "0"
    return sorted(counts_by_operation.values(), key=lambda counts: counts["operation"])


def _matrix(rows: list[RecordRow], embeddings: dict[str, bytes]) -> np.ndarray | None:
    """The rows' embeddings, float32 of shape (rows, dimensions); None unless every row has one."""
    # The report pairs vectors with rows by their index.
    if not rows or any(row.group_id not in embeddings for row in rows):
        return None
    return _stacked([embeddings[row.group_id] for row in rows])


def _stacked(vectors: list[bytes]) -> np.ndarray | None:
    return np.stack([np.frombuffer(vector, dtype=np.float32) for vector in vectors]) if vectors else None
