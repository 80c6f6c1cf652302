"""The requests that a run would make for its first batch, on the dataset's own material. No call is made."""

import asyncio
import random

from sqlalchemy.orm import Session

from app import config
from app.datasets.rows import DatasetRow
from app.errors import invalid
from app.runs import sampling
from app.runs.schemas import PromptList, PromptView, RunCreate, SamplingView
from app.runs.teachers import UNCHECKED, reply_form
from app.synth.methods.preview import has_placeholders, preview
from app.synth.methods.registry import METHODS
from app.synth.quality.options import MethodOptions
from app.synth.reply_forms import ReplyForm
from app.synth.types import Batch, Prompt
from app.tables.runs import Run


def build_preview(session: Session, dataset: DatasetRow, body: RunCreate, options: MethodOptions) -> PromptList:
    """Return one request of each kind. Raises a 422 when the dataset has no material for a first batch."""
    method = METHODS[body.method]
    batch = _first_batch(session, dataset, body, options)
    forms = {by: _form_of(session, name) for by, name in _names(body).items()}
    # The method itself runs, on invented replies: a list of its requests would be right only until it changes
    # (docs/adr/0018).
    prompts = asyncio.run(preview(method, batch))
    return PromptList(prompts=[_view(prompt, forms[prompt.by]) for prompt in prompts])


def _first_batch(session: Session, dataset: DatasetRow, body: RunCreate, options: MethodOptions) -> Batch:
    """The batch that a run of this body would begin with. The run is never added to the session."""
    run = Run(
        id="run_preview",
        dataset_id=dataset.id,
        method=body.method,
        options=options.model_dump(mode="json"),
        seed=body.seed,
        cursor={},
        batches_planned=0,
    )
    size = METHODS[body.method].batch_size(options)
    # The seed of batch 0, as a worker would plan it.
    plan = sampling.plan_batch(session, run, dataset, size, random.Random(f"{body.seed}/0"))
    if plan is None:
        raise invalid("/dataset_id", "the dataset has nothing left for a batch of this method", "no_material")
    return sampling.load_batch(session, run, dataset, plan)


def _names(body: RunCreate) -> dict[str, str | None]:
    return {"teacher": body.teacher, "judge": body.judge or body.teacher}


def _form_of(session: Session, name: str | None) -> ReplyForm:
    teacher = config.teachers().get(name or "")
    return reply_form(session, teacher) if teacher else UNCHECKED


def _view(prompt: Prompt, form: ReplyForm) -> PromptView:
    system, *turns = prompt.messages(form)
    user = turns.pop()
    return PromptView(
        step=prompt.step,
        asked=prompt.by,
        template=prompt.template,
        operation=prompt.operation,
        system=system["content"],
        turns=turns,
        user=user["content"],
        placeholders=has_placeholders(prompt),
        reply_form="text" if prompt.schema is None else form,
        reply_schema=prompt.schema,
        sampling=SamplingView(
            temperature=prompt.temperature, top_p=prompt.top_p, max_tokens=prompt.max_tokens, seed=prompt.seed
        ),
    )
