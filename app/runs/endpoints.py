"""REST of runs and teachers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.access.dependencies import Authorized, Idempotent
from app.api import events_stream
from app.api.paging import After, Limit, Page, page
from app.api.session import Db
from app.jobs.queue_position import add_queue_position
from app.runs import forecast, report, service, store, teacher_checks
from app.runs.schemas import (
    ForecastView,
    MethodList,
    PreviewCreate,
    PromptList,
    ReportView,
    RunCreate,
    RunView,
    TeacherList,
)
from app.runs.teacher_checks import TeacherCheckView
from app.tables.runs import Run

router = APIRouter(prefix="/v1")


@router.post("/runs", operation_id="createRun", status_code=202, response_model=RunView, tags=["runs"])
def create(body: RunCreate, caller: Authorized, session: Db, once: Idempotent):
    """Start a generation run. Poll the Location, or follow its events."""
    return once(202, lambda: _view(session, service.start(session, caller, body)), lambda run: f"/v1/runs/{run.id}")


@router.post(
    "/runs/preview",
    operation_id="previewRun",
    status_code=202,
    response_model=RunView,
    responses={
        200: {
            "model": ForecastView | PromptList,
            "description": "Of a dry run the forecast; with show_prompts the requests.",
        }
    },
    tags=["runs"],
)
def preview(body: PreviewCreate, caller: Authorized, session: Db, once: Idempotent):
    """Make a handful of rows of a run, and forecast the whole: `GET /v1/runs/{id}/forecast`, when it has ended.

    The pilot is a run of its own, and its rows are kept. With `dry_run` nothing is made: the answer is a 200 with
    the forecast from runs of this method, teacher and options that have ended. With `show_prompts` nothing is made
    and nothing is paid: the answer is a 200 with the requests of a first batch, whole, on the dataset's material.
    """
    if body.show_prompts:
        return JSONResponse(service.preview_prompts(session, caller, body).model_dump(mode="json"))
    if body.dry_run:
        runs, full_target = service.find_similar_runs(session, caller, body)
        view = ForecastView(forecast=forecast.of_runs(session, runs, full_target) if runs else None)
        return JSONResponse(view.model_dump(mode="json", by_alias=True))
    return once(202, lambda: _view(session, service.preview(session, caller, body)), lambda run: f"/v1/runs/{run.id}")


@router.get("/runs/{id}/forecast", operation_id="forecastRun", response_model=ForecastView, tags=["runs"])
def show_forecast(
    id: str,
    caller: Authorized,
    session: Db,
    target: Annotated[int | None, Query(ge=1, description="Rows; a pilot's whole, or the run's target.")] = None,
):
    """What so many rows will take, by what this run took so far."""
    run = store.run(session, caller.project_id, id)
    return ForecastView(forecast=forecast.of_runs(session, [run], target or run.preview_target or run.target))


@router.get("/runs", operation_id="listRuns", response_model=Page[RunView], tags=["runs"])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    rows = store.list_runs(session, caller.project_id, dataset_id, limit, after)
    views = service.views(session, rows)
    return page(rows, limit, lambda run: views[run.id])


@router.get("/runs/{id}", operation_id="getRun", response_model=RunView, tags=["runs"])
def show(id: str, caller: Authorized, session: Db):
    return _view(session, store.run(session, caller.project_id, id))


@router.post("/runs/{id}/cancel", operation_id="cancelRun", response_model=RunView, tags=["runs"])
def cancel(id: str, caller: Authorized, session: Db):
    """End the run soon; what was accepted stays. A run that has ended is returned unchanged."""
    return _view(session, service.cancel(session, caller, id))


@router.post("/runs/{id}/pause", operation_id="pauseRun", response_model=RunView, tags=["runs"])
def pause(id: str, caller: Authorized, session: Db):
    """Let calls in flight finish, keep their results, and wait for resume."""
    return _view(session, service.pause(session, caller, id))


@router.post("/runs/{id}/resume", operation_id="resumeRun", response_model=RunView, tags=["runs"])
def resume(id: str, caller: Authorized, session: Db):
    return _view(session, service.resume(session, caller, id))


@router.get("/runs/{id}/events", operation_id="listRunEvents", tags=["runs"])
def run_events(
    id: str,
    request: Request,
    caller: Authorized,
    session: Db,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0)] = 0,
):
    """A JSON list; with `Accept: text/event-stream` a stream that resumes from `Last-Event-ID`."""
    store.run(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(Run, id).ended)


@router.get("/runs/{id}/report", operation_id="getRunReport", response_model=ReportView, tags=["runs"])
def run_report(id: str, caller: Authorized, session: Db):
    """What the run is worth: cost by step, survival by operation, and the quality of its accepted rows in numbers.

    Above 2,000 accepted rows the quality is that of a fixed sample of them.
    """
    return report.of_run(session, store.run(session, caller.project_id, id))


@router.get("/methods", operation_id="listMethods", response_model=MethodList, tags=["runs"])
def list_methods(caller: Authorized):
    """The ways of making data, each with the schema of its options."""
    return MethodList(data=service.list_methods())


@router.get("/teachers", operation_id="listTeachers", response_model=TeacherList, tags=["teachers"])
def list_teachers(caller: Authorized, session: Db):
    """The teachers that the operator configured; a run names one."""
    return TeacherList(data=service.list_teachers(session))


@router.post(
    "/teachers/{name}/check",
    operation_id="checkTeacher",
    status_code=202,
    response_model=TeacherCheckView,
    tags=["teachers"],
)
def check_teacher(name: str, caller: Authorized, session: Db, once: Idempotent):
    """Learn by at most eight small calls what a teacher can do, and store it. The calls may cost money."""
    return once(
        202,
        lambda: teacher_checks.view(add_queue_position(session, teacher_checks.create_check(session, caller, name))),
        lambda check: f"/v1/teacher-checks/{check.id}",
    )


@router.get("/teacher-checks/{id}", operation_id="getTeacherCheck", response_model=TeacherCheckView, tags=["teachers"])
def show_teacher_check(id: str, caller: Authorized, session: Db):
    """Return a check, and what it has learnt when it has ended."""
    row = teacher_checks.load_check(session, caller.project_id, id)
    return teacher_checks.view(add_queue_position(session, row))


def _view(session: Session, run: Run) -> RunView:
    return service.views(session, [run])[run.id]


def _location(run: RunView) -> str:
    return f"/v1/runs/{run.id}"
