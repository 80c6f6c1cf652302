"""Validation of a requested run: a run that can't succeed is refused by a 422 before it starts."""

import math

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.datasets import sampling_queries
from app.datasets import store as dataset_store
from app.datasets.rows import DatasetRow
from app.errors import AppError, FieldError, invalid, pointer_in
from app.runs import store
from app.runs.schemas import RunCreate
from app.synth.methods.registry import METHODS, Method
from app.synth.quality.options import MethodOptions


def validate(session: Session, caller: Caller, body: RunCreate) -> tuple[DatasetRow, MethodOptions]:
    """Return the dataset and the validated options of the method. Raises a 422 that names the wrong field."""
    method = METHODS.get(body.method)
    if method is None:
        raise invalid("/method", f"no method {body.method!r}; there are {', '.join(METHODS)}", "unknown")
    if method.asks_teacher:
        _validate_teacher(body, "teacher")
    if body.judge is not None:
        _validate_teacher(body, "judge")
    dataset = dataset_store.find_dataset(session, caller.project_id, body.dataset_id)
    if dataset is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    options = _validate_options(method.options, body.options)
    if options.judging.answer and not method.asks_teacher and body.judge is None:
        raise invalid("/judge", f"the method {body.method} asks no teacher; name the one that judges", "missing")
    _validate_material(session, dataset, method, options)
    return dataset, options


def resolve_target(session: Session, dataset: DatasetRow, body: RunCreate, options: MethodOptions) -> int:
    """Return the target: the requested number, or the number that the method's share needs if that is smaller."""
    share = METHODS[body.method].share_of(options)
    if body.target is None and share is None:
        raise invalid("/target", "give the number of rows to accept", "missing")
    target = body.target
    if share is not None:
        # r rows of the method among n others are the share r / (n + r).
        others = dataset.accepted_count - sampling_queries.count_accepted_by_method(session, dataset.id, body.method)
        missing = math.ceil(share * others / (1 - share)) - (dataset.accepted_count - others)
        if missing < 1:
            message = f"the dataset's {dataset.accepted_count} accepted rows have that share of {body.method} already"
            raise invalid("/options/share", message, "reached")
        target = missing if target is None else min(target, missing)
    max_target = config.limits().target
    if target > max_target:
        raise invalid("/target", f"{target} is over this installation's limit of {max_target}", "too_large")
    return target


def _validate_teacher(body: RunCreate, field: str) -> None:
    name = getattr(body, field)
    configured = ", ".join(config.teachers()) or "none"
    if name is None:
        raise invalid(f"/{field}", f"the method {body.method} needs a teacher; configured are: {configured}", "missing")
    teacher = config.teachers().get(name)
    if teacher is None:
        raise invalid(f"/{field}", f"no teacher {name!r} is configured; there are: {configured}", "unknown")
    if body.max_usd is not None and not (teacher.prompt_price or teacher.completion_price):
        raise invalid("/max_usd", f"the teacher {name!r} has no prices configured", "no_prices")
    if body.mode == "batch" and not teacher.has_remote_batches:
        message = f"the teacher {name!r} has no remote batches, since its protocol {teacher.protocol!r} has none"
        raise invalid("/mode", f"{message}; use the mode direct", "no_remote_batches")


def _validate_options(model: type[MethodOptions], raw_options: dict) -> MethodOptions:
    try:
        return model.model_validate(raw_options)
    except ValidationError as failure:
        faults = [
            FieldError(
                "/options" + pointer_in(raw_options, error["loc"], error["type"] == "missing"),
                error["msg"],
                error["type"],
            )
            for error in failure.errors()
        ]
        raise AppError(422, "invalid-input", f"{faults[0].pointer}: {faults[0].detail}", faults) from failure


def _validate_material(session: Session, dataset: DatasetRow, method: Method, options: MethodOptions) -> None:
    """Refuse a run whose dataset lacks what the method draws from."""
    draws = method.draws_from(options)
    if draws == "seeds" and not sampling_queries.has_seeds(session, dataset.id):
        raise invalid("/dataset_id", "the dataset has no seeds; import some first", "no_seeds")
    if draws == "records":
        parent_filter = options.parents
        if parent_filter.run_id is not None and not store.has_run(session, dataset.id, parent_filter.run_id):
            raise invalid("/options/parents/run_id", f"no run {parent_filter.run_id!r} on this dataset", "unknown")
        if sampling_queries.count_parents(session, dataset.id, parent_filter) == 0:
            other = f"; or give {method.other_material}" if method.other_material else ""
            raise invalid("/options/parents", f"no record of the dataset fits these parents{other}", "no_parents")
    if draws == "labelled" and not sampling_queries.count_labelled_by_task(session, dataset.id, options.tasks):
        message = "the dataset has no labelled rows for these tasks; import some with kind=labelled and task=…"
        raise invalid("/options/tasks", message, "no_labelled_rows")
    if draws == "passages" and sampling_queries.count_passages(session, dataset.id, options.document_ids) == 0:
        message = "the dataset has no such documents; import some with kind=documents"
        raise invalid("/options/document_ids", message, "no_documents")
