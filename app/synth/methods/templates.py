"""The method `templates`: labelled data as instruction rows (FLAN: Wei et al. 2022, section 2.1).

Each row is filled into a phrasing of its task family, without a teacher. Thousands of rows share an instruction on
purpose, so duplicates are sought among whole rows.
"""

import random
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from app.synth.methods import task_families
from app.synth.methods.method import Method
from app.synth.prompting.chains import gather_until_budget, reject_on_failure
from app.synth.quality.filters import PRESETS, check_instance
from app.synth.quality.judging import finish
from app.synth.quality.options import MethodOptions, MinimumScores
from app.synth.quality.rules import Rule
from app.synth.text import clean
from app.synth.types import Ask, Batch, Candidate, Prefilter, Proposal, Rejection, Source


def _check_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in task_families.FAMILIES]
    if unknown:
        raise ValueError(f"no task {unknown[0]!r}; there are {', '.join(task_families.FAMILIES)}")
    return names


def _check_weights(weights: dict[str, float]) -> dict[str, float]:
    _check_tasks(tuple(weights))
    if any(not 0 <= weight < float("inf") for weight in weights.values()):
        raise ValueError("a weight is 0 or more")
    return weights


class Options(MethodOptions):
    """What a caller may set."""

    judges_questions: ClassVar[bool] = False

    tasks: Annotated[tuple[str, ...], AfterValidator(_check_tasks)] = Field(
        default=(), description="Only these tasks' rows; all unless given."
    )
    weights: Annotated[dict[str, float], AfterValidator(_check_weights)] = Field(
        default={}, description="Weights of tasks in the mixture, 1 unless given."
    )
    mixing_temperature: float = Field(
        default=1.0, ge=1, le=100, description="Tasks are drawn by size^(1/T): 1 by size, high evenly. T5 took 2 to 3."
    )
    # Without a limit one huge data set would crowd out all other tasks.
    mixing_limit: int = Field(default=3000, ge=1, description="A larger task counts as one of this size (FLAN).")
    uses: int = Field(default=1, ge=1, le=50, description="Phrasings of each row, drawn one by one.")
    demonstrations: int = Field(default=0, ge=0, le=8, description="Solved examples before the input (few-shot).")
    inverse_share: float = Field(default=0.1, ge=0, le=1, description="Share of phrasings that turn the task round.")
    minimum_scores: MinimumScores = Field(default={}, description="Least rule scores; none unless given.")

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return no rules by default, since phrasings are short or long on purpose."""
        return PRESETS["none"] if self.rules is None else super().rules_for(language)


def mixture(sizes: dict[str, int], options: Options) -> dict[str, float]:
    """Return weight * min(size, limit)^(1/T) of each task (Raffel et al. 2020, section 3.5.2), not scaled to 1.

    Args:
        sizes: labelled rows by task.
        options: has the weights, the limit and the temperature T.

    Returns:
        Shares above 0 by task.
    """
    shares = {
        task: options.weights.get(task, 1.0) * min(size, options.mixing_limit) ** (1 / options.mixing_temperature)
        for task, size in sizes.items()
    }
    # A task with the weight 0 is left out, since a draw by weights needs at least one above 0.
    return {task: share for task, share in shares.items() if share > 0}


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Make one row for each labelled row of the batch; a judge is called only where the options ask for it."""
    rows = [_row(batch, source, n) for n, source in enumerate(batch.sources)]
    # Rejected rows need no further checks, and no judge is paid for them.
    fresh = [row for row in rows if row.rejection is None]
    finished = await gather_until_budget(
        reject_on_failure(row, finish(batch, row, str(n), ask)) for n, row in enumerate(fresh)
    )
    return Proposal((*(row for row in rows if row.rejection is not None), *finished))


def _row(batch: Batch, source: Source, index: int) -> Candidate:
    options: Options = batch.options
    # Seeded by batch and row: a repeated batch draws the same phrasings.
    rng = random.Random(f"{batch.seed}/{index}")
    phrasing = task_families.choose_phrasing(source.task, batch.language, rng, options.inverse_share)
    draft = Candidate(
        "",
        scope="row",
        operation=phrasing.name,
        parents=(source.id,),
        is_classification=task_families.load_family(source.task).classification and not phrasing.inverse,
        tags={"task_type": source.task, "phrasing": phrasing.name},
    )
    try:
        rendered = task_families.render(phrasing, source.fields)
        # Demonstrations share the phrasing of the row: mixed forms would confuse a few-shot prompt.
        demonstrations = _sample_demonstrations(batch, source, rng)
        solved_examples = [task_families.render(phrasing, demonstration.fields) for demonstration in demonstrations]
    except ValueError as error:
        return draft.reject("malformed_source", str(error)[:200])
    rendered = (
        task_families.add_demonstrations(rendered, solved_examples, batch.language) if solved_examples else rendered
    )
    row = Candidate(
        **{
            **vars(draft),
            "instruction": clean(rendered.instruction),
            "input": clean(rendered.input),
            "output": clean(rendered.output),
            "parents": (source.id, *(demonstration.id for demonstration in demonstrations)),
        }
    )
    fault = _find_fault(row)
    return row.reject(fault.reason, fault.value) if fault else row


def _sample_demonstrations(batch: Batch, source: Source, rng: random.Random) -> list[Source]:
    others = [
        other for other in batch.conditioning.get("shown", ()) if other.task == source.task and other.id != source.id
    ]
    return rng.sample(others, min(batch.options.demonstrations, len(others)))


def _find_fault(row: Candidate) -> Rejection | None:
    if not row.instruction:
        return Rejection("empty_instruction")
    return check_instance(row.input, row.output)


METHOD = Method(
    name="templates",
    summary="Labelled data turned into instruction rows by phrasings of their task; asks no teacher.",
    options=Options,
    make=propose,
    draws_from=lambda options: "labelled",
    batch_size=lambda options: 50,
    candidates=lambda options: 1,
    min_steps=lambda options: 0,
    asks_teacher=False,
)
