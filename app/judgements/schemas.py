"""Request bodies and responses of judgements."""

from typing import Literal

from pydantic import Field

from app.api.deprecation import Reason
from app.api.schemas import Body, JobView, Time, View
from app.calls.schemas import AccountReport, AccountView, UsageView
from app.synth.quality.judge_records import JudgementOptions
from app.tables.judgements import Judgement


class RecordFilter(Body):
    """The records to judge, with the filters of `GET /v1/datasets/{id}/records`."""

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
    """The records to judge, the teacher that judges, and the ceilings. No ceiling is ever exceeded."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {"dataset_id": "ds_…", "teacher": "simulated", "filter": {"origin": "imported"}, "max_usd": 1.5}
            ]
        }
    }

    dataset_id: str = Field(max_length=100)
    teacher: str = Field(max_length=100, description="A name from GET /v1/teachers: the judge.")
    filter: RecordFilter = Field(default=RecordFilter(), description="By default all accepted records.")
    options: dict = Field(
        default_factory=dict,
        description="The stages and thresholds of a run's `judging`, and `minimum_scores`; the schema: "
        "GET /v1/judgements/options.",
    )
    reject: bool = Field(
        default=False, description="Reject accepted rows under the thresholds; otherwise they only get their scores."
    )
    max_requests: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_usd: float | None = Field(default=None, gt=0, le=1_000_000)


class JudgementView(JobView):
    """A judgement with its progress, its outcomes and its spending."""

    dataset_id: str
    account_id: str = Field(description="The account that pays for its calls: GET /v1/accounts/{id}.")
    teacher: str
    filter: dict
    options: dict
    reject: bool
    rows: int = Field(description="The number of records that matched the filter when the judgement was created.")
    done_rows: int
    outcomes: dict[str, int] = Field(
        description="Judged rows by outcome: passed; unjudged, when the verdict can't be read; or the reason for "
        "which a run would have rejected the row."
    )
    rejected: int = Field(description="The number of accepted rows that the judgement has rejected.")
    paused_for: str | None = Field(
        description="teacher_unavailable: the service has paused it, and it continues by itself."
    )
    resume_at: Time | None
    max_requests: int | None
    max_tokens: int | None
    max_usd: str | None
    usage: UsageView
    simulated: bool
    note: str | None


class JudgementReport(View):
    """Outcomes, cost by step, and the distribution of the scores of judged rows."""

    judgement_id: str
    rows: int
    done_rows: int
    outcomes: dict[str, int]
    rejected: int
    economy: AccountReport
    sampled_rows: int
    quality: dict = Field(
        description="As in a run's report: the checklist, difficulty, and the distribution of every score."
    )
    simulated: bool
    note: str | None


class OptionsView(View):
    """The options of judgements."""

    options: dict = Field(description="JSON schema of a judgement's options, with defaults and descriptions.")


_OF_ACCOUNT = ("max_requests", "max_tokens", "max_usd", "simulated", "note")
_DERIVED = {"usage", *_OF_ACCOUNT}


def judgement_view(row: Judgement, account: AccountView) -> JudgementView:
    """Return the response for the judgement.

    Args:
        row: the judgement.
        account: its account, which has the ceilings and the spending.
    """
    return JudgementView(
        **{name: getattr(row, name) for name in JudgementView.model_fields if name not in _DERIVED},
        **{name: getattr(account, name) for name in _OF_ACCOUNT},
        usage=account.usage,
    )


def options_view() -> OptionsView:
    """Return the JSON schema of the options."""
    return OptionsView(options=JudgementOptions.model_json_schema())
