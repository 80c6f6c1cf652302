"""Creates, pauses, resumes and cancels judgements. Every change of the status is made under the lock of the row."""

from collections.abc import Iterable

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.calls import service as accounts
from app.calls import store as accounts_store
from app.datasets import records
from app.datasets import store as dataset_store
from app.datasets.rows import DatasetRow
from app.errors import AppError, FieldError, conflict, invalid, pointer_in
from app.jobs import event_log, queue, steering
from app.jobs.leases import release_lease
from app.jobs.outcomes import CANCELLED, change_status, record_outcome
from app.jobs.queue_position import add_queue_positions
from app.jobs.retry import Outcome
from app.judgements import store
from app.judgements.kind import KIND
from app.judgements.schemas import JudgementCreate, JudgementView, judgement_view
from app.persistence.ids import new_id
from app.synth.quality.judge_records import JudgementOptions
from app.tables.judgements import Judgement


def create(session: Session, caller: Caller, body: JudgementCreate) -> Judgement:
    """Create a judgement of the records that fit now, and notify a worker. Raises a 422 for an unusable body."""
    dataset, options = _validate(session, caller, body)
    filter = body.filter.model_dump()
    # Records that are added later have higher ids, so the newest id fixes what is judged.
    rows, newest = records.count_records(session, store.build_conditions(dataset.id, filter, options))
    if rows == 0:
        raise invalid("/filter", "no record of the dataset fits the filter and has what is to be judged", "empty")
    if body.reject:
        # Only a judgement that rejects changes the pool, which a re-encoding needs for itself.
        dataset_store.refuse_while_encoding(session, dataset.id)
    id = new_id("jdg")
    ceilings = body.model_dump(include={"max_requests", "max_tokens", "max_usd"})
    account = accounts.open_account(session, caller.project_id, dataset.id, ("judgement", id), ceilings)
    row = Judgement(
        id=id,
        project_id=caller.project_id,
        dataset_id=dataset.id,
        account_id=account.id,
        teacher=body.teacher,
        filter=filter,
        newest_record_id=newest,
        options=options.model_dump(mode="json"),
        reject=body.reject,
        rows=rows,
        outcomes={},
        attempt=0,
        lease_token=0,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.JUDGEMENT, row.id)
    return row


def _validate(session: Session, caller: Caller, body: JudgementCreate) -> tuple[DatasetRow, JudgementOptions]:
    """Return the dataset and the validated options. Raises a 422 that names the wrong field."""
    teacher = config.teachers().get(body.teacher)
    if teacher is None:
        names = ", ".join(config.teachers()) or "none"
        raise invalid("/teacher", f"no teacher {body.teacher!r} is configured; there are: {names}", "unknown")
    if body.max_usd is not None and not (teacher.prompt_price or teacher.completion_price):
        raise invalid("/max_usd", f"the teacher {body.teacher!r} has no prices configured", "no_prices")
    dataset = dataset_store.find_dataset(session, caller.project_id, body.dataset_id)
    if dataset is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    options = _options(body.options)
    if not options.question and not options.answer:
        raise invalid("/options", "nothing is judged: set question or answer to true", "empty")
    return dataset, options


def _options(values: dict) -> JudgementOptions:
    try:
        return JudgementOptions.model_validate(values)
    except ValidationError as error:
        faults = [
            FieldError(
                "/options" + pointer_in(values, fault["loc"], fault["type"] == "missing"), fault["msg"], fault["type"]
            )
            for fault in error.errors()
        ]
        raise AppError(422, "invalid-input", f"{faults[0].pointer}: {faults[0].detail}", faults) from error


def cancel(session: Session, caller: Caller, id: str) -> Judgement:
    """End the judgement soon. Stored verdicts stay. A judgement that has ended is returned unchanged."""
    row = _locked(session, caller, id)
    if row.status == "paused":
        # No worker has it, so it ends at once.
        record_outcome(session, KIND, row, Outcome.CANCELLED, CANCELLED)
        session.refresh(row)
        return row
    row = steering.cancel(session, KIND, id)
    # Its worker sees the cancel within a second. One that hangs may have the account locked: nobody waits for it here.
    accounts_store.set_state_unless_locked(session, row.account_id, "stopped")
    return row


def pause(session: Session, caller: Caller, id: str) -> Judgement:
    """Let the calls in flight end, store their verdicts, and wait for `resume`. Raises a 409 for an ended judgement."""
    row = _locked(session, caller, id)
    if row.status in ("paused", "pausing"):
        # It waits for its teacher and would be resumed by itself. A user who pauses it also resumes it.
        row.paused_for = row.resume_at = None
    elif row.status in ("queued", "running"):
        # A queued judgement has no call in flight, so it need not wait for any.
        change_status(session, row, "paused" if row.status == "queued" else "pausing")
        accounts_store.set_state(session, row.account_id, "stopped")
    else:
        raise conflict(f"The judgement is {row.status}; it can't be paused.")
    return row


def resume(session: Session, caller: Caller, id: str) -> Judgement:
    """Continue a paused judgement. Raises a 409 for a judgement that has ended."""
    row = _locked(session, caller, id)
    if row.status in ("queued", "running"):
        return row
    if row.status == "pausing":
        # Its worker continues as soon as the calls in flight have ended.
        row.paused_for = row.resume_at = None
        change_status(session, row, "running")
        accounts_store.set_state(session, row.account_id, "open")
        return row
    if row.status != "paused":
        raise conflict(f"The judgement is {row.status}; only a paused judgement can be resumed.")
    _resume(session, row)
    return row


def resume_due(session: Session) -> None:
    """Continue the judgements that have waited for their teacher long enough."""
    for id in store.list_due_to_resume(session):
        row = store.locked_judgement(session, id)
        if row.status == "paused" and row.paused_for is not None:
            _resume(session, row)


def _resume(session: Session, row: Judgement) -> None:
    row.paused_for = row.resume_at = None
    change_status(session, row, "queued")
    accounts_store.set_state(session, row.account_id, "open")
    queue.notify_after_commit(session, queue.JUDGEMENT, row.id)


def pause_abandoned(session: Session) -> None:
    """Pause the judgements whose worker was lost while it paused them."""
    for id in store.list_abandoned_while_pausing(session):
        row = store.locked_judgement(session, id)
        if row.status == "pausing":
            release_lease(row)
            change_status(session, row, "paused")


def views(session: Session, rows: Iterable[Judgement]) -> dict[str, JudgementView]:
    """Return the views of the judgements by id, with the present spending of their accounts."""
    rows = add_queue_positions(session, rows)
    account_views = accounts.views_by_id(session, [row.account_id for row in rows])
    return {row.id: judgement_view(row, account_views[row.account_id]) for row in rows}


def _locked(session: Session, caller: Caller, id: str) -> Judgement:
    store.judgement(session, caller.project_id, id)
    return store.locked_judgement(session, id)
