"""What follows from an error in a batch: for the batch, which is tried again or fails, and for its run.

Every function writes its result in a transaction of its own, after the one that failed was rolled back.
"""

import logging
from collections.abc import Sequence

from app.calls.caller import TeacherUnavailable
from app.calls.circuit_breaker import CircuitOpen
from app.calls.ledger_entries import AccountStopped, CallDeferred, CeilingReached
from app.jobs.leases import Claim, LeaseLost, lock_claimed_row, release_lease, seconds_from_now
from app.persistence.db import transaction
from app.runs import service, store
from app.synth.teacher_errors import TeacherRefused
from app.synth.types import CallsEnded

log = logging.getLogger(__name__)

# A fault of the database or of the network is over after some attempts. What fails five times is a defect.
MAX_ATTEMPTS, MAX_FAILED_BATCHES = 5, 10
WAIT_SECONDS_AFTER_FAILURE = 10
LOST_MESSAGE = "%s has another owner now, so this worker writes nothing more of it"


def handle_error(claim: Claim, run_id: str, error: Exception) -> None:
    """Write what follows from the error: to the batch, to the run, or to both."""
    match error:
        case LeaseLost():
            log.warning(LOST_MESSAGE, claim.id)
        case AccountStopped():
            release_batch(claim)
        case CallsEnded():
            stop_at_ceiling(run_id, error)
            release_batch(claim)
        case TeacherRefused():
            # No release is needed: the end of the run drops its open batches, this one included.
            _fail_run(run_id, error.stop_reason, str(error))
        case CallDeferred():
            _wait_for_answers(claim)
        case CircuitOpen():
            _pause_for_teacher(claim, run_id, str(error), error.seconds)
        case TeacherUnavailable():
            _pause_for_teacher(claim, run_id, str(error), WAIT_SECONDS_AFTER_FAILURE * claim.attempt)
        case _:
            log.error("%s of %s failed", claim.id, run_id, exc_info=error)
            _record_fault(claim, run_id, error)


def release_batch(claim: Claim, wait: float = 0, message: str | None = None, failed: bool = False) -> None:
    """Let another worker claim the batch, or end it as failed. A batch that has another owner is left to that owner.

    Args:
        claim: the claim by which this worker holds the batch.
        wait: seconds until the batch may be claimed again.
        message: what went wrong. Without a message nothing did, and the attempt does not count.
        failed: end the batch instead: it is not tried again.
    """
    try:
        with transaction() as session:
            batch = lock_claimed_row(session, claim)
            batch.status, batch.error = "failed" if failed else "pending", message
            batch.not_before = seconds_from_now(wait) if wait else None
            if message is None:
                # A pause, a ceiling or the end of a worker is no failure of the batch.
                batch.attempt -= 1
            release_lease(batch)
    except LeaseLost:
        log.warning(LOST_MESSAGE, claim.id)


def release_batches(claims: Sequence[Claim]) -> None:
    """Release those of the batches that this worker still holds. Their attempts don't count: nothing went wrong."""
    with transaction() as session:
        store.release_batches(session, [(claim.id, claim.token) for claim in claims])


def stop_at_ceiling(run_id: str, error: CallsEnded) -> None:
    """Let the run end because of the ceiling that its next call could exceed.

    Args:
        run_id: the run.
        error: why a call was not made. One that is no ceiling changes nothing: the run is about to end already.
    """
    if isinstance(error, CeilingReached):
        with transaction() as session:
            service.stop(session, run_id, error.name)


def _fail_run(run_id: str, reason: str, message: str) -> None:
    with transaction() as session:
        service.fail(session, run_id, reason, message)


def _pause_for_teacher(claim: Claim, run_id: str, message: str, seconds: float) -> None:
    """Release the batch without counting the attempt, and pause the run for so many seconds.

    The run pauses as a whole: its other batches call the same teacher.
    """
    release_batch(claim)
    with transaction() as session:
        service.pause_for_teacher(session, run_id, message, seconds)


def _wait_for_answers(claim: Claim) -> None:
    """Let the batch wait for a remote batch, in which its registered calls go out, and for their answers."""
    try:
        with transaction() as session:
            batch = lock_claimed_row(session, claim)
            batch.status, batch.attempt = "waiting", batch.attempt - 1
            release_lease(batch)
    except LeaseLost:
        log.warning(LOST_MESSAGE, claim.id)


def _record_fault(claim: Claim, run_id: str, error: Exception) -> None:
    """Write a fault of this program or of the database.

    The batch is tried again until its last attempt. The run continues without a failed batch, and fails with many.
    """
    message, is_last = f"{type(error).__name__}: {error}"[:1000], claim.attempt >= MAX_ATTEMPTS
    release_batch(claim, wait=WAIT_SECONDS_AFTER_FAILURE, message=message, failed=is_last)
    if not is_last:
        return
    with transaction() as session:
        # Nobody will decide on its proposals any more: offered = accepted + rejected + in_flight must stay true.
        store.locked_run(session, run_id).in_flight -= store.load_proposal_count(session, claim.id)
        failed = store.count_batches_by_status(session, run_id).get("failed", 0)
    if failed >= MAX_FAILED_BATCHES:
        summary = f"{failed} batches failed, each in {MAX_ATTEMPTS} attempts. The last error: {message}"
        _fail_run(run_id, "too_many_failures", summary)
