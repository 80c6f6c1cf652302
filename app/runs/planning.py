"""How many batches, and what each shows the teacher. Done under the run's row lock, in one transaction."""

import math
import random
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app import events
from app.db import transaction
from app.ids import new_id
from app.leases import Claim, claim
from app.runs import store
from app.runs.methods import METHODS
from app.tables.datasets import Dataset
from app.tables.runs import Batch, Run

# Half of what a batch proposes is a fair guess until the run has its own experience.
FIRST_YIELD = 0.5


@dataclass(frozen=True)
class Look:
    """What a slice sees when it looks at its run: how it stands, and the batches it may work on."""

    status: str
    stopping: str | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def takes_calls(self) -> bool:
        return self.status == "running" and self.stopping is None


def look(run_id: str, room: int) -> Look:
    """Look at the run, and claim up to `room` batches if it goes on. New ones are planned as needed."""
    with transaction() as session:
        run = store.locked_run(session, run_id)
        if run is None or run.ended:
            return Look("gone" if run is None else run.status)
        if run.status == "queued":
            run.move("running")
            session.flush()
            session.refresh(run)
            events.emit_status(session, run)
        if run.status == "running" and run.stopping is None:
            run.stopping = _ceiling(session, run)
        found = Look(run.status, run.stopping)
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
    for _ in range(min(room - len(batches), _wanted(session, run))):
        batch = Batch(id=new_id("bat"), run_id=run.id, number=run.batches_planned, lease_token=0, attempt=0)
        rng = random.Random(f"{run.seed}/{run.batches_planned}")
        batch.plan = METHODS[run.method].plan(session, run, dataset, rng)
        run.batches_planned += 1
        session.add(batch)
        session.flush()
        batches.append(batch)
    for batch in batches:
        batch.status = "leased"
    return [claim(session, batch) for batch in batches]


def _wanted(session: Session, run: Run) -> int:
    """New batches that are likely needed beside those under way."""
    method = METHODS[run.method]
    per_batch = method.rows_per_batch(method.options.model_validate(run.options))
    counts = store.batches_by_status(session, run.id)
    done = counts.get("done", 0)
    share = run.accepted / (done * per_batch) if done >= 3 else FIRST_YIELD
    expected = max(0.5, share * per_batch)
    missing = math.ceil((run.target - run.accepted) / expected)
    return max(0, missing - counts.get("pending", 0) - counts.get("leased", 0))
