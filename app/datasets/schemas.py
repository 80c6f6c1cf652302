"""Bodies and answers of datasets, records and imports."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, computed_field, model_validator

from app.api.deprecation import old_field
from app.api.schemas import SIMULATED_NOTE as SIMULATED_NOTE
from app.api.schemas import Body, JobView, Time, View
from app.synth.novelty.pool import Scope
from app.synth.seeds import BUNDLED, SeedTask
from app.tables.datasets import Dataset, Import, Record, Source


def _known_language(tag: str) -> str:
    parts = tag.split("-")
    if not (2 <= len(parts[0]) <= 8 and parts[0].isalpha() and all(1 <= len(p) <= 8 and p.isalnum() for p in parts)):
        raise ValueError("must be a BCP-47 language tag such as en, ko or pt-BR")
    return tag


class SeedsBody(Body):
    """Either a bundled set by name, or tasks written out."""

    bundled: str | None = None
    tasks: list[SeedTask] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def exactly_one(self) -> "SeedsBody":
        if (self.bundled is None) == (self.tasks is None):
            raise ValueError("give either bundled or tasks")
        if self.bundled is not None and self.bundled not in BUNDLED:
            raise ValueError(f"no bundled seeds named {self.bundled!r}; there are {', '.join(BUNDLED)}")
        return self


class DatasetCreate(Body):
    """A pool and its rules. The thresholds can't be changed afterwards: every decision rests on them."""

    model_config = {
        "json_schema_extra": {
            "examples": [{"name": "support-answers", "language": "en", "seeds": {"bundled": "english"}}]
        }
    }

    name: str = Field(min_length=1, max_length=200)
    language: Annotated[str, AfterValidator(_known_language)] = "en"
    seeds: SeedsBody | None = None
    lexical_threshold: float = Field(default=0.7, gt=0.5, le=1, description="ROUGE-L F1 above it is a duplicate.")
    lexical_mode: Literal["unicode", "paper"] = "unicode"
    semantic_threshold: float = Field(default=0.9, gt=0, le=1, description="Cosine at or above it is a duplicate.")
    scope: Scope = Field(
        default="instruction", description="What is compared: instructions, with their inputs, or whole rows."
    )
    encoder: str | None = Field(
        default=None, max_length=100, description="A name from GET /v1/encoders; unset, the installation's default."
    )


class DatasetPatch(Body):
    name: str = Field(min_length=1, max_length=200)


class DatasetView(View):
    id: str
    name: str
    language: str
    lexical_threshold: float
    lexical_mode: str
    semantic_threshold: float
    scope: str
    encoder: str
    encoding: dict | None = Field(description="How its vectors are made, once a worker has made the first of them.")
    counts: dict[str, int]
    simulated: bool
    note: str | None
    created_at: Time


def dataset_view(row: Dataset) -> DatasetView:
    counts = {"seeds": row.seed_count, "accepted": row.accepted_count, "rejected": row.rejected_count}
    fields = {name: getattr(row, name) for name in DatasetView.model_fields if name not in ("counts", "note")}
    return DatasetView(**fields, counts=counts, note=SIMULATED_NOTE if row.simulated else None)


class StatsView(View):
    """Rows of the dataset, counted from the rows themselves."""

    by_origin: dict[str, int]
    by_status: dict[str, int]
    by_reason: dict[str, int]
    by_method: dict[str, int]
    by_language: dict[str, int]
    simulated: int
    sources: dict[str, int] = Field(description="Documents, passages, and labelled rows by task.")
    preferences: int


class RecordView(View):
    id: str
    dataset_id: str
    origin: str
    status: str
    pool_position: int | None
    group_id: str = Field(description="The id of the representative of its group: the rows of one instruction.")
    instruction: str
    input: str
    output: str
    messages: list[dict] | None
    reasoning: str
    thought: str = Field(description="What the teacher considered before it wrote the output.")
    is_classification: bool | None
    language: str
    simulated: bool
    reason: str | None
    detail: dict | None
    nearest_id: str | None
    nearest_text: str | None
    decision: int = Field(description="1 for what admission decided; each later decision counts one more.")
    run_id: str | None
    import_id: str | None
    method: str | None
    operation: str | None
    round: int | None
    teacher: str | None
    scores: dict[str, float]
    tags: dict
    source: dict | None
    created_at: Time

    @computed_field(**old_field("seq", "pool_position"))
    @property
    def seq(self) -> int | None:
        return self.pool_position

    @computed_field(**old_field("family", "group_id"))
    @property
    def family(self) -> str:
        return self.group_id


class ParentView(View):
    id: str
    origin: str
    instruction: str


class CompletionView(View):
    key: str
    step: str
    teacher: str
    served_model: str | None
    finish_reason: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thought_tokens: int = Field(description="The part of completion_tokens that went into the thought.")
    cost_usd: str


class ReplyView(CompletionView):
    """A reply that had a part in a record: as the parsers read it, and as it came.

    `raw_text` is null where the text is what came. `repairs` names what its JSON needed.
    """

    request: dict
    text: str | None
    thought: str | None
    raw_text: str | None
    repairs: list[str]
    refusal: str | None


class ReplyList(View):
    """The replies behind a record, in the order in which they were used."""

    data: list[ReplyView]


class PreferenceView(View):
    """A worse answer to the same instruction and input. `margin`: difference of scores, 1.0 the whole scale."""

    id: str
    kind: str
    chosen: str
    rejected: str
    margin: float


class DecisionView(View):
    """An earlier decision, and the maintenance job that replaced it."""

    decision: int
    status: str
    reason: str | None
    detail: dict | None
    nearest_id: str | None
    nearest_text: str | None
    replaced_by: str
    replaced_at: Time


class NeighbourView(View):
    """A record of the pool near to another: ROUGE-L F1 and cosine, both 0 to 1."""

    id: str
    text: str
    lexical: float
    semantic: float | None = Field(description="null while one of the two has no embedding yet.")


class NeighbourList(View):
    data: list[NeighbourView]


class EncoderView(View):
    name: str
    backend: str
    dtype: str
    dimensions: int | None
    default: bool


class EncoderList(View):
    data: list[EncoderView]


class LineageView(RecordView):
    """A record with what it grew from: parents, the replies that were paid for, the prompt files."""

    parents: list[ParentView]
    children: list[ParentView]
    completions: list[CompletionView]
    templates: list[str] = Field(
        description="The prompts of its calls, each with a digest; and a digest of what the run's options brought in."
    )
    preferences: list[PreferenceView]
    decisions: list[DecisionView] = Field(description="Those that a maintenance job has replaced, oldest first.")


def record_view(row: Record) -> RecordView:
    return RecordView.model_validate(row)


class SourceView(View):
    id: str
    kind: str
    task: str
    fields: dict
    import_id: str
    created_at: Time


def source_view(row: Source) -> SourceView:
    return SourceView.model_validate(row)


class TaskView(View):
    """A task of the template library. `fields`: what a labelled row of it has."""

    name: str
    summary: str
    fields: dict[str, str]
    phrasings: dict[str, int] = Field(description="How many, by language.")


class TaskList(View):
    data: list[TaskView]


class ImportView(JobView):
    dataset_id: str
    kind: str
    task: str | None
    rows: int
    done_rows: int
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]


def import_view(row: Import) -> ImportView:
    return ImportView.model_validate(row)
