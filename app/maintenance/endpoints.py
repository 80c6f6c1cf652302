"""REST of maintenance jobs and evaluation sets."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.access.dependencies import Authorized, Idempotent
from app.api import events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.jobs.queue_position import add_queue_position, add_queue_positions
from app.maintenance import service, store
from app.maintenance.evaluation import read_upload
from app.maintenance.schemas import (
    DecontaminationCreate,
    EvaluationSetView,
    MaintenanceJobView,
    MatchPage,
    MatchView,
    ReencodeCreate,
    RefilterCreate,
    maintenance_job_view,
    match_view,
    set_view,
)
from app.tables.maintenance import MaintenanceJob

router = APIRouter(prefix="/v1", tags=["maintenance"])


def _build_location(view: MaintenanceJobView) -> str:
    return f"/v1/maintenance-jobs/{view.id}"


@router.post("/runs/{id}/refilter", operation_id="refilterRun", status_code=202, response_model=MaintenanceJobView)
def refilter(id: str, body: RefilterCreate, caller: Authorized, session: Db, once: Idempotent):
    """Decide again on a run's candidates by other thresholds or rules, without any teacher call.

    Without `apply` the maintenance job counts the decisions that would change. With `apply` it also writes them. The
    old decision of each row stays readable with the record.
    """
    return once(
        202,
        lambda: maintenance_job_view(add_queue_position(session, service.refilter(session, caller, id, body))),
        _build_location,
    )


@router.post(
    "/datasets/{id}/decontaminations", operation_id="decontaminate", status_code=202, response_model=MaintenanceJobView
)
def decontaminate(id: str, body: DecontaminationCreate, caller: Authorized, session: Db, once: Idempotent):
    """Search the accepted rows for the items of evaluation sets, and report, flag or drop the rows that match."""
    return once(
        202,
        lambda: maintenance_job_view(add_queue_position(session, service.decontaminate(session, caller, id, body))),
        _build_location,
    )


@router.post(
    "/datasets/{id}/reencode", operation_id="reencodeDataset", status_code=202, response_model=MaintenanceJobView
)
def reencode(id: str, body: ReencodeCreate, caller: Authorized, session: Db, once: Idempotent):
    """Encode all rows anew, by another encoder or by the same one after it has changed.

    The response is a 409 while other jobs change the dataset.
    """
    return once(
        202,
        lambda: maintenance_job_view(add_queue_position(session, service.reencode(session, caller, id, body))),
        _build_location,
    )


@router.get("/maintenance-jobs", operation_id="listMaintenanceJobs", response_model=Page[MaintenanceJobView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """The maintenance jobs of the project, newest first."""
    return page(
        add_queue_positions(session, store.list_maintenance_jobs(session, caller.project_id, dataset_id, limit, after)),
        limit,
        maintenance_job_view,
    )


@router.get("/maintenance-jobs/{id}", operation_id="getMaintenanceJob", response_model=MaintenanceJobView)
def show(id: str, caller: Authorized, session: Db):
    """One maintenance job with its progress, and its result when it has succeeded."""
    return maintenance_job_view(add_queue_position(session, store.load_maintenance_job(session, caller.project_id, id)))


@router.post("/maintenance-jobs/{id}/cancel", operation_id="cancelMaintenanceJob", response_model=MaintenanceJobView)
def cancel(id: str, caller: Authorized, session: Db):
    """End the maintenance job within seconds; none of its changes stays. A job that has ended is returned unchanged."""
    return maintenance_job_view(service.cancel(session, caller, id))


@router.get("/maintenance-jobs/{id}/matches", operation_id="listMatches", response_model=MatchPage)
def list_matches(
    id: str,
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """The matches of a decontamination with their spans and scores, in the order of the rows."""
    store.load_maintenance_job(session, caller.project_id, id)
    matches = store.list_matches(session, id, limit, after)
    views: list[MatchView] = [match_view(match) for match in matches[:limit]]
    more = len(matches) > limit
    return MatchPage(data=views, has_more=more, next=views[-1].id if more else None)


@router.get("/maintenance-jobs/{id}/events", operation_id="listMaintenanceJobEvents")
def maintenance_job_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """The events of the job as a JSON list.

    With `Accept: text/event-stream` the response is a stream that resumes from `Last-Event-ID`.
    """
    store.load_maintenance_job(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(MaintenanceJob, id).ended)


@router.post(
    "/evaluation-sets",
    operation_id="createEvaluationSet",
    status_code=201,
    response_model=EvaluationSetView,
    openapi_extra={"requestBody": {"required": True, "content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
def create_set(
    caller: Authorized,
    session: Db,
    texts: Annotated[list, Depends(read_upload)],
    name: Annotated[str, Query(min_length=1, max_length=200)],
):
    """Upload the items that a tuned model will be tested on, as JSONL: {text}, {question}, or {instruction, input}."""
    return set_view(service.create_set(session, caller, name, texts))


@router.get("/evaluation-sets", operation_id="listEvaluationSets", response_model=Page[EvaluationSetView])
def list_sets(caller: Authorized, session: Db, limit: Limit = 20, after: After = None):
    """The evaluation sets of the project, newest first."""
    return page(store.list_evaluation_sets(session, caller.project_id, limit, after), limit, set_view)


@router.get("/evaluation-sets/{id}", operation_id="getEvaluationSet", response_model=EvaluationSetView)
def show_set(id: str, caller: Authorized, session: Db):
    """One evaluation set: its name, its number of items, and the digest of their texts."""
    return set_view(store.load_evaluation_set(session, caller.project_id, id))


@router.delete("/evaluation-sets/{id}", operation_id="deleteEvaluationSet", status_code=204)
def delete_set(id: str, caller: Authorized, session: Db):
    """Delete an evaluation set. The matches that decontaminations found with it stay."""
    service.delete_set(session, caller, id)
    return Response(status_code=204)
