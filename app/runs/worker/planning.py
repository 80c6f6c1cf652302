"""Plans the next batches of a run and claims them, in one transaction under the lock of the run's row."""

import random
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.datasets import store as dataset_store
from app.jobs.leases import Claim, claim_row
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.runs import sampling, service, store
from app.runs.health import PROBATION_BATCHES
from app.synth.batch_sizes import batch_sizes, expected_yield
from app.synth.methods.registry import METHODS
from app.tables.runs import Batch, Run

# So many new batches are planned at once at most, however far the target is: their claims are one transaction.
MAX_BATCHES = 64
UNLIMITED = 2**31


@dataclass(frozen=True)
class RunState:
    """The state of a run, as a time slice read it under the lock, and the batches that the slice has claimed.

    Attributes:
        status: the status of the run, or `gone` where the run was deleted.
        pending_stop_reason: why the run is about to end; None while it goes on.
        claims: the claims of the batches, by which the slice writes their results.
    """

    status: str
    pending_stop_reason: str | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def takes_calls(self) -> bool:
        """Whether the run may start new batches."""
        return self.status == "running" and self.pending_stop_reason is None


def plan_and_claim(run_id: str, max_new: int, max_leased: int = UNLIMITED) -> RunState:
    """Read the run's state and, while it takes calls, claim batches: pending ones first, then newly planned ones.

    A time slice calls it once a second. It also starts a queued run, and stops a run that has reached a ceiling.

    Args:
        run_id: the run, which may have been deleted.
        max_new: how many batches to claim at most; with 0 none is claimed.
        max_leased: how many batches all workers together may hold. A slice that follows another one therefore claims
            a batch each time when one of its predecessor ends.
    """
    with transaction() as session:
        run = store.locked_run(session, run_id)
        if run is None or run.ended:
            return RunState("gone" if run is None else run.status)
        if run.status == "queued":
            service.move(session, run, "running")
            session.refresh(run)
        if run.status == "running" and run.pending_stop_reason is None:
            # Not only at admission, which checks the target: time passes while no batch is admitted, and a refilter
            # changes the counts.
            service.set_pending_stop_reason(session, run, _reached_ceiling(session, run))
        state = RunState(run.status, run.pending_stop_reason)
        if run.mode == "direct" and not run.health.get("has_usable", False):
            # A teacher that gives nothing usable must not cost more than the calls of a few batches. Batch mode has no
            # such start, since each round of calls takes the teacher hours.
            max_leased = min(max_leased, PROBATION_BATCHES)
        if max_new > 0 and max_leased < UNLIMITED:
            max_new = min(max_new, max_leased - store.count_leased_batches(session, run.id))
        if max_new > 0 and state.takes_calls:
            state.claims.extend(_claim_batches(session, run, max_new))
        return state


def _reached_ceiling(session: Session, run: Run) -> str | None:
    """Return the ceiling of rows or seconds that is reached, or None. The ledger checks calls, tokens and dollars."""
    if run.accepted >= run.target:
        return "target_reached"
    if run.max_candidates is not None and run.accepted + run.rejected >= run.max_candidates:
        return "max_candidates"
    if run.max_seconds is not None and store.seconds_running(session, run) >= run.max_seconds:
        return "max_seconds"
    return None


def _claim_batches(session: Session, run: Run, max_new: int) -> list[Claim]:
    # Pending batches come first: their calls may be paid for already.
    batches = list(store.lock_claimable_batches(session, run.id, max_new))
    batches += _plan_batches(session, run, max_new - len(batches))
    for batch in batches:
        batch.status = "leased"
    return [claim_row(session, batch) for batch in batches]


def _plan_batches(session: Session, run: Run, max_new: int) -> list[Batch]:
    batches: list[Batch] = []
    dataset = dataset_store.load_dataset(session, run.dataset_id)
    for size in _new_batch_sizes(session, run)[:max_new]:
        batch = Batch(id=new_id("bat"), run_id=run.id, number=run.batches_planned, lease_token=0, attempt=0)
        # The batch's number seeds its plan, so that a run of the same seed plans the same batches again.
        rng = random.Random(f"{run.seed}/{run.batches_planned}")
        batch.plan = sampling.plan_batch(session, run, dataset, size, rng)
        if batch.plan is None:
            # Nothing is left to draw from. Rows of open batches may become material, so the run ends only when no batch
            # is open.
            if not store.count_open_proposals(session, run.id):
                service.set_pending_stop_reason(session, run, "exhausted")
            break
        run.batches_planned += 1
        run.in_flight += batch.plan["proposals"]
        session.add(batch)
        session.flush()
        batches.append(batch)
    return batches


def _new_batch_sizes(session: Session, run: Run) -> list[int]:
    """Return the number of proposals of each new batch: with the open batches, as many as the target likely needs.

    A proposal is one unit of what the method makes, such as one new instruction; it gives one or more candidates.
    """
    method, options = METHODS[run.method], sampling.parse_options(run)
    # A batch whose rows are all rejected early ends before the others, which would bias the yield downwards. So only
    # batches count that were planned before every open batch.
    accepted_share = expected_yield(*store.count_outcomes_before_open_batches(session, run.id))
    rows_per_proposal = accepted_share * method.candidates(options)
    missing = run.target - run.accepted - rows_per_proposal * store.count_open_proposals(session, run.id)
    return batch_sizes(missing, rows_per_proposal, method.batch_size(options), MAX_BATCHES)
