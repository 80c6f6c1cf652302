"""New decisions on rows, with the counters of the runs that brought the rows in."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from sqlalchemy.orm import Session

from app.datasets import decisions
from app.datasets.decisions import NewDecision
from app.datasets.rows import DatasetRow
from app.runs import store


def apply(
    session: Session, dataset: DatasetRow, moves: Sequence[NewDecision], by: str, check: Callable[[], None]
) -> None:
    """The same as `app.datasets.decisions.apply`, and the counters of the runs follow."""
    for run_id, counts in decisions.apply(session, dataset, moves, by, check).items():
        store.set_row_counts(session, run_id, asdict(counts))
