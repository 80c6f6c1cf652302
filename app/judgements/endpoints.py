"""REST of judgements."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from app.access.dependencies import Authorized, Idempotent
from app.api import events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.judgements import report, service, store
from app.judgements.schemas import JudgementCreate, JudgementReport, JudgementView, OptionsView, options_view
from app.tables.judgements import Judgement

router = APIRouter(prefix="/v1", tags=["judgements"])


def _view(session: Session, row: Judgement) -> JudgementView:
    return service.views(session, [row])[row.id]


@router.post("/judgements", operation_id="createJudgement", status_code=202, response_model=JudgementView)
def create(body: JudgementCreate, caller: Authorized, session: Db, once: Idempotent):
    """Judge records that the dataset has: seeds, imported rows, the rows of a run, or any others.

    A teacher gives each record the verdicts of a run's judge: `judge.overall`, a score for each aspect,
    `judge.difficulty`, and a topic. The judgement has its own ceilings. Records that are added later are not judged.
    """
    return once(
        202,
        lambda: _view(session, service.create(session, caller, body)),
        lambda created: f"/v1/judgements/{created.id}",
    )


@router.get("/judgements/options", operation_id="getJudgementOptions", response_model=OptionsView)
def options(caller: Authorized):
    """The JSON schema of a judgement's options: stages, aspects, your own criteria, thresholds."""
    return options_view()


@router.get("/judgements", operation_id="listJudgements", response_model=Page[JudgementView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """The judgements of the project, newest first."""
    rows = store.list_judgements(session, caller.project_id, dataset_id, limit, after)
    views = service.views(session, rows)
    return page(rows, limit, lambda row: views[row.id])


@router.get("/judgements/{id}", operation_id="getJudgement", response_model=JudgementView)
def show(id: str, caller: Authorized, session: Db):
    """One judgement with its counts and its spending."""
    return _view(session, store.judgement(session, caller.project_id, id))


@router.post("/judgements/{id}/cancel", operation_id="cancelJudgement", response_model=JudgementView)
def cancel(id: str, caller: Authorized, session: Db):
    """End the judgement within seconds. Stored verdicts stay. A judgement that has ended is returned unchanged."""
    return _view(session, service.cancel(session, caller, id))


@router.post("/judgements/{id}/pause", operation_id="pauseJudgement", response_model=JudgementView)
def pause(id: str, caller: Authorized, session: Db):
    """Let the calls in flight end, store their verdicts, and wait for `resume`."""
    return _view(session, service.pause(session, caller, id))


@router.post("/judgements/{id}/resume", operation_id="resumeJudgement", response_model=JudgementView)
def resume(id: str, caller: Authorized, session: Db):
    """Continue a paused judgement with the records that have no verdict yet. An ended judgement is a 409."""
    return _view(session, service.resume(session, caller, id))


@router.get("/judgements/{id}/events", operation_id="listJudgementEvents")
def judgement_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """The events of the judgement as a JSON list.

    With `Accept: text/event-stream` the response is a stream that resumes from `Last-Event-ID`.
    """
    store.judgement(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(Judgement, id).ended)


@router.get("/judgements/{id}/report", operation_id="getJudgementReport", response_model=JudgementReport)
def judgement_report(id: str, caller: Authorized, session: Db):
    """The report: outcomes, cost by step, and the distribution of the scores.

    Where more than 2,000 rows are judged, the scores are those of a fixed sample of them.
    """
    return report.build_report(session, store.judgement(session, caller.project_id, id))
