"""REST of reviews and evaluation sets."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app import config, events
from app.access.dependencies import Authorized, OncePerKey
from app.db import Db
from app.errors import AppError, FieldError
from app.paging import After, Limit, Page, page
from app.reviews import service, store
from app.reviews.schemas import (
    DecontaminationCreate,
    EvaluationSetView,
    MatchPage,
    MatchView,
    ReencodeCreate,
    RefilterCreate,
    ReviewView,
    match_view,
    review_view,
    set_view,
)
from app.synth.text import clean
from app.tables.reviews import Review

router = APIRouter(prefix="/v1", tags=["reviews"])
PARTS = ("instruction", "question", "input", "text", "output", "answer")


def _place(made: ReviewView) -> str:
    return f"/v1/reviews/{made.id}"


@router.post("/runs/{id}/refilter", operation_id="refilterRun", status_code=202, response_model=ReviewView)
def refilter(id: str, body: RefilterCreate, caller: Authorized, session: Db, once: OncePerKey):
    """Decide again on a run's candidates by other thresholds or rules, at no teacher call.

    Without `apply` the review says how many rows would move. With it they move: each new decision is another
    version of the row's, and the old one stays readable with the record.
    """
    return once(202, lambda: review_view(service.refilter(session, caller, id, body)), _place)


@router.post(
    "/datasets/{id}/decontaminations", operation_id="decontaminate", status_code=202, response_model=ReviewView
)
def decontaminate(id: str, body: DecontaminationCreate, caller: Authorized, session: Db, once: OncePerKey):
    """Look for the items of evaluation sets in the accepted rows: report them, flag the rows, or drop them."""
    return once(202, lambda: review_view(service.decontaminate(session, caller, id, body)), _place)


@router.post("/datasets/{id}/reencode", operation_id="reencodeDataset", status_code=202, response_model=ReviewView)
def reencode(id: str, body: ReencodeCreate, caller: Authorized, session: Db, once: OncePerKey):
    """Encode all rows anew, by another encoder or by the same one after it has changed. A 409 while others work."""
    return once(202, lambda: review_view(service.reencode(session, caller, id, body)), _place)


@router.get("/reviews", operation_id="listReviews", response_model=Page[ReviewView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    return page(store.reviews(session, caller.project_id, dataset_id, limit, after), limit, review_view)


@router.get("/reviews/{id}", operation_id="getReview", response_model=ReviewView)
def show(id: str, caller: Authorized, session: Db):
    return review_view(store.review(session, caller.project_id, id))


@router.get("/reviews/{id}/matches", operation_id="listMatches", response_model=MatchPage)
def list_matches(
    id: str,
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """What a decontamination has found: spans and scores, in the order of the rows."""
    store.review(session, caller.project_id, id)
    found = store.matches(session, id, limit, after)
    shown: list[MatchView] = [match_view(one) for one in found[:limit]]
    more = len(found) > limit
    return MatchPage(data=shown, has_more=more, next=shown[-1].id if more else None)


@router.get("/reviews/{id}/events", operation_id="listReviewEvents")
def review_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """A JSON list; with `Accept: text/event-stream` a stream that resumes from `Last-Event-ID`."""
    store.review(session, caller.project_id, id)
    return events.respond(request, id, after, limit, lambda s: s.get(Review, id).ended)


async def _texts(request: Request) -> list[str]:
    """One text a line: the `text`, or what there is of instruction, question, input, output, answer."""
    if request.headers.get("content-type", "").split(";")[0].strip() not in (
        "application/jsonl",
        "application/x-ndjson",
    ):
        raise AppError(415, "unsupported-media-type", "Send the items as application/jsonl, one JSON object a line.")
    raw, most = bytearray(), config.limits().import_body
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > most:
            raise AppError(413, "body-too-large", f"The upload has more than {most} bytes. Send it in parts.")
    texts, faults = [], []
    for number, line in enumerate(bytes(raw).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            texts.append(_text(json.loads(line)))
        except (ValueError, RecursionError) as error:
            faults.append(FieldError(f"line/{number}", str(error), "invalid"))
        if len(faults) >= 20:
            break
    if not texts and not faults:
        faults = [FieldError("body", "no items: send one JSON object a line", "empty")]
    if faults:
        first = faults[0]
        raise AppError(422, "invalid-input", f"{first.pointer}: {first.detail}. Nothing was kept.", faults)
    return texts


def _text(value: object) -> str:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    parts = [clean(value[name]) for name in PARTS if isinstance(value.get(name), str)]
    # Of an item with answers it is the question that must not be learnt; the answer alone may stand anywhere.
    asked = [
        part
        for name, part in zip([n for n in PARTS if isinstance(value.get(n), str)], parts, strict=True)
        if name not in ("output", "answer")
    ]
    text = "\n".join(part for part in (asked or parts) if part)
    if not text:
        raise ValueError(f"no text: give one of {', '.join(PARTS)}")
    return text


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
    texts: Annotated[list, Depends(_texts)],
    name: Annotated[str, Query(min_length=1, max_length=200)],
):
    """Upload what a tuned model will be tested on, as JSONL: {text}, {question}, or {instruction, input}."""
    return set_view(service.add_set(session, caller, name, texts))


@router.get("/evaluation-sets", operation_id="listEvaluationSets", response_model=Page[EvaluationSetView])
def list_sets(caller: Authorized, session: Db, limit: Limit = 20, after: After = None):
    return page(store.evaluation_sets(session, caller.project_id, limit, after), limit, set_view)


@router.get("/evaluation-sets/{id}", operation_id="getEvaluationSet", response_model=EvaluationSetView)
def show_set(id: str, caller: Authorized, session: Db):
    return set_view(store.evaluation_set(session, caller.project_id, id))


@router.delete("/evaluation-sets/{id}", operation_id="deleteEvaluationSet", status_code=204)
def delete_set(id: str, caller: Authorized, session: Db):
    """Delete a set. What it has found stays with the reviews."""
    service.delete_set(session, caller, id)
    return Response(status_code=204)
