"""Starts, pauses, resumes, cancels and ends runs. Every change of a run's status is made under the lock of its row."""

from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.calls import ledger, remote_batches
from app.calls import service as accounts
from app.calls import store as accounts_store
from app.calls.schemas import money
from app.datasets import store as dataset_store
from app.errors import conflict
from app.jobs import event_log, queue
from app.jobs.leases import seconds_from_now
from app.jobs.queue_position import add_queue_positions
from app.persistence.ids import new_id
from app.runs import health, prompt_preview, store, validation
from app.runs.schemas import MethodView, PreviewCreate, PromptList, RunCreate, RunView, TeacherView, run_view
from app.runs.teachers import last_check, reply_form
from app.synth.methods.registry import METHODS
from app.tables.runs import Run

# A method that yields less than one row in twenty would spend its budget on rejections.
CANDIDATES_PER_ROW, EXTRA_CANDIDATES = 20, 200


def preview(session: Session, caller: Caller, body: PreviewCreate) -> Run:
    """Start a preview: a run of a few rows, from which the cost of the whole run is estimated."""
    dataset, options = validation.validate(session, caller, body)
    full_target = validation.resolve_target(session, dataset, body, options)
    preview_body = RunCreate.model_validate(
        body.model_dump(exclude={"rows", "dry_run", "show_prompts", "target"}) | {"target": min(body.rows, full_target)}
    )
    # A run like any other: its rows are paid for, and would be paid for twice if they were dropped (docs/adr/0014).
    run = start(session, caller, preview_body)
    run.preview_target = full_target
    return run


def find_similar_runs(session: Session, caller: Caller, body: PreviewCreate) -> tuple[list[Run], int]:
    """Return ended runs with the settings of the body, newest first, and the target of the whole run."""
    dataset, options = validation.validate(session, caller, body)
    full_target = validation.resolve_target(session, dataset, body, options)
    teacher = body.teacher if METHODS[body.method].asks_teacher else None
    settings = {"method": body.method, "teacher": teacher, "judge": body.judge, "mode": body.mode}
    return store.find_similar_runs(session, caller.project_id, settings, options), full_target


def preview_prompts(session: Session, caller: Caller, body: PreviewCreate) -> PromptList:
    """Return the requests that a run of this body would make for its first batch. Nothing is stored."""
    dataset, options = validation.validate(session, caller, body)
    return prompt_preview.build_preview(session, dataset, body, options)


def start(session: Session, caller: Caller, body: RunCreate) -> Run:
    """Create a run and its account, and notify a worker. Raises a 422 for a body that no run could satisfy."""
    dataset, options = validation.validate(session, caller, body)
    # A re-encoding needs the dataset for itself: rows that are added meanwhile would have vectors of the old encoder.
    dataset_store.refuse_while_encoding(session, dataset.id)
    target = validation.resolve_target(session, dataset, body, options)
    id = new_id("run")
    ceilings = body.model_dump(include={"max_requests", "max_tokens", "max_usd"})
    account = accounts.open_account(session, caller.project_id, dataset.id, ("run", id), ceilings)
    run = Run(
        id=id,
        project_id=caller.project_id,
        account_id=account.id,
        dataset_id=body.dataset_id,
        method=body.method,
        teacher=body.teacher if METHODS[body.method].asks_teacher else None,
        judge=body.judge,
        options=options.model_dump(mode="json"),
        seed=body.seed,
        mode=body.mode,
        target=target,
        max_candidates=body.max_candidates or CANDIDATES_PER_ROW * target + EXTRA_CANDIDATES,
        max_seconds=body.max_seconds,
        saturation_window=body.saturation_window,
        saturation_share=body.saturation_share,
        rejected_by_reason={},
        cursor={},
    )
    session.add(run)
    session.flush()
    session.refresh(run)
    event_log.emit_status(session, run)
    queue.notify_after_commit(session, queue.RUN, run.id)
    return run


def cancel(session: Session, caller: Caller, id: str) -> Run:
    """End the run soon. Accepted rows stay. A run that has ended is returned unchanged."""
    run = _locked(session, caller, id)
    if run.ended or run.status == "cancelling":
        return run
    if run.status in ("queued", "paused"):
        # No worker holds a batch of it, so there is no call in flight to wait for.
        end(session, run, "cancelled", "cancelled")
    else:
        move(session, run, "cancelling")
        finalize(session, run)
    return run


def pause(session: Session, caller: Caller, id: str) -> Run:
    """Let the calls in flight end, admit their rows, and wait for `resume`. Raises a 409 for a run that ends."""
    run = _locked(session, caller, id)
    if run.status in ("paused", "pausing"):
        # The run waits for its teacher and would be resumed by itself. A user who pauses it also resumes it.
        run.paused_for = run.resume_at = None
        return run
    if run.status == "queued":
        move(session, run, "paused")
    elif run.status == "running" and run.pending_stop_reason is None:
        move(session, run, "pausing")
        finalize(session, run)
    else:
        about = " and about to end" if run.pending_stop_reason and not run.ended else ""
        raise conflict(f"The run is {run.status}{about}; it can't be paused.")
    return run


def resume(session: Session, caller: Caller, id: str) -> Run:
    """Continue a paused run. Raises a 409 for a run that has ended or is about to end."""
    run = _locked(session, caller, id)
    if run.status in ("queued", "running"):
        return run
    if run.status not in ("paused", "pausing"):
        raise conflict(f"The run is {run.status}; only a paused run can be resumed.")
    _continue(session, run)
    return run


def pause_for_teacher(session: Session, run_id: str, message: str, seconds: float) -> None:
    """Pause the run while its teacher fails, or end it as failed when the teacher has failed for too long.

    Args:
        session: the transaction.
        run_id: the run. A run that is not running, or that is about to end, stays as it is.
        message: the last error of the teacher.
        seconds: how long to wait before the sweeper resumes the run.
    """
    run = store.locked_run(session, run_id)
    if run is None or run.status != "running" or run.pending_stop_reason is not None:
        return
    if run.teacher_gone_since is None:
        run.teacher_gone_since = func.clock_timestamp()
        session.flush()
        session.refresh(run)
    if store.seconds_since(session, run.teacher_gone_since) > config.settings().teacher_gone_seconds:
        end(session, run, "failed", "teacher_unavailable", f"the teacher was away for too long; last: {message}")
        return
    run.paused_for, run.resume_at = "teacher_unavailable", seconds_from_now(max(1.0, seconds))
    move(session, run, "pausing")
    event_log.emit(session, run, "waiting", reason="teacher_unavailable", words=message, seconds=round(seconds, 1))
    finalize(session, run)


def pause_if_unusable(session: Session, run: Run) -> None:
    """Pause the run, until a person resumes it, when each of its newest proposals was unusable (`app.runs.health`).

    The caller holds the run locked, and has updated its health.
    """
    if run.status != "running" or run.pending_stop_reason is not None or not health.is_unusable(run.health):
        return
    advice = health.advise(run.health, run.teacher or "", _advice_on_length(session, run))
    counts = health.count_classes(run.health)
    run.health = run.health | {"message": f"none of the newest replies could be used; {advice}"}
    run.paused_for, run.resume_at = "teacher_unusable", None
    move(session, run, "pausing")
    samples = run.health["samples"]
    event_log.emit(session, run, "teacher_unusable", counts=counts, message=run.health["message"], samples=samples)
    finalize(session, run)


def _advice_on_length(session: Session, run: Run) -> str:
    """Say at how many tokens replies were cut, and which option of the run sets that limit."""
    cut = accounts_store.newest_cut_reply(session, run.account_id)
    if cut is None:
        return "raise the option of this step that ends with _tokens"
    step, max_tokens = cut
    return f"the step {step!r} ends at {max_tokens} tokens; raise {health.token_option(run.options, step, max_tokens)}"


def resume_due(session: Session) -> None:
    """Continue the runs that have waited for their teacher long enough."""
    for id in store.list_due_to_resume(session):
        run = store.locked_run(session, id)
        if run.status == "paused" and run.paused_for is not None:
            _continue(session, run)


def _continue(session: Session, run: Run) -> None:
    if run.paused_for == "teacher_unusable":
        # With the old outcomes a single unusable reply would pause it again.
        run.health = {}
    run.paused_for = run.resume_at = None
    move(session, run, "running")
    queue.notify_after_commit(session, queue.RUN, run.id)


def stop(session: Session, run_id: str, reason: str) -> None:
    """Let the run make no new calls, and end with this reason when its calls in flight have ended."""
    run = store.locked_run(session, run_id)
    if run is not None and not run.ended and run.pending_stop_reason is None:
        set_pending_stop_reason(session, run, reason)
        event_log.emit(session, run, "stopping", reason=reason)


def fail(session: Session, run_id: str, reason: str, message: str) -> None:
    """End the run as failed at once. A run that has ended stays as it is."""
    run = store.locked_run(session, run_id)
    if run is not None and not run.ended:
        end(session, run, "failed", reason, message)


def finalize(session: Session, run: Run) -> bool:
    """End or pause the run if that was requested and no worker holds a batch any more.

    Args:
        session: the transaction.
        run: the run, locked by the caller.

    Returns:
        Whether the run was ended or paused.
    """
    if run.ended or store.count_leased_batches(session, run.id):
        return False
    waits_for_remote = run.pending_stop_reason is not None and run.status != "cancelling"
    if waits_for_remote and remote_batches.list_open_ids(session, run.account_id):
        # The teacher bills the remote batches that it has, so the run waits for their answers.
        return False
    if run.status == "cancelling":
        end(session, run, "cancelled", "cancelled")
    elif run.pending_stop_reason is not None and run.status in ("running", "pausing"):
        end(session, run, "succeeded", run.pending_stop_reason)
    elif run.status == "pausing":
        move(session, run, "paused")
    else:
        return False
    return True


def end(session: Session, run: Run, status: str, reason: str, message: str | None = None) -> None:
    """End the run: close its account, where calls without an answer count as lost, and drop its open batches."""
    ledger.close_account(session, run.account_id)
    store.drop_open_batches(session, run.id)
    run.in_flight, run.paused_for, run.resume_at = 0, None, None
    run.move(status, reason, message)
    session.flush()
    event_log.emit_status(session, run)


def finalize_and_list_waiting(session: Session) -> list[str]:
    """Finalize the runs that can pause or end, and return the ids of the others that no worker works on.

    The sweeper notifies a worker of each of them, and the poller of a worker works on them itself.
    """
    ids = []
    for run in store.list_active_runs(session):
        if store.count_leased_batches(session, run.id):
            continue
        # No worker holds a batch of it, so none will finalize it.
        if run.status in ("pausing", "cancelling") or run.pending_stop_reason is not None:
            locked_run = store.locked_run(session, run.id)
            # It may have ended, and have been deleted with its dataset, since the runs were listed.
            if locked_run is not None:
                finalize(session, locked_run)
        else:
            ids.append(run.id)
    return ids


def list_methods() -> list[MethodView]:
    """Return the methods with the schemas of their options."""
    return [
        MethodView(
            name=method.name,
            summary=method.summary,
            draws_from=method.draws_from(method.options()),
            asks_teacher=method.asks_teacher,
            prompts=list(method.options.all_prompt_names()),
            options=method.options.model_json_schema(),
        )
        for method in METHODS.values()
    ]


def list_teachers(session: Session) -> list[TeacherView]:
    """Return the configured teachers, each with what its last check has learnt."""
    checks = {teacher.name: last_check(session, teacher) for teacher in config.teachers().values()}
    return [
        TeacherView(
            name=teacher.name,
            model=teacher.model,
            prompt_price=money(teacher.prompt_price),
            # Without a price of its own a cached token costs as much as any other token of the prompt.
            cached_price=money(teacher.prompt_price if teacher.cached_price is None else teacher.cached_price),
            completion_price=money(teacher.completion_price),
            in_flight=teacher.in_flight,
            replies=reply_form(session, teacher),
            checked_at=check.checked_at if (check := checks[teacher.name]) else None,
            profile=check.profile if check else {},
        )
        for teacher in config.teachers().values()
    ]


def _locked(session: Session, caller: Caller, id: str) -> Run:
    store.run(session, caller.project_id, id)
    return store.locked_run(session, id)


def move(session: Session, run: Run, to: str) -> None:
    """Change the status by one transition, and set whether the account takes new calls."""
    run.move(to)
    # In the same transaction: the account says at every moment whether the job takes calls (docs/adr/0019).
    _set_account_state(session, run)
    session.flush()
    event_log.emit_status(session, run)


def set_pending_stop_reason(session: Session, run: Run, reason: str | None) -> None:
    """Set why the run is about to end; with None nothing changes. Its account takes no new call from now on."""
    if reason is not None:
        run.pending_stop_reason = reason
        _set_account_state(session, run)


def _set_account_state(session: Session, run: Run) -> None:
    """Set how the ledger answers the next call of the run.

    `ending`: the call is refused, and its batch admits the rows that are complete, since the run ends.
    `stopped`: the call is refused, and its batch is released. It is tried again when the run is resumed.
    """
    session.flush()
    states = {
        "running": "open" if run.pending_stop_reason is None else "ending",
        # A cancel loses no row that is paid for.
        "cancelling": "ending",
    }
    accounts_store.set_state(session, run.account_id, states.get(run.status, "stopped"))


def views(session: Session, runs: Sequence[Run]) -> dict[str, RunView]:
    """Return the views of the runs by id, with the present spending of their accounts."""
    account_views = accounts.views_by_id(session, [run.account_id for run in runs])
    return {run.id: run_view(run, account_views[run.account_id]) for run in add_queue_positions(session, runs)}
