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

# A comment now and then: a proxy closes a connection on which nothing arrives, often after 60 seconds.
POLL_SECONDS, COMMENT_SECONDS = 0.5, 15
# X-Accel-Buffering: nginx would gather events into blocks, and a client would see them late.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def respond(request: Request, subject_id: str, after: int, limit: int, ended: Callable[[Session], bool]):
    """Return the events of a job as a JSON list; with `Accept: text/event-stream` as a stream until it has ended.

    Args:
        request: The request; a stream starts after the event of its `Last-Event-ID`.
        subject_id: The id of the job.
        after: The `seq` after which the events begin.
        limit: The greatest number of events of a list.
        ended: Returns whether the job has ended.
    """
    if "text/event-stream" in request.headers.get("accept", ""):
        last = request.headers.get("last-event-id", "")
        start = int(last) if last.isdigit() else after
        return EventSourceResponse(_stream(subject_id, start, ended), headers=HEADERS)
    with transaction() as session:
        # The extra event only shows that there are more.
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
        # A full page: the log may have further events, although the job has ended.
        if has_ended and len(events) < event_log.PAGE:
            return
        await asyncio.sleep(POLL_SECONDS)
        silent_seconds += POLL_SECONDS
        if silent_seconds >= COMMENT_SECONDS:
            silent_seconds = 0.0
            yield KEEPALIVE_COMMENT


def _read_new(subject_id: str, after: int, ended: Callable[[Session], bool]) -> tuple[list[dict], bool]:
    """Return the events after this one, and whether the job has ended.

    The status is read first, in a transaction of its own. An event that was committed before the job ended is then
    always in the list, and the stream never closes without it.
    """
    with transaction() as session:
        has_ended = ended(session)
    with transaction() as session:
        return event_log.read(session, subject_id, after), has_ended


def _encode(event: dict) -> bytes:
    return format_sse_event(id=str(event["seq"]), event=event["type"], data_str=json.dumps(event, ensure_ascii=False))
