"""All SQL of runs and batches."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, and_, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.calls import remote_batches
from app.calls import store as accounts_store
from app.datasets import run_rows
from app.errors import not_found
from app.jobs.leases import is_unclaimed
from app.synth.cost_estimate import Sample
from app.synth.quality.options import MethodOptions
from app.tables.runs import Batch, Run

OPEN = ("pending", "leased", "waiting")
ACTIVE = ("queued", "running", "pausing", "cancelling")


def run(session: Session, project_id: str, id: str) -> Run:
    row = session.scalar(select(Run).where(Run.id == id, Run.project_id == project_id))
    if row is None:
        raise not_found("run", id)
    return row


def runs(session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None) -> Sequence[Run]:
    query = select(Run).where(Run.project_id == project_id).order_by(Run.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Run.dataset_id == dataset_id)
    return session.scalars(query.where(Run.id < after) if after else query).all()


def load_run(session: Session, id: str) -> Run | None:
    return session.get(Run, id)


def locked_run(session: Session, id: str) -> Run | None:
    """The run as it is now, held until this transaction ends. Take it before its batches and its account."""
    query = select(Run).where(Run.id == id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def set_row_counts(session: Session, id: str, counts: dict) -> None:
    """Set accepted, rejected and rejected_by_reason of the run."""
    session.execute(update(Run).where(Run.id == id).values(**counts))


def list_active_runs(session: Session) -> Sequence[Run]:
    return session.scalars(select(Run).where(Run.status.in_(ACTIVE)).order_by(Run.id)).all()


def list_due_to_resume(session: Session) -> Sequence[str]:
    """Runs that wait for their teacher, and have waited long enough to ask again."""
    query = select(Run.id).where(
        Run.status == "paused", Run.paused_for.is_not(None), Run.resume_at < func.clock_timestamp()
    )
    return session.scalars(query).all()


def seconds_running(session: Session, run: Run) -> float:
    """Since the run began, on the database's clock."""
    if run.started_at is None:
        return 0.0
    return float(session.scalar(select(func.extract("epoch", func.clock_timestamp() - run.started_at))))


def seconds_since(session: Session, moment: datetime) -> float:
    return float(session.scalar(select(func.extract("epoch", func.clock_timestamp() - moment))))


def count_leased_batches(session: Session, run_id: str) -> int:
    """Batches that a worker holds and whose lease has not run out."""
    query = (
        select(func.count())
        .select_from(Batch)
        .where(Batch.run_id == run_id, Batch.status == "leased", ~is_unclaimed(Batch))
    )
    return session.scalar(query)


def count_open_proposals(session: Session, run_id: str) -> int:
    """Proposals that batches under way have asked for or will ask for."""
    size = Batch.plan["proposals"].as_integer()
    query = select(func.coalesce(func.sum(size), 0))
    return session.scalar(query.where(Batch.run_id == run_id, Batch.status.in_(OPEN)))


def count_outcomes_before_open_batches(session: Session, run_id: str) -> tuple[int, int]:
    """(accepted, offered) of the batches that ended and were planned before any that is open."""
    first_open = select(func.min(Batch.number)).where(Batch.run_id == run_id, Batch.status.in_(OPEN)).scalar_subquery()
    query = select(
        func.coalesce(func.sum(Batch.accepted), 0), func.coalesce(func.sum(Batch.accepted + Batch.rejected), 0)
    ).where(Batch.run_id == run_id, Batch.status == "done", Batch.number < func.coalesce(first_open, 2**31 - 1))
    accepted, offered = session.execute(query).one()
    return int(accepted), int(offered)


def load_proposal_count(session: Session, batch_id: str) -> int:
    return session.scalar(select(Batch.plan["proposals"].as_integer()).where(Batch.id == batch_id))


def find_similar_runs(
    session: Session, project_id: str, settings: dict, options: MethodOptions, max_runs: int = 20
) -> list[Run]:
    """The newest runs of these settings and options that have ended with something.

    A run that was started before an option existed has the option's default.
    """
    query = select(Run).where(
        Run.project_id == project_id,
        Run.accepted > 0,
        Run.finished_at.is_not(None),
        Run.options.contained_by(options.model_dump(mode="json")),
    )
    runs = session.scalars(query.filter_by(**settings).order_by(Run.id.desc()).limit(10 * max_runs))
    return [run for run in runs if type(options).model_validate(run.options) == options][:max_runs]


def load_samples(session: Session, run_ids: Sequence[str]) -> list[Sample]:
    """Each batch that ended: its candidates, the good ones (over_target, too), and what its calls took."""
    over_target = run_rows.select_counts_by_batch(run_ids, "over_target").subquery()
    spent = accounts_store.select_spending_by_unit(_accounts_of(run_ids)).subquery()
    none = func.coalesce
    query = (
        select(
            (Batch.accepted + none(over_target.c.rows, 0)).label("good"),
            (Batch.accepted + Batch.rejected).label("offered"),
            none(spent.c.requests, 0).label("requests"),
            none(spent.c.tokens, 0).label("tokens"),
            none(spent.c.dollars, 0).label("dollars"),
        )
        .outerjoin(over_target, over_target.c.batch_id == Batch.id)
        .outerjoin(spent, spent.c.unit_id == Batch.id)
        .where(Batch.run_id.in_(run_ids), Batch.status == "done")
        .order_by(Batch.run_id, Batch.number)
    )
    return [
        Sample(row.good, row.offered, int(row.requests), int(row.tokens), float(row.dollars))
        for row in session.execute(query)
    ]


def _accounts_of(run_ids: Sequence[str]) -> Select:
    return select(Run.account_id).where(Run.id.in_(run_ids))


def mean_latency(session: Session, run_ids: Sequence[str]) -> float:
    """Seconds from sending to keeping, of calls that needed one try."""
    return accounts_store.mean_latency(session, _accounts_of(run_ids))


def count_batches_by_status(session: Session, run_id: str) -> dict[str, int]:
    query = select(Batch.status, func.count()).where(Batch.run_id == run_id).group_by(Batch.status)
    return {status: count for status, count in session.execute(query)}


def lock_claimable_batches(session: Session, run_id: str, limit: int) -> Sequence[Batch]:
    """Pending batches whose time has come, and batches of workers that died; locked."""
    due = or_(Batch.not_before.is_(None), Batch.not_before < func.clock_timestamp())
    waiting = and_(Batch.status == "pending", due)
    orphaned = and_(Batch.status == "leased", is_unclaimed(Batch))
    query = select(Batch).where(Batch.run_id == run_id, or_(waiting, orphaned)).order_by(Batch.number).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def recent_acceptance_rate(session: Session, run_id: str, window: int) -> float | None:
    """The accepted share of at least the `window` newest candidates; None while there are fewer."""
    accepted = offered = 0
    query = _done(run_id).order_by(Batch.finished_at.desc(), Batch.number.desc())
    for batch in session.execute(query.execution_options(yield_per=100)):
        accepted, offered = accepted + batch.accepted, offered + batch.accepted + batch.rejected
        if offered >= window:
            return accepted / offered
    return None


def list_batch_outcomes(session: Session, run_id: str) -> list[tuple[int, int]]:
    """(accepted, rejected) of each batch, in the order in which they ended."""
    query = _done(run_id).order_by(Batch.finished_at, Batch.number)
    return [(batch.accepted, batch.rejected) for batch in session.execute(query)]


def _done(run_id: str) -> Select:
    return select(Batch.accepted, Batch.rejected).where(Batch.run_id == run_id, Batch.status == "done")


def release_batches(session: Session, claims: Sequence[tuple[str, int]]) -> None:
    """Batches that are leased under these tokens wait again, and the attempt does not count."""
    if not claims:
        return
    session.execute(
        update(Batch)
        .where(tuple_(Batch.id, Batch.lease_token).in_(claims), Batch.status == "leased")
        .values(status="pending", lease_owner=None, lease_expires_at=None, attempt=Batch.attempt - 1)
        .execution_options(synchronize_session=False)
    )


def drop_open_batches(session: Session, run_id: str) -> None:
    session.execute(
        update(Batch)
        .where(Batch.run_id == run_id, Batch.status.in_(OPEN))
        .values(status="dropped", lease_owner=None, lease_expires_at=None, lease_token=Batch.lease_token + 1)
    )


def count_pending_or_leased_batches(session: Session, run_id: str) -> int:
    """Batches that go on by themselves: held by somebody, or about to be."""
    query = select(func.count()).where(Batch.run_id == run_id, Batch.status.in_(("pending", "leased")))
    return session.scalar(query)


def requeue_answered_batches(session: Session, run_id: str) -> None:
    """Batches all of whose calls have been answered, or given up, are tried again."""
    out = accounts_store.select_unanswered(Batch.id)
    session.execute(
        update(Batch)
        .where(Batch.run_id == run_id, Batch.status == "waiting", ~out.exists())
        .values(status="pending", not_before=None)
    )


def list_runs_with_remote_work(session: Session) -> list[str]:
    """Runs with calls that wait to be sent, or with remote batches that are out."""
    return list(session.scalars(select(Run.id).where(Run.account_id.in_(remote_batches.select_accounts_with_work()))))


def count_task_types(session: Session, run_id: str) -> dict[str, int]:
    """Rows of the run by task type: those accepted, and those that batches under way were told to make."""
    requested = Batch.plan["focus"]["task_type"].astext
    query = select(requested, func.sum(Batch.plan["proposals"].as_integer())).where(
        Batch.run_id == run_id, Batch.status.in_(OPEN), requested.is_not(None)
    )
    counts = Counter(run_rows.count_task_types(session, run_id))
    for name, count in session.execute(query.group_by(requested)):
        counts[name] += count
    return counts


def has_run(session: Session, dataset_id: str, run_id: str) -> bool:
    return session.scalar(select(Run.id).where(Run.id == run_id, Run.dataset_id == dataset_id)) is not None
