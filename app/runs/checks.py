"""Is a run that was asked for possible? Everything that can be known before it starts is refused here, by a 422."""

import math

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.errors import AppError, FieldError, invalid, pointer_in
from app.runs import sampling_queries, store
from app.runs.schemas import RunCreate
from app.synth.methods import METHODS, Method
from app.synth.options import MethodOptions
from app.tables.datasets import Dataset


def checked(session: Session, caller: Caller, body: RunCreate) -> tuple[Dataset, MethodOptions]:
    """The dataset, and the method's options, validated. Raises a 422 that names the field."""
    method = METHODS.get(body.method)
    if method is None:
        raise invalid("/method", f"no method {body.method!r}; there are {', '.join(METHODS)}", "unknown")
    if method.asks_teacher:
        _teacher(body, "teacher")
    if body.judge is not None:
        _teacher(body, "judge")
    dataset = store.dataset_of(session, caller.project_id, body.dataset_id)
    if dataset is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    options = _options(method.options, body.options)
    if options.judging.answer and not method.asks_teacher and body.judge is None:
        raise invalid("/judge", f"the method {body.method} asks no teacher; name the one that judges", "missing")
    _material(session, dataset, method, options)
    return dataset, options


def target(session: Session, dataset: Dataset, body: RunCreate, options: MethodOptions) -> int:
    """How many rows the run is to end with: as asked for, or as many as make up a share of the dataset."""
    share = METHODS[body.method].share_of(options)
    if body.target is None and share is None:
        raise invalid("/target", "say how many rows the run is to end with", "missing")
    wanted = body.target
    if share is not None:
        # r rows of the method among n others are the share r / (n + r).
        others = dataset.accepted_count - store.accepted_rows(session, dataset.id, body.method)
        missing = math.ceil(share * others / (1 - share)) - (dataset.accepted_count - others)
        if missing < 1:
            words = f"the dataset's {dataset.accepted_count} accepted rows have that share of {body.method} already"
            raise invalid("/options/share", words, "reached")
        wanted = missing if wanted is None else min(wanted, missing)
    most = config.limits().target
    if wanted > most:
        raise invalid("/target", f"{wanted} is over this installation's limit of {most}", "too_large")
    return wanted


def _teacher(body: RunCreate, field: str) -> None:
    name = getattr(body, field)
    known = ", ".join(config.teachers()) or "none"
    if name is None:
        raise invalid(f"/{field}", f"the method {body.method} needs a teacher; configured are: {known}", "missing")
    teacher = config.teachers().get(name)
    if teacher is None:
        raise invalid(f"/{field}", f"no teacher {name!r} is configured; there are: {known}", "unknown")
    if body.max_usd is not None and not (teacher.prompt_price or teacher.completion_price):
        raise invalid("/max_usd", f"the teacher {name!r} has no prices configured", "no_prices")
    if body.mode == "batch" and not teacher.has_remote_batches:
        message = f"the teacher {name!r} has no remote batches, since its protocol {teacher.protocol!r} has none"
        raise invalid("/mode", f"{message}; use the mode direct", "no_remote_batches")


def _options(model: type[MethodOptions], given: dict) -> MethodOptions:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = [
            FieldError("/options" + pointer_in(given, one["loc"], one["type"] == "missing"), one["msg"], one["type"])
            for one in error.errors()
        ]
        raise AppError(422, "invalid-input", f"{faults[0].pointer}: {faults[0].detail}", faults) from error


def _material(session: Session, dataset: Dataset, method: Method, options: MethodOptions) -> None:
    """What the method starts from must be there."""
    draws = method.draws_from(options)
    if draws == "seeds" and not store.has_seeds(session, dataset.id):
        raise invalid("/dataset_id", "the dataset has no seeds; import some first", "no_seeds")
    if draws == "records":
        chosen = options.parents
        if chosen.run_id is not None and not store.has_run(session, dataset.id, chosen.run_id):
            raise invalid("/options/parents/run_id", f"no run {chosen.run_id!r} on this dataset", "unknown")
        if sampling_queries.count_parents(session, dataset.id, chosen) == 0:
            other = f"; or give {method.other_material}" if method.other_material else ""
            raise invalid("/options/parents", f"no record of the dataset fits these parents{other}", "no_parents")
    if draws == "labelled" and not sampling_queries.task_sizes(session, dataset.id, options.tasks):
        words = "the dataset has no labelled rows for these tasks; import some with kind=labelled and task=…"
        raise invalid("/options/tasks", words, "no_labelled_rows")
    if draws == "passages" and sampling_queries.count_passages(session, dataset.id, options.document_ids) == 0:
        words = "the dataset has no such documents; import some with kind=documents"
        raise invalid("/options/document_ids", words, "no_documents")
