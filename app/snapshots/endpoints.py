"""REST of snapshots."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.access.dependencies import Authorized, Idempotent
from app.api import downloads, events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.jobs.queue_position import add_queue_position, add_queue_positions
from app.snapshots import export, service, store
from app.snapshots.schemas import SnapshotCreate, SnapshotView, snapshot_view
from app.tables.snapshots import Snapshot

router = APIRouter(prefix="/v1", tags=["snapshots"])


@router.post("/snapshots", operation_id="createSnapshot", status_code=202, response_model=SnapshotView)
def create(body: SnapshotCreate, caller: Authorized, session: Db, once: Idempotent):
    """Write the rows that are accepted now to files with digests. The files never change afterwards."""
    return once(
        202,
        lambda: snapshot_view(add_queue_position(session, service.create(session, caller, body))),
        lambda view: f"/v1/snapshots/{view.id}",
    )


@router.get("/snapshots", operation_id="listSnapshots", response_model=Page[SnapshotView])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """The snapshots of the project, newest first."""
    return page(
        add_queue_positions(session, store.list_snapshots(session, caller.project_id, dataset_id, limit, after)),
        limit,
        snapshot_view,
    )


@router.get("/snapshots/{id}", operation_id="getSnapshot", response_model=SnapshotView)
def show(id: str, caller: Authorized, session: Db):
    """One snapshot with its files, when it has succeeded."""
    return snapshot_view(add_queue_position(session, store.load_snapshot(session, caller.project_id, id)))


@router.post("/snapshots/{id}/cancel", operation_id="cancelSnapshot", response_model=SnapshotView)
def cancel(id: str, caller: Authorized, session: Db):
    """End the export within seconds; no file of it stays. A snapshot that has ended is returned unchanged."""
    return snapshot_view(service.cancel(session, caller, id))


@router.get("/snapshots/{id}/manifest", operation_id="getSnapshotManifest")
def manifest(id: str, caller: Authorized, session: Db) -> dict:
    """The manifest: counts, the rules of the dataset, the files, and the digest over the files."""
    return service.load_manifest(session, caller, id)


@router.get("/snapshots/{id}/files/{name}", operation_id="downloadSnapshotFile")
def download(id: str, name: str, request: Request, caller: Authorized, session: Db):
    """The bytes of a data file. Their sha256 is the ETag. `Range` resumes, and `Accept-Encoding: gzip` compresses."""
    file = service.load_file(session, caller, id, name)
    return downloads.serve(request, export.file_path(id, name), name, file["bytes"], file["sha256"])


@router.get("/snapshots/{id}/events", operation_id="listSnapshotEvents")
def snapshot_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """The events of the snapshot as a JSON list.

    With `Accept: text/event-stream` the response is a stream that resumes from `Last-Event-ID`.
    """
    store.load_snapshot(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda session: session.get(Snapshot, id).ended)
