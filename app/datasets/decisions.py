"""New decisions on rows that were decided before. The table `decisions` has the old decisions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.datasets import store
from app.datasets.admission import decision_columns
from app.synth.types import Rejection
from app.tables.datasets import Dataset, Decision, Import, Record


@dataclass(frozen=True)
class NewDecision:
    """A new decision on a record: accepted, or rejected for this reason."""

    record_id: str
    rejection: Rejection | None


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a run or of an import are accepted, and how many are rejected, in all and for each reason."""

    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]


def apply(
    session: Session, dataset: Dataset, new_decisions: Sequence[NewDecision], by: str, check: Callable[[], None]
) -> dict[str, RowCounts]:
    """Write the new decisions, store the old ones, and count all rows again.

    Args:
        session: the caller's transaction.
        dataset: the dataset, locked by the caller.
        new_decisions: the new decisions. A row that is accepted again gets a new position at the end of the pool.
        by: the id of the maintenance job or the judgement that decided.
        check: called before each row. What it raises ends the transaction, with all new decisions.

    Returns:
        The new counts of the dataset's runs, by id. `app.runs.decisions.apply` writes them to the runs.
    """
    for new in new_decisions:
        check()
        row = session.get(Record, new.record_id, with_for_update=True)
        _store_old_decision(session, row, by)
        # Caches of other processes only add rows. A new version makes them load the pool again, without this row.
        if row.pool_position is not None and new.rejection is not None:
            dataset.pool_version += 1
        _decide(dataset, row, new.rejection)
        # The next step queries the rows, so the new status and position must be in the database.
        session.flush()
        _update_group(session, dataset, row)
    _recount_dataset(session, dataset)
    for import_id, counts in _count_rows_by(session, dataset, Record.import_id).items():
        session.execute(update(Import).where(Import.id == import_id).values(**asdict(counts)))
    return _count_rows_by(session, dataset, Record.run_id)


def _store_old_decision(session: Session, row: Record, by: str) -> None:
    names = ("decision", "status", "reason", "detail", "nearest_id", "nearest_text")
    old = {name: getattr(row, name) for name in names}
    session.execute(insert(Decision).values(record_id=row.id, replaced_by=by, **old))


def _decide(dataset: Dataset, row: Record, rejection: Rejection | None) -> None:
    row.decision += 1
    for name, value in decision_columns(rejection).items():
        setattr(row, name, value)
    if rejection is not None:
        row.pool_position = None
    elif row.pool_position is None:
        dataset.last_pool_position += 1
        row.pool_position = dataset.last_pool_position


def _update_group(session: Session, dataset: Dataset, row: Record) -> None:
    """Keep the group of rows with one instruction consistent after the row has entered or left the pool.

    A rejected row becomes a group of its own, and the oldest row that stays represents its former group. An accepted
    row joins the group of its instruction. In the scope `instruction` only the representative has the embedding.
    """
    if row.status == "accepted":
        representative = store.representative_ids(session, dataset.id, [row.instruction]).get(row.instruction, row.id)
        if representative != row.id:
            row.group_id = representative
            row.embedding = None if dataset.scope == "instruction" else row.embedding
        return
    members = (Record.group_id == row.id, Record.pool_position.is_not(None))
    representative = session.scalar(select(Record.id).where(*members).order_by(Record.pool_position).limit(1))
    if representative is not None:
        session.execute(update(Record).where(*members).values(group_id=representative))
        if dataset.scope == "instruction":
            session.execute(update(Record).where(Record.id == representative).values(embedding=row.embedding))
    row.group_id = row.id


def _recount_dataset(session: Session, dataset: Dataset) -> None:
    """Set the counters of the dataset from the rows themselves."""
    accepted, seed = Record.status == "accepted", Record.origin == "seed"
    totals = select(
        func.count().filter(accepted, ~seed),
        func.count().filter(~accepted),
        func.count(case((seed & accepted, Record.group_id)).distinct()),
    ).where(Record.dataset_id == dataset.id)
    dataset.accepted_count, dataset.rejected_count, dataset.seed_count = session.execute(totals).one()


def _count_rows_by(session: Session, dataset: Dataset, owner: InstrumentedAttribute) -> dict[str, RowCounts]:
    """The counts of the dataset's rows by their owner: the column `owner` has the id of a run or of an import."""
    columns = (owner, Record.status, Record.reason)
    of_dataset = (Record.dataset_id == dataset.id, owner.is_not(None))
    query = select(*columns, func.count()).where(*of_dataset).group_by(*columns)
    totals: dict[str, Counter[str]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for id, status, reason, count in session.execute(query):
        totals.setdefault(id, Counter())[status] += count
        reasons.setdefault(id, {}).update({reason: count} if reason is not None else {})
    return {id: RowCounts(total["accepted"], total["rejected"], reasons[id]) for id, total in totals.items()}
