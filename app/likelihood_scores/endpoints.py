"""The REST endpoints of likelihood scores."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.access.dependencies import Authorized, OncePerKey
from app.api import events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.jobs.queue_position import add_place, add_places
from app.likelihood_scores import service, store
from app.likelihood_scores.schemas import ScoringCreate, ScoringView, scoring_view
from app.tables.scorings import Scoring

router = APIRouter(prefix="/v1", tags=["scorings"])


@router.post("/scorings", operation_id="createScoring", status_code=202, response_model=ScoringView)
def create(body: ScoringCreate, caller: Authorized, session: Db, once: OncePerKey):
    """Score accepted rows with a causal language model: each gets `local.perplexity` and `local.ifd`."""
    # A repeated request with the same Idempotency-Key gets the same job instead of a second one.
    return once(
        202,
        lambda: scoring_view(add_place(session, service.create(session, caller, body))),
        lambda view: f"/v1/scorings/{view.id}",
    )


@router.get("/scorings", operation_id="listScorings", response_model=Page[ScoringView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """List these jobs, newest first; `dataset_id` selects those of one dataset."""
    return page(
        add_places(session, store.scorings(session, caller.project_id, dataset_id, limit, after)), limit, scoring_view
    )


@router.get("/scorings/{id}", operation_id="getScoring", response_model=ScoringView)
def show(id: str, caller: Authorized, session: Db):
    """Return one job."""
    return scoring_view(add_place(session, store.scoring(session, caller.project_id, id)))


@router.post("/scorings/{id}/cancel", operation_id="cancelScoring", response_model=ScoringView)
def cancel(id: str, caller: Authorized, session: Db):
    """Cancel the job within seconds. Rows that are scored already keep their scores."""
    return scoring_view(add_place(session, service.cancel(session, caller, id)))


@router.get("/scorings/{id}/events", operation_id="listScoringEvents")
def scoring_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """Return a JSON list; with `Accept: text/event-stream` a stream that resumes from `Last-Event-ID`."""
    store.scoring(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(Scoring, id).ended)
