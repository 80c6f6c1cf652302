"""How many batches, and what each shows the teacher. Done under the run's row lock, in one transaction."""

import random
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.db import transaction
from app.ids import new_id
from app.jobs.leases import Claim, claim
from app.runs import sampling, service, store
from app.synth.batch_sizes import batch_sizes, expected_yield
from app.synth.methods import METHODS
from app.tables.datasets import Dataset
from app.tables.runs import Batch, Run

MOST_AT_ONCE = 64


@dataclass(frozen=True)
class Look:
    """What a slice sees when it looks at its run: how it stands, and the batches it may work on."""

    status: str
    stopping: str | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def takes_calls(self) -> bool:
        return self.status == "running" and self.stopping is None


def look(run_id: str, room: int, at_most: int = 2**31) -> Look:
    """Look at the run, and claim up to `room` batches if it goes on. New ones are planned as needed.

    With those that others hold there are `at_most` in all: a slice that follows another one takes over as its
    batches end, and not all at once.
    """
    with transaction() as session:
        run = store.locked_run(session, run_id)
        if run is None or run.ended:
            return Look("gone" if run is None else run.status)
        if run.status == "queued":
            service.move(session, run, "running")
            session.refresh(run)
        if run.status == "running" and run.stopping is None:
            service.set_stopping(session, run, _ceiling(session, run))
        found = Look(run.status, run.stopping)
        if room > 0 and at_most < 2**31:
            room = min(room, at_most - store.live_batches(session, run.id))
        if room > 0 and found.takes_calls:
            found.claims.extend(_claim(session, run, room))
        return found


def _ceiling(session: Session, run: Run) -> str | None:
    """Ceilings that are not a matter of single calls."""
    if run.accepted >= run.target:
        return "target_reached"
    if run.max_candidates is not None and run.accepted + run.rejected >= run.max_candidates:
        return "max_candidates"
    if run.max_seconds is not None and store.seconds_running(session, run) >= run.max_seconds:
        return "max_seconds"
    return None


def _claim(session: Session, run: Run, room: int) -> list[Claim]:
    batches = list(store.claimable_batches(session, run.id, room))
    dataset = session.get(Dataset, run.dataset_id)
    for size in _wanted(session, run)[: room - len(batches)]:
        batch = Batch(id=new_id("bat"), run_id=run.id, number=run.batches_planned, lease_token=0, attempt=0)
        rng = random.Random(f"{run.seed}/{run.batches_planned}")
        batch.plan = sampling.plan(session, run, dataset, size, rng)
        if batch.plan is None:
            if not store.open_proposals(session, run.id):
                service.set_stopping(session, run, "exhausted")
            break
        run.batches_planned += 1
        run.in_flight += batch.plan["proposals"]
        session.add(batch)
        session.flush()
        batches.append(batch)
    for batch in batches:
        batch.status = "leased"
    return [claim(session, batch) for batch in batches]


def _wanted(session: Session, run: Run) -> list[int]:
    """How many proposals to ask for in each new batch, beside those under way: no more than are likely needed."""
    method, options = METHODS[run.method], sampling.options_of(run)
    # Batches of which all was rejected at once end first: only those count before which none is open.
    per_proposal = expected_yield(*store.outcome_in_order(session, run.id)) * method.candidates(options)
    missing = run.target - run.accepted - per_proposal * store.open_proposals(session, run.id)
    return batch_sizes(missing, per_proposal, method.batch_size(options), MOST_AT_ONCE)
