"""The REST endpoints of fine-tunes and base models."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.access.dependencies import Authorized, Idempotent
from app.api import downloads, events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.finetunes import service, store
from app.finetunes.schemas import (
    ArtifactList,
    BaseModelList,
    FineTuneCreate,
    FineTuneView,
    MetricPage,
    fine_tune_view,
    metric_page,
)
from app.jobs.queue_position import add_queue_position, add_queue_positions
from app.tables.finetunes import FineTune

router = APIRouter(prefix="/v1")


@router.post(
    "/fine-tunes", operation_id="createFineTune", status_code=202, response_model=FineTuneView, tags=["fine-tunes"]
)
def create(body: FineTuneCreate, caller: Authorized, session: Db, once: Idempotent):
    """Start a LoRA fine-tune of a base model on a snapshot."""
    # A repeated request with the same Idempotency-Key gets the same fine-tune instead of a second one.
    return once(
        202,
        lambda: fine_tune_view(add_queue_position(session, service.create(session, caller, body))),
        lambda view: f"/v1/fine-tunes/{view.id}",
    )


@router.get("/fine-tunes", operation_id="listFineTunes", response_model=Page[FineTuneView], tags=["fine-tunes"])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    snapshot_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """List fine-tunes, newest first; `snapshot_id` selects those of one snapshot."""
    return page(
        add_queue_positions(session, store.fine_tunes(session, caller.project_id, snapshot_id, limit, after)),
        limit,
        fine_tune_view,
    )


@router.get("/fine-tunes/{id}", operation_id="getFineTune", response_model=FineTuneView, tags=["fine-tunes"])
def show(id: str, caller: Authorized, session: Db):
    """Return one fine-tune."""
    return fine_tune_view(add_queue_position(session, store.fine_tune(session, caller.project_id, id)))


@router.post("/fine-tunes/{id}/cancel", operation_id="cancelFineTune", response_model=FineTuneView, tags=["fine-tunes"])
def cancel(id: str, caller: Authorized, session: Db):
    """Cancel the training within seconds; no artifact is kept. A fine-tune that has ended is returned unchanged."""
    return fine_tune_view(add_queue_position(session, service.cancel(session, caller, id)))


@router.get("/fine-tunes/{id}/events", operation_id="listFineTuneEvents", tags=["fine-tunes"])
def fine_tune_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """Return a JSON list; with `Accept: text/event-stream` a stream that resumes from `Last-Event-ID`."""
    store.fine_tune(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(FineTune, id).ended)


@router.get(
    "/fine-tunes/{id}/metrics", operation_id="listFineTuneMetrics", response_model=MetricPage, tags=["fine-tunes"]
)
def metrics(id: str, caller: Authorized, session: Db, limit: Limit = 200, after: Annotated[int, Query(ge=0)] = 0):
    """Return the metrics of the training, oldest first."""
    store.fine_tune(session, caller.project_id, id)
    return metric_page(store.metrics(session, id, limit, after), limit)


@router.get(
    "/fine-tunes/{id}/artifacts", operation_id="listArtifacts", response_model=ArtifactList, tags=["fine-tunes"]
)
def artifacts(id: str, caller: Authorized, session: Db):
    """List the files of a fine-tune that has succeeded; the list is empty before."""
    return ArtifactList(data=store.fine_tune(session, caller.project_id, id).artifacts or [])


@router.get("/fine-tunes/{id}/artifacts/{name:path}", operation_id="downloadArtifact", tags=["fine-tunes"])
def download(id: str, name: str, request: Request, caller: Authorized, session: Db):
    """Return the bytes of an artifact, with their SHA-256 as the ETag."""
    artifact = service.load_artifact(session, caller, id, name)
    return downloads.serve(request, artifact["path"], name, artifact["bytes"], artifact["sha256"])


@router.get("/base-models", operation_id="listBaseModels", response_model=BaseModelList, tags=["base-models"])
def base_models(caller: Authorized):
    """List the base models that the operator has configured."""
    return BaseModelList(data=service.base_models())
