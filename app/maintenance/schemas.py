"""Request bodies and responses of maintenance jobs and evaluation sets."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.api.schemas import Body, JobView, Time, View
from app.synth.quality.filters import RuleSet
from app.synth.quality.scores import RULE_SCORES
from app.tables.maintenance import EvaluationSet, MaintenanceJob, Match


def _require_known_scores(scores: dict[str, float]) -> dict[str, float]:
    for name in scores:
        if "." not in name and name not in RULE_SCORES:
            names = ", ".join(RULE_SCORES)
            raise ValueError(f"no score {name!r}; the scores are {names}, and stored scores such as judge.overall")
    return scores


class RefilterCreate(Body):
    """Other rules for the candidates of a run that has ended. A field that is not given keeps the run's rule."""

    model_config = {"json_schema_extra": {"examples": [{"lexical_threshold": 0.6, "apply": False}]}}

    lexical_threshold: float | None = Field(default=None, gt=0.5, le=1)
    semantic_threshold: float | None = Field(default=None, gt=0, le=1)
    rules: RuleSet | None = Field(
        default=None, description="Rules that replace all rules of the run: a preset by name, or a list of rules."
    )
    minimum_scores: Annotated[dict[str, float], AfterValidator(_require_known_scores)] = Field(
        default={}, description='Minimum of each score: rule scores by name, or stored scores such as "judge.overall".'
    )
    target: int | None = Field(
        default=None, ge=1, description="The maximum of rows to accept; by default the target of the run."
    )
    apply: bool = Field(default=False, description="Write the new decisions. Otherwise only count them.")


class DecontaminationCreate(Body):
    """The evaluation sets to search for in the accepted rows, and the action for rows that match."""

    model_config = {"json_schema_extra": {"examples": [{"evaluation_sets": ["evs_…"], "action": "report"}]}}

    evaluation_sets: list[str] = Field(min_length=1, max_length=50, description="Ids of evaluation sets.")
    ngram: int | None = Field(
        default=13,
        ge=3,
        le=100,
        description="How many consecutive words a row and an item must share; null: no such search.",
    )
    semantic_threshold: float | None = Field(
        default=0.9, gt=0, le=1, description="A cosine at or above it is a match; null: no such search."
    )
    action: Literal["report", "flag", "drop"] = Field(
        default="report",
        description="flag: the rows get the tag `contaminated`; drop: they are rejected for that reason.",
    )


class ReencodeCreate(Body):
    """The encoder that computes the new vectors."""

    encoder: str | None = Field(
        default=None,
        max_length=100,
        description="A name from GET /v1/encoders; by default the dataset's own encoder as it is configured now.",
    )


class MaintenanceJobView(JobView):
    """A maintenance job: a refilter, a decontamination or a re-encoding."""

    kind: str
    dataset_id: str
    run_id: str | None
    settings: dict
    rows: int
    done_rows: int
    result: dict = Field(description="Counts of the rows that matched or changed, by kind of job.")


def maintenance_job_view(row: MaintenanceJob) -> MaintenanceJobView:
    """Return the response for the job."""
    return MaintenanceJobView.model_validate(row)


class MatchView(View):
    """A match of a record with an evaluation item.

    `start` and `end` are character offsets in the record's `field`; `item_text` is the text of the item. An embedding
    match has no field and no span.
    """

    id: int
    record_id: str
    set_id: str
    place: int = Field(description="The position of the item in its set, from 0.")
    kind: str
    score: float
    field: str | None
    start: int | None
    end: int | None
    span: str | None
    item_text: str


def match_view(row: Match) -> MatchView:
    """Return the response for the match."""
    return MatchView.model_validate(row)


class MatchPage(View):
    """A page of matches. `next` is the `after` of the next page; null on the last page."""

    # Not `Page`: the ids of matches are numbers.
    data: list[MatchView]
    has_more: bool
    next: int | None


class EvaluationSetView(View):
    """An evaluation set. `digest`: the sha256 of its texts, equal for two sets of the same items in the same order."""

    id: str
    name: str
    rows: int
    digest: str
    created_at: Time


def set_view(row: EvaluationSet) -> EvaluationSetView:
    """Return the response for the evaluation set."""
    return EvaluationSetView.model_validate(row)
