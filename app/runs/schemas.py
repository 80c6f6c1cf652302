"""Bodies and answers of runs."""

from typing import Literal

from pydantic import Field, computed_field

from app.api.deprecation import old_field
from app.api.schemas import Body, JobView, Time, View
from app.calls.schemas import AccountView, UsageView
from app.runs.health import count_classes
from app.synth.methods.registry import DEFAULT_METHOD
from app.tables.runs import Run


class RunCreate(Body):
    """What to grow, with whom, until when. Every ceiling is hard: the run ends before it is overrun."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "dataset_id": "ds_…",
                    "method": DEFAULT_METHOD,
                    "teacher": "simulated",
                    "target": 200,
                    "max_usd": 2.5,
                }
            ]
        }
    }

    dataset_id: str = Field(max_length=100)
    method: str = Field(default=DEFAULT_METHOD, max_length=100, description="A name from GET /v1/methods.")
    teacher: str | None = Field(
        default=None, max_length=100, description="A name from GET /v1/teachers; not needed by a method that asks none."
    )
    judge: str | None = Field(
        default=None, max_length=100, description="The teacher that judges, if it is another than the one that writes."
    )
    target: int | None = Field(
        default=None, ge=1, description="Accepted records to end with; needed unless the options give a share."
    )
    options: dict = Field(
        default_factory=dict, description="Options of the method; GET /v1/methods gives the schema of each."
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    mode: Literal["direct", "batch"] = Field(
        default="direct",
        description="batch: through the teacher's Files and Batches endpoints, cheaper, and within a day.",
    )
    max_requests: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_usd: float | None = Field(default=None, gt=0, le=1_000_000)
    max_candidates: int | None = Field(
        default=None, ge=1, description="Offered rows; 20 for each one wanted, and 200 more, unless given."
    )
    max_seconds: int | None = Field(default=None, ge=1)
    saturation_window: int = Field(
        default=300, ge=20, le=1_000_000, description="The newest candidates, over which the accepted share is taken."
    )
    saturation_share: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="The run ends as `saturated` when a smaller share of the window was accepted; 0: never.",
    )


class PreviewCreate(RunCreate):
    """A run as it will be, and how much of it to make now. Its rows are kept: they are paid for."""

    rows: int = Field(default=8, ge=1, le=100, description="Accepted rows to make now.")
    dry_run: bool = Field(default=False, description="Make nothing: forecast from runs of this kind that have ended.")
    show_prompts: bool = Field(
        default=False, description="Make nothing, pay nothing: show the requests of a first batch."
    )


class IntervalView(View):
    """An estimate with the bounds between which it lies nine times of ten."""

    estimate: float
    low: float
    high: float


class Forecast(View):
    """What `target` rows will take. `runs` and `candidates`: what it rests on."""

    target: int
    runs: int
    candidates: int
    share: IntervalView = Field(description="Of the candidates that will be accepted.", serialization_alias="yield")
    requests: IntervalView
    tokens: IntervalView
    cost_usd: IntervalView
    seconds: IntervalView | None = Field(description="null in batch mode: the teacher takes up to a day.")


class ForecastView(View):
    """`forecast` is null while there is nothing to go by: no accepted row yet, or no run of this kind."""

    forecast: Forecast | None


class SamplingView(View):
    """How the teacher is to draw its reply."""

    temperature: float
    top_p: float | None
    max_tokens: int
    seed: int | None


class PromptView(View):
    """One kind of request, whole, on real material of the dataset."""

    step: str = Field(description="The kind of call, under which its cost is counted.")
    asked: str = Field(description="Who is asked: teacher or judge.")
    template: str = Field(description="The prompt with its digest, as the lineage of a row has it.")
    operation: str | None
    system: str
    turns: list[dict[str, str]] = Field(description="Messages of a dialogue between the two parts.")
    user: str
    placeholders: bool = Field(description="Parts in ⟦ ⟧ stand for what the reply to an earlier request says.")
    reply_form: str = Field(description="text, or the form in which a reply with parts is asked for.")
    reply_schema: dict | None = Field(description="JSON schema of the reply; null for a plain text.")
    sampling: SamplingView


class PromptList(View):
    """The requests of a first batch, one of each kind, in the order in which a row meets them."""

    prompts: list[PromptView]


class RunCounts(View):
    """offered = accepted + rejected + in_flight, at every moment. In flight are proposals that are not decided yet."""

    offered: int
    in_flight: int
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]


class RunUsage(UsageView):
    requests_per_accepted: float | None
    tokens_per_accepted: float | None


class HealthView(View):
    """What the newest proposals became. `message` and `samples`: why the run waits for a person, and what came."""

    counts: dict[str, int] = Field(description="usable, repeated, cut, empty, refused, unreadable.")
    samples: list[str]
    message: str | None


Outcome = Literal["complete", "partial", "empty"]


class RunView(JobView):
    outcome: Outcome | None = Field(
        description="Of a run that has ended: complete, with its target; partial, with fewer rows; empty, with none."
    )
    dataset_id: str
    account_id: str = Field(description="What pays for its calls: GET /v1/accounts/{id}.")
    mode: str
    preview_target: int | None = Field(
        description="Of a preview: the target of the whole run, for which its forecast is."
    )
    paused_for: str | None = Field(
        description="Why it paused by itself: teacher_unavailable, after which it goes on by itself; teacher_unusable, "
        "until it is resumed: `health` says what came, and what is likely to help."
    )
    health: HealthView
    resume_at: Time | None
    method: str
    teacher: str | None
    judge: str | None
    target: int
    options: dict
    seed: int
    max_requests: int | None
    max_tokens: int | None
    max_usd: str | None
    max_candidates: int | None
    max_seconds: int | None
    saturation_window: int
    saturation_share: float
    counts: RunCounts
    usage: RunUsage
    simulated: bool
    note: str | None

    @computed_field(**old_field("pilot_for", "preview_target"))
    @property
    def pilot_for(self) -> int | None:
        return self.preview_target


_OF_ACCOUNT = ("max_requests", "max_tokens", "max_usd", "simulated", "note")
_DERIVED = {"counts", "usage", "health", "outcome", *_OF_ACCOUNT}


def outcome_of(row: Run) -> Outcome | None:
    """Return what a run that has ended brought, whatever its status; None before its end."""
    if not row.ended:
        return None
    if row.accepted >= row.target:
        return "complete"
    return "partial" if row.accepted else "empty"


def run_view(row: Run, account: AccountView) -> RunView:
    counts = RunCounts(
        offered=row.accepted + row.rejected + row.in_flight,
        in_flight=row.in_flight,
        accepted=row.accepted,
        rejected=row.rejected,
        rejected_by_reason=row.rejected_by_reason,
    )
    usage = account.usage
    tokens = usage.prompt_tokens + usage.completion_tokens + usage.unknown_tokens
    per_accepted = {
        "requests_per_accepted": rate(usage.requests, row.accepted),
        "tokens_per_accepted": rate(tokens, row.accepted),
    }
    return RunView(
        **{name: getattr(row, name) for name in RunView.model_fields if name not in _DERIVED},
        **{name: getattr(account, name) for name in _OF_ACCOUNT},
        counts=counts,
        outcome=outcome_of(row),
        health=HealthView(
            counts=count_classes(row.health),
            samples=row.health.get("samples", []),
            message=row.health.get("message"),
        ),
        usage=RunUsage(**usage.model_dump(), **per_accepted),
    )


def rate(total: int, rows: int) -> float | None:
    return round(total / rows, 3) if rows else None


class ReportView(View):
    """What a run is worth. Counts and shares; histograms are edges and counts, ready to be drawn."""

    run_id: str
    method: str
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]
    economy: dict = Field(description="Calls, tokens and dollars by step, and an accepted row's share of them.")
    novelty: dict = Field(description="The accepted share over time: of the first candidates, the next, and so on.")
    operations: list[dict] = Field(description="By operation: offered, accepted, why not, verdicts, cost.")
    sampled_rows: int
    quality: dict = Field(description="The checklist, diversity, difficulty, lengths and every score's spread.")
    simulated: bool
    note: str | None


class MethodView(View):
    """A way of making data. `draws_from`: what a run of it needs in the dataset, with its default options."""

    name: str
    summary: str
    draws_from: str
    asks_teacher: bool
    prompts: list[str] = Field(description="Names of its prompts, for the option `prompts`.")
    options: dict = Field(description="JSON schema of the options, with defaults and descriptions.")


class MethodList(View):
    data: list[MethodView]


class TeacherView(View):
    """A teacher as the operator configured it. No secret, no address."""

    name: str
    model: str
    prompt_price: str
    cached_price: str
    completion_price: str
    in_flight: int
    replies: str = Field(description="How replies with parts are asked for: json_schema, json_object or tagged.")
    checked_at: Time | None = Field(description="The time of the last check; null for a teacher that was not checked.")
    profile: dict = Field(description="What the last check has learnt, with its calls as evidence.")


class TeacherList(View):
    data: list[TeacherView]
