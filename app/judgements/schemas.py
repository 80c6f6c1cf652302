"""Bodies and answers of judgements."""

from typing import Literal

from pydantic import Field

from app.api.deprecation import Reason
from app.api.schemas import Body, JobView, Time, View
from app.calls.schemas import AccountReport, AccountView, UsageView
from app.synth.quality.judge_records import JudgementOptions
from app.tables.judgements import Judgement


class RecordFilter(Body):
    """Which records of the dataset: as `GET /v1/datasets/{id}/records` filters them."""

    status: Literal["accepted", "rejected"] | None = Field(default="accepted", description="null: both.")
    origin: Literal["seed", "generated", "imported"] | None = None
    reason: Reason | None = Field(default=None, max_length=100)
    run_id: str | None = Field(default=None, max_length=100)
    import_id: str | None = Field(default=None, max_length=100)
    method: str | None = Field(default=None, max_length=100)
    operation: str | None = Field(default=None, max_length=100)
    language: str | None = Field(default=None, max_length=40)
    topic: str | None = Field(default=None, max_length=200)
    task_type: str | None = Field(default=None, max_length=100)
    text: str | None = Field(default=None, max_length=200, description="Part of the instruction.")


class JudgementCreate(Body):
    """Which records to judge, with which teacher, until when. Every ceiling is hard."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {"dataset_id": "ds_…", "teacher": "simulated", "filter": {"origin": "imported"}, "max_usd": 1.5}
            ]
        }
    }

    dataset_id: str = Field(max_length=100)
    teacher: str = Field(max_length=100, description="A name from GET /v1/teachers: the judge.")
    filter: RecordFilter = Field(default=RecordFilter(), description="The accepted records, unless given.")
    options: dict = Field(
        default_factory=dict,
        description="The stages and thresholds of a run's `judging`, and `minimum_scores`; the schema: "
        "GET /v1/judgements/options.",
    )
    reject: bool = Field(
        default=False, description="Move accepted rows under the thresholds to the rejected ones; else only scores."
    )
    max_requests: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_usd: float | None = Field(default=None, gt=0, le=1_000_000)


class JudgementView(JobView):
    dataset_id: str
    account_id: str = Field(description="What pays for its calls: GET /v1/accounts/{id}.")
    teacher: str
    filter: dict
    options: dict
    reject: bool
    rows: int = Field(description="Records that fitted the filter when it was ordered.")
    done_rows: int
    outcomes: dict[str, int] = Field(
        description="Judged rows by outcome: passed; unjudged, when the verdict can't be read; or the reason for "
        "which a run would have turned the row away."
    )
    rejected: int = Field(description="Rows that were moved to the rejected ones.")
    paused_for: str | None = Field(description="Why it waits by itself, and goes on by itself: teacher_unavailable.")
    resume_at: Time | None
    max_requests: int | None
    max_tokens: int | None
    max_usd: str | None
    usage: UsageView
    simulated: bool
    note: str | None


class JudgementReport(View):
    """Outcomes, what they cost by step, and the scores of the judged rows in numbers."""

    judgement_id: str
    rows: int
    done_rows: int
    outcomes: dict[str, int]
    rejected: int
    economy: AccountReport
    sampled_rows: int
    quality: dict = Field(description="As in a run's report: the checklist, difficulty, and every score's spread.")
    simulated: bool
    note: str | None


class OptionsView(View):
    options: dict = Field(description="JSON schema of a judgement's options, with defaults and descriptions.")


_OF_ACCOUNT = ("max_requests", "max_tokens", "max_usd", "simulated", "note")
_DERIVED = {"usage", *_OF_ACCOUNT}


def judgement_view(row: Judgement, account: AccountView) -> JudgementView:
    return JudgementView(
        **{name: getattr(row, name) for name in JudgementView.model_fields if name not in _DERIVED},
        **{name: getattr(account, name) for name in _OF_ACCOUNT},
        usage=account.usage,
    )


def options_view() -> OptionsView:
    return OptionsView(options=JudgementOptions.model_json_schema())
