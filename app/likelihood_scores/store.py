"""All SQL of likelihood scores, and of the scores that they store with records."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Row, Select, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables.datasets import Dataset, Record
from app.tables.likelihood_scores import LikelihoodScores
from app.tables.runs import Run

# Enough rows to make few round trips, and few enough to check for a cancel often.
ROWS_AT_ONCE = 500
ROW_COLUMNS = (Record.id, Record.instruction, Record.input, Record.output, Record.messages, Record.reasoning)


def scoring(session: Session, project_id: str, id: str) -> LikelihoodScores:
    """Return a job of the project. Raises AppError (404) if there is none."""
    row = session.scalar(
        select(LikelihoodScores).where(LikelihoodScores.id == id, LikelihoodScores.project_id == project_id)
    )
    if row is None:
        raise not_found("scoring", id)
    return row


def scorings(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[LikelihoodScores]:
    """Return jobs of the project, newest first: `limit` and one more if there is a next page.

    `after` is the id of the last job of the page before.
    """
    query = (
        select(LikelihoodScores)
        .where(LikelihoodScores.project_id == project_id)
        .order_by(LikelihoodScores.id.desc())
        .limit(limit + 1)
    )
    if dataset_id:
        query = query.where(LikelihoodScores.dataset_id == dataset_id)
    return session.scalars(query.where(LikelihoodScores.id < after) if after else query).all()


def dataset_of(session: Session, project_id: str, id: str) -> Dataset | None:
    """Return a dataset of the project, or None."""
    return session.scalar(select(Dataset).where(Dataset.id == id, Dataset.project_id == project_id))


def has_run(session: Session, dataset_id: str, run_id: str) -> bool:
    """Return whether the dataset has this run."""
    return session.scalar(select(Run.id).where(Run.id == run_id, Run.dataset_id == dataset_id)) is not None


def _select_rows(dataset_id: str, run_id: str | None) -> Select:
    # A position in the pool means that the row is accepted. Without an output there is no likelihood to measure.
    query = select(Record).where(
        Record.dataset_id == dataset_id, Record.pool_position.is_not(None), Record.output != ""
    )
    return query.where(Record.run_id == run_id) if run_id else query


def count_rows(session: Session, dataset_id: str, run_id: str | None) -> int:
    """Return the number of accepted rows with an output, of the run if there is one."""
    return session.scalar(_select_rows(dataset_id, run_id).with_only_columns(func.count()))


def rows(session: Session, scoring: LikelihoodScores) -> Iterator[Row]:
    """Yield the rows to score with the columns ROW_COLUMNS, in the order of the pool. They are streamed, not loaded."""
    query = _select_rows(scoring.dataset_id, scoring.run_id).with_only_columns(*ROW_COLUMNS)
    yield from session.execute(query.order_by(Record.pool_position).execution_options(yield_per=ROWS_AT_ONCE))


def add_scores(session: Session, dataset_id: str, scores_by_record: Mapping[str, dict[str, float]]) -> None:
    """Add scores to records. Scores with the same name are replaced, all others are kept.

    Args:
        session: The transaction.
        dataset_id: The dataset of the records.
        scores_by_record: The scores by name, for each id of a record.
    """
    for id, scores in scores_by_record.items():
        session.execute(
            update(Record)
            .where(Record.id == id, Record.dataset_id == dataset_id)
            # Concatenated by the database: a judgement may store other scores at the same time.
            .values(scores=Record.scores.concat(cast(scores, JSONB)))
        )
