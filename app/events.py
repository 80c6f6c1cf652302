"""The log of a job: written beside its row, read as a JSON list or as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import transaction
from app.tables.jobs import Event

POLL_SECONDS, COMMENT_SECONDS, PAGE = 0.5, 15, 500


def emit(session: Session, subject, type: str, **data) -> None:
    """Write one event. The caller holds the subject's row locked, so that `seq` is the order of commits."""
    session.add(Event(subject_id=subject.id, type=type, data=data))


def emit_status(session: Session, job) -> None:
    emit(session, job, "status", status=job.status, stop_reason=job.stop_reason, error=job.error)


def read(session: Session, subject_id: str, after: int, limit: int = PAGE) -> list[dict]:
    rows = session.scalars(
        select(Event).where(Event.subject_id == subject_id, Event.seq > after).order_by(Event.seq).limit(limit)
    )
    return [{"seq": row.seq, "type": row.type, "at": row.created_at.isoformat(), "data": row.data} for row in rows]


def respond(request: Request, subject_id: str, after: int, limit: int, ended: Callable[[Session], bool]):
    """The list, or with `Accept: text/event-stream` a stream from `Last-Event-ID` until the job has ended."""
    if "text/event-stream" in request.headers.get("accept", ""):
        last = request.headers.get("last-event-id", "")
        start = int(last) if last.isdigit() else after
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(subject_id, start, ended), media_type="text/event-stream", headers=headers)
    with transaction() as session:
        found = read(session, subject_id, after, limit + 1)
    data = found[:limit]
    return JSONResponse({"data": data, "has_more": len(found) > limit, "next": str(data[-1]["seq"]) if data else None})


async def _stream(subject_id: str, after: int, ended: Callable[[Session], bool]) -> AsyncIterator[str]:
    def look(last: int) -> tuple[list[dict], bool]:
        # Whether it has ended is read first: what was written before the end is then surely in the list.
        with transaction() as session:
            over = ended(session)
        with transaction() as session:
            return read(session, subject_id, last), over

    silent = 0.0
    while True:
        found, over = await run_in_threadpool(look, after)
        for event in found:
            after, silent = event["seq"], 0.0
            yield f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
        if over and len(found) < PAGE:
            return
        await asyncio.sleep(POLL_SECONDS)
        silent += POLL_SECONDS
        if silent >= COMMENT_SECONDS:
            silent = 0.0
            yield ": still here\n\n"
