"""REST of datasets, imports and records."""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from app import config
from app.access.dependencies import Authorized, Idempotent
from app.api import events_stream
from app.api.deprecation import Reason
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.datasets import imports, neighbours, service, store
from app.datasets.schemas import (
    DatasetCreate,
    DatasetPatch,
    DatasetView,
    EncoderList,
    ImportView,
    LineageView,
    NeighbourList,
    RecordView,
    ReplyList,
    SourceView,
    StatsView,
    TaskList,
    dataset_view,
    import_view,
    record_view,
    source_view,
)
from app.errors import AppError
from app.jobs.queue_position import add_queue_position, add_queue_positions
from app.tables.datasets import Import

router = APIRouter(prefix="/v1")
Kind = Literal["seeds", "records", "instructions", "labelled", "documents"]


@router.post("/datasets", operation_id="createDataset", status_code=201, response_model=DatasetView, tags=["datasets"])
def create(body: DatasetCreate, caller: Authorized, session: Db, once: Idempotent):
    """Create a dataset. Its seeds, if any, are a bundled set by its name, or tasks in the body."""
    return once(
        201, lambda: dataset_view(service.create(session, caller, body)), lambda created: f"/v1/datasets/{created.id}"
    )


@router.get("/datasets", operation_id="listDatasets", response_model=Page[DatasetView], tags=["datasets"])
def list_all(caller: Authorized, session: Db, limit: Limit = 20, after: After = None):
    """The datasets of the project, newest first."""
    return page(store.list_datasets(session, caller.project_id, limit, after), limit, dataset_view)


@router.get("/datasets/{id}", operation_id="getDataset", response_model=DatasetView, tags=["datasets"])
def show(id: str, caller: Authorized, session: Db):
    """One dataset with its rules and its numbers of rows."""
    return dataset_view(store.dataset(session, caller.project_id, id))


@router.patch("/datasets/{id}", operation_id="updateDataset", response_model=DatasetView, tags=["datasets"])
def change(id: str, body: DatasetPatch, caller: Authorized, session: Db):
    """Rename the dataset. Its rules can't be changed, since every stored decision was made by them."""
    return dataset_view(service.rename(session, caller, id, body))


@router.delete("/datasets/{id}", operation_id="deleteDataset", status_code=204, tags=["datasets"])
def delete(id: str, caller: Authorized, session: Db):
    """Delete a dataset with its records and runs. A dataset with snapshots, or with active jobs, is a 409."""
    service.delete(session, caller, id)
    return Response(status_code=204)


@router.get("/datasets/{id}/stats", operation_id="getDatasetStats", response_model=StatsView, tags=["datasets"])
def stats(id: str, caller: Authorized, session: Db):
    """The dataset's rows, counted by origin, status, reason, method and language."""
    return service.compute_stats(session, caller, id)


async def _uploaded(request: Request, kind: Annotated[Kind, Query()] = "records") -> tuple[imports.Upload, str]:
    """The body in a temporary file, and its digest, by which a repeated request is recognised."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    if content_type == "text/plain" and kind != "documents":
        raise AppError(415, "unsupported-media-type", "Only a document may be plain text; send JSONL for other kinds.")
    if content_type not in ("application/jsonl", "application/x-ndjson", "text/plain"):
        message = "Send the rows as application/jsonl, one JSON object a line; a document also as text/plain."
        raise AppError(415, "unsupported-media-type", message)
    raw, digest = imports.open_temporary_file(), hashlib.sha256()
    size, max_bytes = 0, config.limits().import_body
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise AppError(413, "body-too-large", f"The upload has more than {max_bytes} bytes. Send it in parts.")
        digest.update(chunk)
        raw.write(chunk)
    raw.seek(0)
    if content_type == "text/plain":
        # From here on a plain text is a line like the others, so one code path checks and stores all uploads.
        raw = imports.convert_to_line(raw, request.query_params.get("title", ""))
    return raw, digest.hexdigest()


@router.post(
    "/datasets/{id}/imports",
    operation_id="createImport",
    status_code=202,
    response_model=ImportView,
    tags=["imports"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/jsonl": {"schema": {"type": "string"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        }
    },
)
def start_import(
    id: str,
    caller: Authorized,
    session: Db,
    once: Idempotent,
    uploaded: Annotated[tuple, Depends(_uploaded)],
    kind: Annotated[Kind, Query(description="What the lines are.")] = "records",
    task: Annotated[str | None, Query(max_length=100, description="Of labelled rows; see GET /v1/tasks.")] = None,
    title: Annotated[str, Query(max_length=1000, description="Of a document sent as plain text.")] = "",
    encoder: Annotated[
        str | None, Query(max_length=100, description="By which the rows' embeddings were made.")
    ] = None,
    revision: Annotated[str | None, Query(max_length=200, description="Of that encoder.")] = None,
):
    """Import JSONL: seed tasks, rows {instruction, input, output}, instructions without an answer, labelled rows.

    Documents are lines {title, text}, or one plain text. Labelled rows and documents are stored as material from which
    runs of the methods `templates` and `documents` draw. Rows and instructions may have an `embedding`: the vector of
    the text that the dataset's scope compares, by the dataset's encoder.
    """
    raw, digest = uploaded
    dataset = store.dataset(session, caller.project_id, id)
    imports.check_task(kind, task)
    encoding = imports.check_upload_encoding(dataset, encoder, revision)

    # The lines are checked inside: a request that is repeated with its Idempotency-Key gets the stored response.
    def create() -> ImportView:
        checked = imports.check_lines(kind, _lines(raw), imports.open_temporary_file(), task, encoding)
        return import_view(add_queue_position(session, imports.start_import(session, caller, id, kind, checked, task)))

    location_prefix = f"/v1/datasets/{id}/imports/"
    return once.with_content(digest)(202, create, lambda created: location_prefix + created.id)


def _lines(raw) -> Iterator[bytes]:
    return iter(raw.readline, b"")


@router.get("/datasets/{id}/imports", operation_id="listImports", response_model=Page[ImportView], tags=["imports"])
def list_imports(id: str, caller: Authorized, session: Db, limit: Limit = 20, after: After = None):
    """The imports of the dataset, newest first."""
    store.dataset(session, caller.project_id, id)
    return page(add_queue_positions(session, store.list_imports(session, id, limit, after)), limit, import_view)


@router.get("/datasets/{id}/imports/{import_id}", operation_id="getImport", response_model=ImportView, tags=["imports"])
def show_import(id: str, import_id: str, caller: Authorized, session: Db):
    """One import with its counts."""
    return import_view(add_queue_position(session, store.load_import(session, caller.project_id, id, import_id)))


@router.post(
    "/datasets/{id}/imports/{import_id}/cancel",
    operation_id="cancelImport",
    response_model=ImportView,
    tags=["imports"],
)
def cancel_import(id: str, import_id: str, caller: Authorized, session: Db):
    """End the import within seconds. Rows that were admitted by then stay and are counted; the upload is deleted.

    An import that has ended is returned unchanged.
    """
    return import_view(imports.cancel(session, caller, id, import_id))


@router.get("/datasets/{id}/imports/{import_id}/events", operation_id="listImportEvents", tags=["imports"])
def import_events(
    id: str,
    import_id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """The events of the import as a JSON list.

    With `Accept: text/event-stream` the response is a stream that resumes from `Last-Event-ID`.
    """
    store.load_import(session, caller.project_id, id, import_id)
    return events_stream.respond(request, import_id, after, limit, lambda s: s.get(Import, import_id).ended)


@router.get("/datasets/{id}/sources", operation_id="listSources", response_model=Page[SourceView], tags=["imports"])
def list_sources(
    id: str,
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    kind: Annotated[Literal["labelled", "document", "passage"], Query()] = "document",
    task: Annotated[str | None, Query(max_length=100)] = None,
):
    """The uploaded material of a kind: documents, their passages, or labelled rows, newest first."""
    store.dataset(session, caller.project_id, id)
    return page(store.list_sources(session, id, kind, task, limit, after), limit, source_view)


@router.get("/tasks", operation_id="listTasks", response_model=TaskList, tags=["imports"])
def list_tasks(caller: Authorized):
    """The tasks of the template library, with the fields that a labelled row of each has."""
    return TaskList(data=service.list_tasks())


@router.get("/datasets/{id}/records", operation_id="listRecords", response_model=Page[RecordView], tags=["records"])
def list_records(
    id: str,
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    status: Annotated[Literal["accepted", "rejected"] | None, Query()] = None,
    origin: Annotated[Literal["seed", "generated", "imported"] | None, Query()] = None,
    reason: Annotated[Reason | None, Query(max_length=100)] = None,
    run_id: Annotated[str | None, Query(max_length=100)] = None,
    import_id: Annotated[str | None, Query(max_length=100)] = None,
    method: Annotated[str | None, Query(max_length=100)] = None,
    operation: Annotated[str | None, Query(max_length=100)] = None,
    language: Annotated[str | None, Query(max_length=40)] = None,
    topic: Annotated[str | None, Query(max_length=200)] = None,
    task_type: Annotated[str | None, Query(max_length=100)] = None,
    text: Annotated[str | None, Query(max_length=200, description="Part of the instruction.")] = None,
):
    """Seeds, accepted and rejected rows, newest first. Every rejected row has its reason."""
    store.dataset(session, caller.project_id, id)
    filters = {
        "status": status,
        "origin": origin,
        "reason": reason,
        "run_id": run_id,
        "import_id": import_id,
        "method": method,
        "operation": operation,
        "language": language,
    }
    tags = {"topic": topic, "task_type": task_type}
    return page(store.list_records(session, id, filters, tags, text, limit, after), limit, record_view)


@router.get("/encoders", operation_id="listEncoders", response_model=EncoderList, tags=["datasets"])
def list_encoders(caller: Authorized):
    """The embedding models that the operator has configured. A dataset names one of them."""
    return EncoderList(data=service.list_encoders())


@router.get("/records/{id}/neighbours", operation_id="listNeighbours", response_model=NeighbourList, tags=["records"])
def list_neighbours(id: str, caller: Authorized, session: Db, limit: Annotated[int, Query(ge=1, le=100)] = 10):
    """The rows of the pool nearest to a record by the lexical or the semantic score, each with both scores.

    The record may be accepted or rejected.
    """
    return NeighbourList(data=neighbours.find_neighbours(session, store.record(session, caller.project_id, id), limit))


@router.get("/records/{id}/replies", operation_id="listReplies", response_model=ReplyList, tags=["records"])
def list_replies(id: str, caller: Authorized, session: Db):
    """The teacher's replies behind a record, accepted or rejected: request, text, thought, and the text as it came."""
    return ReplyList(data=service.replies(session, caller, id))


@router.get("/records/{id}", operation_id="getRecord", response_model=LineageView, tags=["records"])
def show_record(id: str, caller: Authorized, session: Db):
    """One record with its parents and children, the replies that were paid for it, and its earlier decisions."""
    return service.load_lineage(session, caller, id)
