"""New decisions on rows, with the counters of the runs that brought the rows in."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from sqlalchemy.orm import Session

from app.datasets import decisions
from app.datasets.decisions import NewDecision
from app.datasets.rows import DatasetRow
from app.runs import store


def apply(
    session: Session, dataset: DatasetRow, new_decisions: Sequence[NewDecision], by: str, check: Callable[[], None]
) -> None:
    """Write new decisions as `app.datasets.decisions.apply` does, and set the counters of the runs.

    Every change of decisions calls this function: datasets stand below runs and can't write their counters
    (docs/adr/0025).

    Args:
        session: the caller's transaction.
        dataset: the dataset, locked by the caller.
        new_decisions: the new decisions, one for a row at most.
        by: the id of the maintenance job or the judgement that decided.
        check: called before each row. What it raises ends the transaction.
    """
    for run_id, counts in decisions.apply(session, dataset, new_decisions, by, check).items():
        store.set_row_counts(session, run_id, asdict(counts))
