"""Remote batches: calls of an account that go out together, and the state of each batch in its row."""

from collections.abc import Sequence

from sqlalchemy import CompoundSelect, func, select
from sqlalchemy.orm import Session

from app.calls import store
from app.jobs.leases import Claim, claim_row, is_unclaimed, lock_first_unlocked
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.tables.accounts import Completion, RemoteBatch

# A server may answer with a page of HTML; its start says enough.
MAX_ERROR_LENGTH = 1000


def create_batches(session: Session, account_id: str, max_requests: int) -> list[RemoteBatch]:
    """Put the account's calls that wait to be sent into new remote batches, one for each teacher."""
    calls = store.lock_unsent_calls(session, account_id, max_requests)
    teachers = sorted({call.teacher for call in calls})
    return [
        _create_batch(session, account_id, teacher, [call for call in calls if call.teacher == teacher])
        for teacher in teachers
    ]


def _create_batch(session: Session, account_id: str, teacher: str, calls: Sequence[Completion]) -> RemoteBatch:
    batch = RemoteBatch(id=new_id("rb"), account_id=account_id, teacher=teacher, status="preparing")
    batch.requests, batch.lease_token = len(calls), 0
    session.add(batch)
    # In the transaction that adds the batch, before it is sent: after a crash its calls are not put into a second one.
    for call in calls:
        call.remote_batch_id = batch.id
    return batch


def load_batch(session: Session, id: str) -> RemoteBatch:
    """Return the remote batch with this id."""
    return session.get(RemoteBatch, id)


def claim_batch(id: str) -> Claim | None:
    """A claim of the batch, or None when it has ended or another worker has it."""
    query = select(RemoteBatch).where(RemoteBatch.id == id, RemoteBatch.status != "ended", is_unclaimed(RemoteBatch))
    with transaction() as session:
        row = lock_first_unlocked(session, query)
        return None if row is None else claim_row(session, row)


def end_batch(row: RemoteBatch, message: str | None, answered: int = 0, failed: int = 0) -> None:
    """End a batch whose row the caller has locked; `message` says what was wrong."""
    row.status, row.answered, row.failed = "ended", answered, failed
    row.error, row.finished_at = message[:MAX_ERROR_LENGTH] if message else None, func.clock_timestamp()


def list_open_ids(session: Session, account_id: str) -> Sequence[str]:
    """Ids of the account's batches that the teacher has, or may have."""
    query = select(RemoteBatch.id).where(RemoteBatch.account_id == account_id, RemoteBatch.status != "ended")
    return session.scalars(query).all()


def select_accounts_with_work() -> CompoundSelect:
    """A query for the ids of accounts with calls that wait to be sent, or with batches that nobody looks after now."""
    out = select(RemoteBatch.account_id).where(RemoteBatch.status != "ended", is_unclaimed(RemoteBatch))
    ready = select(Completion.account_id).where(Completion.status == "waiting", Completion.remote_batch_id.is_(None))
    return out.union(ready)
