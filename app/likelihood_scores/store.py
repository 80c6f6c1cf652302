"""All SQL of likelihood scores, and of the scores that they store with records."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables.likelihood_scores import LikelihoodScores


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
