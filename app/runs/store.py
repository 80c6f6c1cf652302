"""SQL of runs and of their batches, the units of work. Times are those of the database's clock."""

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

# Batches that may still bring rows.
OPEN = ("pending", "leased", "waiting")
# Runs that need a worker now, or soon.
ACTIVE = ("queued", "running", "pausing", "cancelling")


def run(session: Session, project_id: str, id: str) -> Run:
    """Return the project's run with this id. Raises a 404 where there is none."""
    row = session.scalar(select(Run).where(Run.id == id, Run.project_id == project_id))
    if row is None:
        raise not_found("run", id)
    return row


def list_runs(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[Run]:
    """Return the project's runs, of a dataset if one is named, newest first, those with an id below `after`."""
    query = select(Run).where(Run.project_id == project_id).order_by(Run.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Run.dataset_id == dataset_id)
    return session.scalars(query.where(Run.id < after) if after else query).all()


def load_run(session: Session, id: str) -> Run | None:
    """Return the run of any project, for workers. None where it was deleted."""
    return session.get(Run, id)


def locked_run(session: Session, id: str) -> Run | None:
    """Lock the run until this transaction ends, and return it as it is now; None where it was deleted.

    Lock it after its dataset, and before its batches and its account: all transactions keep this order.
    """
    # Not the strongest lock: other transactions may insert rows that refer to the run.
    query = select(Run).where(Run.id == id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def set_row_counts(session: Session, id: str, counts: dict) -> None:
    """Set accepted, rejected and rejected_by_reason of the run."""
    session.execute(update(Run).where(Run.id == id).values(**counts))


def list_active_runs(session: Session) -> Sequence[Run]:
    """Return the runs that need a worker, oldest first."""
    return session.scalars(select(Run).where(Run.status.in_(ACTIVE)).order_by(Run.id)).all()


def list_due_to_resume(session: Session) -> Sequence[str]:
    """Return the ids of runs that have waited long enough for their teacher to call it again."""
    query = select(Run.id).where(
        Run.status == "paused", Run.paused_for.is_not(None), Run.resume_at < func.clock_timestamp()
    )
    return session.scalars(query).all()


def seconds_running(session: Session, run: Run) -> float:
    """Return the seconds since the run began; 0 before its start."""
    if run.started_at is None:
        return 0.0
    return float(session.scalar(select(func.extract("epoch", func.clock_timestamp() - run.started_at))))


def seconds_since(session: Session, moment: datetime) -> float:
    """Return the seconds since this moment."""
    return float(session.scalar(select(func.extract("epoch", func.clock_timestamp() - moment))))


def count_leased_batches(session: Session, run_id: str) -> int:
    """Count the batches that workers hold under leases that have not expired."""
    query = (
        select(func.count())
        .select_from(Batch)
        .where(Batch.run_id == run_id, Batch.status == "leased", ~is_unclaimed(Batch))
    )
    return session.scalar(query)


def count_open_proposals(session: Session, run_id: str) -> int:
    """Sum the proposals of the open batches, whose candidates admission has not decided on."""
    size = Batch.plan["proposals"].as_integer()
    query = select(func.coalesce(func.sum(size), 0))
    return session.scalar(query.where(Batch.run_id == run_id, Batch.status.in_(OPEN)))


def count_outcomes_before_open_batches(session: Session, run_id: str) -> tuple[int, int]:
    """Count the candidates of batches that were planned before every open batch. Returns (accepted, offered)."""
    # Without an open batch all batches count, since every number is below the largest integer.
    first_open = select(func.min(Batch.number)).where(Batch.run_id == run_id, Batch.status.in_(OPEN)).scalar_subquery()
    query = select(
        func.coalesce(func.sum(Batch.accepted), 0), func.coalesce(func.sum(Batch.accepted + Batch.rejected), 0)
    ).where(Batch.run_id == run_id, Batch.status == "done", Batch.number < func.coalesce(first_open, 2**31 - 1))
    accepted, offered = session.execute(query).one()
    return int(accepted), int(offered)


def load_proposal_count(session: Session, batch_id: str) -> int:
    """Return the number of proposals in the batch's plan."""
    return session.scalar(select(Batch.plan["proposals"].as_integer()).where(Batch.id == batch_id))


def find_similar_runs(
    session: Session, project_id: str, settings: dict, options: MethodOptions, max_runs: int = 20
) -> list[Run]:
    """Return the newest runs with these settings and options that have ended with accepted rows.

    Args:
        session: the transaction.
        project_id: the project.
        settings: values of columns of runs, by name.
        options: the options of the method. A run that was started before an option existed has its default.
        max_runs: how many to return at most.
    """
    query = select(Run).where(
        Run.project_id == project_id,
        Run.accepted > 0,
        Run.finished_at.is_not(None),
        Run.options.contained_by(options.model_dump(mode="json")),
    )
    # The database compares only the options that a run stored, so ten times as many are read and compared here.
    runs = session.scalars(query.filter_by(**settings).order_by(Run.id.desc()).limit(10 * max_runs))
    return [run for run in runs if type(options).model_validate(run.options) == options][:max_runs]


def load_samples(session: Session, run_ids: Sequence[str]) -> list[Sample]:
    """Return a sample for each batch that ended: its good and its offered candidates, and what its calls took.

    Candidates that were rejected as `over_target` count as good: only the target was in their way.
    """
    over_target = run_rows.select_counts_by_batch(run_ids, "over_target").subquery()
    spent = accounts_store.select_spending_by_unit(_select_accounts(run_ids)).subquery()
    columns = (
        (Batch.accepted + func.coalesce(over_target.c.rows, 0)).label("good"),
        (Batch.accepted + Batch.rejected).label("offered"),
        *(func.coalesce(spent.c[name], 0).label(name) for name in ("requests", "tokens", "dollars")),
    )
    # Outer joins: a batch may have no such row, and no call of its own.
    query = (
        select(*columns)
        .outerjoin(over_target, over_target.c.batch_id == Batch.id)
        .outerjoin(spent, spent.c.unit_id == Batch.id)
        .where(Batch.run_id.in_(run_ids), Batch.status == "done")
        .order_by(Batch.run_id, Batch.number)
    )
    return [
        Sample(row.good, row.offered, int(row.requests), int(row.tokens), float(row.dollars))
        for row in session.execute(query)
    ]


def _select_accounts(run_ids: Sequence[str]) -> Select:
    return select(Run.account_id).where(Run.id.in_(run_ids))


def mean_latency(session: Session, run_ids: Sequence[str]) -> float:
    """Return the mean seconds from the sending of a call to its stored reply, of calls that needed one try."""
    return accounts_store.mean_latency(session, _select_accounts(run_ids))


def count_batches_by_status(session: Session, run_id: str) -> dict[str, int]:
    """Count the batches of the run by status."""
    query = select(Batch.status, func.count()).where(Batch.run_id == run_id).group_by(Batch.status)
    return {status: count for status, count in session.execute(query)}


def lock_claimable_batches(session: Session, run_id: str, limit: int) -> Sequence[Batch]:
    """Lock and return batches that are pending and due, and batches whose worker was lost, in their order."""
    due = or_(Batch.not_before.is_(None), Batch.not_before < func.clock_timestamp())
    is_pending = and_(Batch.status == "pending", due)
    has_lost_worker = and_(Batch.status == "leased", is_unclaimed(Batch))
    query = (
        select(Batch)
        .where(Batch.run_id == run_id, or_(is_pending, has_lost_worker))
        .order_by(Batch.number)
        .limit(limit)
    )
    # Locked batches are skipped: another transaction is about to claim or to end them.
    return session.scalars(query.order_by(Batch.number).limit(limit).with_for_update(skip_locked=True)).all()


def recent_acceptance_rate(session: Session, run_id: str, window: int) -> float | None:
    """Return the accepted share of at least the `window` newest candidates, 0 to 1; None while there are fewer."""
    accepted = offered = 0
    # A run may have thousands of batches, of which the newest few are enough: they are fetched in parts.
    query = _select_outcomes(run_id).order_by(Batch.finished_at.desc(), Batch.number.desc())
    for batch in session.execute(query.execution_options(yield_per=100)):
        accepted, offered = accepted + batch.accepted, offered + batch.accepted + batch.rejected
        if offered >= window:
            return accepted / offered
    return None


def list_batch_outcomes(session: Session, run_id: str) -> list[tuple[int, int]]:
    """Return (accepted, rejected) of each batch, in the order in which they ended."""
    query = _select_outcomes(run_id).order_by(Batch.finished_at, Batch.number)
    return [(batch.accepted, batch.rejected) for batch in session.execute(query)]


def _select_outcomes(run_id: str) -> Select:
    return select(Batch.accepted, Batch.rejected).where(Batch.run_id == run_id, Batch.status == "done")


def release_batches(session: Session, claims: Sequence[tuple[str, int]]) -> None:
    """Release the batches that are leased under these (id, token). Their attempts do not count."""
    if not claims:
        return
    session.execute(
        update(Batch)
        .where(tuple_(Batch.id, Batch.lease_token).in_(claims), Batch.status == "leased")
        .values(status="pending", lease_owner=None, lease_expires_at=None, attempt=Batch.attempt - 1)
        .execution_options(synchronize_session=False)
    )


def drop_open_batches(session: Session, run_id: str) -> None:
    """Drop the open batches of a run that ends. A worker that still holds one can't write its result any more."""
    session.execute(
        update(Batch)
        .where(Batch.run_id == run_id, Batch.status.in_(OPEN))
        .values(status="dropped", lease_owner=None, lease_expires_at=None, lease_token=Batch.lease_token + 1)
    )


def count_pending_or_leased_batches(session: Session, run_id: str) -> int:
    """Count the batches that a worker holds or will claim. The other open batches wait for a remote batch."""
    query = select(func.count()).where(Batch.run_id == run_id, Batch.status.in_(("pending", "leased")))
    return session.scalar(query)


def requeue_answered_batches(session: Session, run_id: str) -> None:
    """Make those batches pending again all of whose calls were answered or given up."""
    unanswered = accounts_store.select_unanswered(Batch.id)
    session.execute(
        update(Batch)
        .where(Batch.run_id == run_id, Batch.status == "waiting", ~unanswered.exists())
        .values(status="pending", not_before=None)
    )


def list_runs_with_remote_work(session: Session) -> list[str]:
    """Return the ids of runs with calls that wait for a remote batch, or with open remote batches."""
    return list(session.scalars(select(Run.id).where(Run.account_id.in_(remote_batches.select_accounts_with_work()))))


def count_task_types(session: Session, run_id: str) -> dict[str, int]:
    """Count the rows of the run by task type: accepted rows, and the proposals of open batches."""
    requested = Batch.plan["focus"]["task_type"].astext
    query = select(requested, func.sum(Batch.plan["proposals"].as_integer())).where(
        Batch.run_id == run_id, Batch.status.in_(OPEN), requested.is_not(None)
    )
    counts = Counter(run_rows.count_task_types(session, run_id))
    for name, count in session.execute(query.group_by(requested)):
        counts[name] += count
    return counts


def has_run(session: Session, dataset_id: str, run_id: str) -> bool:
    """Whether the dataset has a run with this id."""
    return session.scalar(select(Run.id).where(Run.id == run_id, Run.dataset_id == dataset_id)) is not None
