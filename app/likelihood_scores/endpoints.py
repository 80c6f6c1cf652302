"""The REST endpoints of likelihood scores."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.access.dependencies import Authorized, Idempotent
from app.api import events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.jobs.queue_position import add_queue_position, add_queue_positions
from app.likelihood_scores import service, store
from app.likelihood_scores.schemas import LikelihoodScoresCreate, LikelihoodScoresView, likelihood_scores_view
from app.tables.likelihood_scores import LikelihoodScores

router = APIRouter(prefix="/v1", tags=["likelihood scores"])


@router.post(
    "/likelihood-scores", operation_id="createLikelihoodScores", status_code=202, response_model=LikelihoodScoresView
)
def create(body: LikelihoodScoresCreate, caller: Authorized, session: Db, once: Idempotent):
    """Score accepted rows with a causal language model: each gets `local.perplexity` and `local.ifd`."""
    # A repeated request with the same Idempotency-Key gets the same job instead of a second one.
    return once(
        202,
        lambda: likelihood_scores_view(add_queue_position(session, service.create(session, caller, body))),
        lambda view: f"/v1/likelihood-scores/{view.id}",
    )


@router.get("/likelihood-scores", operation_id="listLikelihoodScores", response_model=Page[LikelihoodScoresView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """List these jobs, newest first; `dataset_id` selects those of one dataset."""
    return page(
        add_queue_positions(session, store.scorings(session, caller.project_id, dataset_id, limit, after)),
        limit,
        likelihood_scores_view,
    )


@router.get("/likelihood-scores/{id}", operation_id="getLikelihoodScores", response_model=LikelihoodScoresView)
def show(id: str, caller: Authorized, session: Db):
    """Return one job."""
    return likelihood_scores_view(add_queue_position(session, store.scoring(session, caller.project_id, id)))


@router.post(
    "/likelihood-scores/{id}/cancel", operation_id="cancelLikelihoodScores", response_model=LikelihoodScoresView
)
def cancel(id: str, caller: Authorized, session: Db):
    """Cancel the job within seconds. Rows that are scored already keep their scores."""
    return likelihood_scores_view(add_queue_position(session, service.cancel(session, caller, id)))


@router.get("/likelihood-scores/{id}/events", operation_id="listLikelihoodScoresEvents")
def likelihood_scores_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """Return a JSON list; with `Accept: text/event-stream` a stream that resumes from `Last-Event-ID`."""
    store.scoring(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(LikelihoodScores, id).ended)
