"""The log of a job over HTTP: a JSON list, or server-sent events that resume from `Last-Event-ID`.

FastAPI streams server-sent events by itself from endpoints that are generators. These endpoints answer in two forms,
so they use its response class and its encoder.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from sqlalchemy.orm import Session

from app.jobs import event_log
from app.persistence.db import transaction

POLL_SECONDS, COMMENT_SECONDS = 0.5, 15
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def respond(request: Request, subject_id: str, after: int, limit: int, ended: Callable[[Session], bool]):
    """The list, or with `Accept: text/event-stream` a stream from `Last-Event-ID` until the job has ended."""
    if "text/event-stream" in request.headers.get("accept", ""):
        last = request.headers.get("last-event-id", "")
        start = int(last) if last.isdigit() else after
        return EventSourceResponse(_stream(subject_id, start, ended), headers=HEADERS)
    with transaction() as session:
        events = event_log.read(session, subject_id, after, limit + 1)
    data = events[:limit]
    return JSONResponse({"data": data, "has_more": len(events) > limit, "next": str(data[-1]["seq"]) if data else None})


async def _stream(subject_id: str, after: int, ended: Callable[[Session], bool]) -> AsyncIterator[bytes]:
    silent_seconds = 0.0
    while True:
        events, has_ended = await run_in_threadpool(_read_new, subject_id, after, ended)
        for event in events:
            after, silent_seconds = event["seq"], 0.0
            yield _encode(event)
        if has_ended and len(events) < event_log.PAGE:
            return
        await asyncio.sleep(POLL_SECONDS)
        silent_seconds += POLL_SECONDS
        if silent_seconds >= COMMENT_SECONDS:
            silent_seconds = 0.0
            yield KEEPALIVE_COMMENT


def _read_new(subject_id: str, after: int, ended: Callable[[Session], bool]) -> tuple[list[dict], bool]:
    """The events after this one, and whether the job has ended.

    The status is read first, in a transaction of its own. An event that was committed before the job ended is then
    always in the list, and the stream never closes without it.
    """
    with transaction() as session:
        has_ended = ended(session)
    with transaction() as session:
        return event_log.read(session, subject_id, after), has_ended


def _encode(event: dict) -> bytes:
    return format_sse_event(id=str(event["seq"]), event=event["type"], data_str=json.dumps(event, ensure_ascii=False))
