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
    """Start a generation run. Poll the URL in `Location`, or follow the events of the run."""
    return once(202, lambda: _view(session, service.start(session, caller, body)), lambda run: f"/v1/runs/{run.id}")


@router.post(
    "/runs/preview",
    operation_id="previewRun",
    status_code=202,
    response_model=RunView,
    responses={
        200: {
            "model": ForecastView | PromptList,
            "description": "The forecast of a dry run; with show_prompts the requests.",
        }
    },
    tags=["runs"],
)
def preview(body: PreviewCreate, caller: Authorized, session: Db, once: Idempotent):
    """Generate a few rows of a run, to forecast the whole run by `GET /v1/runs/{id}/forecast` when they are there.

    The preview is a run of its own, and its rows stay. With `dry_run` no row is generated: the response is a 200 with
    the forecast from ended runs of this method, teacher and options. With `show_prompts` no call is made or paid: the
    response is a 200 with the complete requests of a first batch, on the material of the dataset.
    """
    if body.show_prompts:
        return JSONResponse(service.preview_prompts(session, caller, body).model_dump(mode="json"))
    if body.dry_run:
        runs, full_target = service.find_similar_runs(session, caller, body)
        view = ForecastView(forecast=forecast.build_forecast(session, runs, full_target) if runs else None)
        return JSONResponse(view.model_dump(mode="json", by_alias=True))
    return once(202, lambda: _view(session, service.preview(session, caller, body)), lambda run: f"/v1/runs/{run.id}")


@router.get("/runs/{id}/forecast", operation_id="forecastRun", response_model=ForecastView, tags=["runs"])
def show_forecast(
    id: str,
    caller: Authorized,
    session: Db,
    target: Annotated[
        int | None, Query(ge=1, description="Rows; by default the target of the run, or of the whole run of a preview.")
    ] = None,
):
    """The expected cost and time of this number of rows, from the calls of this run so far."""
    run = store.run(session, caller.project_id, id)
    return ForecastView(forecast=forecast.build_forecast(session, [run], target or run.preview_target or run.target))


@router.get("/runs", operation_id="listRuns", response_model=Page[RunView], tags=["runs"])
def list_all(
    caller: Authorized,
    session: Db,
    limit: Limit = 20,
    after: After = None,
    dataset_id: Annotated[str | None, Query(max_length=100)] = None,
):
    """The runs of the project, newest first."""
    rows = store.list_runs(session, caller.project_id, dataset_id, limit, after)
    views = service.views(session, rows)
    return page(rows, limit, lambda run: views[run.id])


@router.get("/runs/{id}", operation_id="getRun", response_model=RunView, tags=["runs"])
def show(id: str, caller: Authorized, session: Db):
    """One run with its counts, its spending and the health of its teacher."""
    return _view(session, store.run(session, caller.project_id, id))


@router.post("/runs/{id}/cancel", operation_id="cancelRun", response_model=RunView, tags=["runs"])
def cancel(id: str, caller: Authorized, session: Db):
    """End the run soon. Accepted rows stay. A run that has ended is returned unchanged."""
    return _view(session, service.cancel(session, caller, id))


@router.post("/runs/{id}/pause", operation_id="pauseRun", response_model=RunView, tags=["runs"])
def pause(id: str, caller: Authorized, session: Db):
    """Let the calls in flight end, admit their rows, and wait for `resume`."""
    return _view(session, service.pause(session, caller, id))


@router.post("/runs/{id}/resume", operation_id="resumeRun", response_model=RunView, tags=["runs"])
def resume(id: str, caller: Authorized, session: Db):
    """Continue a paused run. A run that has ended, or is about to end, is a 409."""
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
    """The events of the run as a JSON list.

    With `Accept: text/event-stream` the response is a stream that resumes from `Last-Event-ID`.
    """
    store.run(session, caller.project_id, id)
    return events_stream.respond(request, id, after, limit, lambda s: s.get(Run, id).ended)


@router.get("/runs/{id}/report", operation_id="getRunReport", response_model=ReportView, tags=["runs"])
def run_report(id: str, caller: Authorized, session: Db):
    """The report of the run: cost by step, outcomes by operation, and the measured quality of its accepted rows.

    Where a run has more than 2,000 accepted rows, the quality is measured on a fixed sample of them.
    """
    return report.build_report(session, store.run(session, caller.project_id, id))


@router.get("/methods", operation_id="listMethods", response_model=MethodList, tags=["runs"])
def list_methods(caller: Authorized):
    """The methods that generate data, each with the schema of its options."""
    return MethodList(data=service.list_methods())


@router.get("/teachers", operation_id="listTeachers", response_model=TeacherList, tags=["teachers"])
def list_teachers(caller: Authorized, session: Db):
    """The teachers that the operator has configured. A run names one of them."""
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
