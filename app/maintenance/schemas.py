"""Bodies and answers of maintenance jobs and evaluation sets."""

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
            raise ValueError(f"no score {name!r}; there are {names}, and stored scores such as judge.overall")
    return scores


class RefilterCreate(Body):
    """Other rules for the candidates of a run that has ended. What is not given stays as it was."""

    model_config = {"json_schema_extra": {"examples": [{"lexical_threshold": 0.6, "apply": False}]}}

    lexical_threshold: float | None = Field(default=None, gt=0.5, le=1)
    semantic_threshold: float | None = Field(default=None, gt=0, le=1)
    rules: RuleSet | None = Field(
        default=None, description="In the place of all rules of the run: a preset by name, or a list of rules."
    )
    minimum_scores: Annotated[dict[str, float], AfterValidator(_require_known_scores)] = Field(
        default={}, description='Least scores: rule scores by name, or stored ones such as "judge.overall".'
    )
    target: int | None = Field(
        default=None, ge=1, description="Most rows to accept; the run's own target unless given."
    )
    apply: bool = Field(default=False, description="Write the new decisions. Otherwise only say what would move.")


class DecontaminationCreate(Body):
    """What to look for in the accepted rows, and what to do with the rows in which it is found."""

    model_config = {"json_schema_extra": {"examples": [{"evaluation_sets": ["evs_…"], "action": "report"}]}}

    evaluation_sets: list[str] = Field(min_length=1, max_length=50, description="Ids of evaluation sets.")
    ngram: int | None = Field(default=13, ge=3, le=100, description="Words that must stand in a row; null: don't look.")
    semantic_threshold: float | None = Field(
        default=0.9, gt=0, le=1, description="Cosine at or above it is a match; null: don't look."
    )
    action: Literal["report", "flag", "drop"] = Field(
        default="report",
        description="flag: the rows get the tag `contaminated`; drop: they are rejected for that reason.",
    )


class ReencodeCreate(Body):
    """By which encoder; the dataset's own as it is configured now, unless given."""

    encoder: str | None = Field(default=None, max_length=100)


class MaintenanceJobView(JobView):
    kind: str
    dataset_id: str
    run_id: str | None
    settings: dict
    rows: int
    done_rows: int
    result: dict = Field(description="What was found, and what was changed.")


def maintenance_job_view(row: MaintenanceJob) -> MaintenanceJobView:
    return MaintenanceJobView.model_validate(row)


class MatchView(View):
    """`start` and `end` are characters of the record's `field`; `item_text` is what was found there."""

    id: int
    record_id: str
    set_id: str
    place: int = Field(description="Of the item in its set, from 0.")
    kind: str
    score: float
    field: str | None
    start: int | None
    end: int | None
    span: str | None
    item_text: str


def match_view(row: Match) -> MatchView:
    return MatchView.model_validate(row)


class MatchPage(View):
    data: list[MatchView]
    has_more: bool
    next: int | None


class EvaluationSetView(View):
    id: str
    name: str
    rows: int
    digest: str
    created_at: Time


def set_view(row: EvaluationSet) -> EvaluationSetView:
    return EvaluationSetView.model_validate(row)
