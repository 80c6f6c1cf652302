"""Request bodies and responses of datasets, records and imports."""

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
    """The seeds of a new dataset: either a bundled set by name, or tasks in the body."""

    bundled: str | None = None
    tasks: list[SeedTask] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def exactly_one(self) -> "SeedsBody":
        """Raise a ValueError for both or neither of the two, or for an unknown bundled set."""
        if (self.bundled is None) == (self.tasks is None):
            raise ValueError("give either bundled or tasks")
        if self.bundled is not None and self.bundled not in BUNDLED:
            raise ValueError(f"no bundled seeds named {self.bundled!r}; there are {', '.join(BUNDLED)}")
        return self


class DatasetCreate(Body):
    """A dataset and its rules. The rules can't be changed afterwards: every stored decision was made by them."""

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
        default="instruction",
        description="Which text of a row is compared: its instruction, also its input, or the whole row.",
    )
    encoder: str | None = Field(
        default=None, max_length=100, description="A name from GET /v1/encoders; unset, the installation's default."
    )


class DatasetPatch(Body):
    """The new name of a dataset."""

    name: str = Field(min_length=1, max_length=200)


class DatasetView(View):
    """A dataset with its rules. `counts`: seeds by their groups, and accepted and rejected rows."""

    id: str
    name: str
    language: str
    lexical_threshold: float
    lexical_mode: str
    semantic_threshold: float
    scope: str
    encoder: str
    encoding: dict | None = Field(
        description="The encoder's properties, null until a worker has computed the first vector."
    )
    counts: dict[str, int]
    simulated: bool
    note: str | None
    created_at: Time


def dataset_view(row: Dataset) -> DatasetView:
    """Return the response for the dataset."""
    counts = {"seeds": row.seed_count, "accepted": row.accepted_count, "rejected": row.rejected_count}
    fields = {name: getattr(row, name) for name in DatasetView.model_fields if name not in ("counts", "note")}
    return DatasetView(**fields, counts=counts, note=SIMULATED_NOTE if row.simulated else None)


class StatsView(View):
    """The numbers of rows by their properties, counted from the rows themselves."""

    by_origin: dict[str, int]
    by_status: dict[str, int]
    by_reason: dict[str, int]
    by_method: dict[str, int]
    by_language: dict[str, int]
    simulated: int
    sources: dict[str, int] = Field(description="Documents, passages, and labelled rows by task.")
    preferences: int


class RecordView(View):
    """A record: its texts, its decision with reason and nearest record, and where it comes from."""

    id: str
    dataset_id: str
    origin: str
    status: str
    pool_position: int | None
    group_id: str = Field(description="The id of the record that represents its group: the rows of one instruction.")
    instruction: str
    input: str
    output: str
    messages: list[dict] | None
    reasoning: str
    thought: str = Field(description="The thought of the teacher before it wrote the output.")
    is_classification: bool | None
    language: str
    simulated: bool
    reason: str | None
    detail: dict | None
    nearest_id: str | None
    nearest_text: str | None
    decision: int = Field(
        description="The number of the decision: 1 for admission, and one more for each later decision."
    )
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

    # Clients of earlier versions read the former names.
    @computed_field(**old_field("seq", "pool_position"))
    @property
    def seq(self) -> int | None:
        """The former name of `pool_position`."""
        return self.pool_position

    @computed_field(**old_field("family", "group_id"))
    @property
    def family(self) -> str:
        """The former name of `group_id`."""
        return self.group_id


class ParentView(View):
    """A record in the lineage of another one: its parent or its child."""

    id: str
    origin: str
    instruction: str


class CompletionView(View):
    """A paid call behind a record: its step, its teacher, its tokens and its price."""

    key: str
    step: str
    teacher: str
    served_model: str | None
    finish_reason: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thought_tokens: int = Field(description="The part of completion_tokens that the thought took.")
    cost_usd: str


class ReplyView(CompletionView):
    """A reply behind a record: the text that the parsers read, and the text as the teacher sent it.

    `raw_text` is null where both texts are equal. `repairs` names the repairs of its JSON.
    """

    request: dict
    text: str | None
    thought: str | None
    raw_text: str | None
    repairs: list[str]
    refusal: str | None


class ReplyList(View):
    """The replies behind a record, in the order in which the method used them."""

    data: list[ReplyView]


class PreferenceView(View):
    """A better and a worse answer to one instruction. `margin`: the difference of their scores, of at most 1.0."""

    id: str
    kind: str
    chosen: str
    rejected: str
    margin: float


class DecisionView(View):
    """An earlier decision, and the id of the maintenance job or the judgement that replaced it."""

    decision: int
    status: str
    reason: str | None
    detail: dict | None
    nearest_id: str | None
    nearest_text: str | None
    replaced_by: str
    replaced_at: Time


class NeighbourView(View):
    """A record of the pool near to another one. `lexical` is ROUGE-L F1, `semantic` the cosine, both 0 to 1."""

    id: str
    text: str
    lexical: float
    semantic: float | None = Field(description="null while one of the two has no embedding yet.")


class NeighbourList(View):
    """The nearest records of the pool, nearest first."""

    data: list[NeighbourView]


class EncoderView(View):
    """A configured encoder. `default`: whether a dataset that names no encoder gets it."""

    name: str
    backend: str
    dtype: str
    dimensions: int | None
    default: bool


class EncoderList(View):
    """All configured encoders."""

    data: list[EncoderView]


class LineageView(RecordView):
    """A record with its lineage: parents, children, the paid calls and their prompts, and earlier decisions."""

    parents: list[ParentView]
    children: list[ParentView]
    completions: list[CompletionView]
    templates: list[str] = Field(
        description="The prompts of its calls, each with a digest; and a digest of the run's own rules and prompts."
    )
    preferences: list[PreferenceView]
    decisions: list[DecisionView] = Field(description="The decisions that later ones have replaced, oldest first.")


def record_view(row: Record) -> RecordView:
    """Return the response for the record."""
    return RecordView.model_validate(row)


class SourceView(View):
    """Uploaded material: a document, a passage, or a labelled row. `fields` has its texts."""

    id: str
    kind: str
    task: str
    fields: dict
    import_id: str
    created_at: Time


def source_view(row: Source) -> SourceView:
    """Return the response for the source."""
    return SourceView.model_validate(row)


class TaskView(View):
    """A task of the template library. `fields`: the fields of its labelled rows, each with a description."""

    name: str
    summary: str
    fields: dict[str, str]
    phrasings: dict[str, int] = Field(description="The number of phrasings by language.")


class TaskList(View):
    """All tasks of the template library."""

    data: list[TaskView]


class ImportView(JobView):
    """An import with its progress: `done_rows` of `rows` lines are decided on."""

    dataset_id: str
    kind: str
    task: str | None
    rows: int
    done_rows: int
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]


def import_view(row: Import) -> ImportView:
    """Return the response for the import."""
    return ImportView.model_validate(row)
