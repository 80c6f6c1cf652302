"""Request bodies and responses of runs."""

from typing import Literal

from pydantic import Field, computed_field

from app.api.deprecation import old_field
from app.api.schemas import Body, JobView, Time, View
from app.calls.schemas import AccountView, UsageView
from app.runs.health import count_classes
from app.synth.methods.registry import DEFAULT_METHOD
from app.tables.runs import Run


class RunCreate(Body):
    """The dataset, the method, the teacher and the ceilings of a run. No ceiling is ever exceeded."""

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
        default=None,
        max_length=100,
        description="A name from GET /v1/teachers; not needed by a method that calls no teacher.",
    )
    judge: str | None = Field(
        default=None, max_length=100, description="The teacher that judges; by default the teacher that writes."
    )
    target: int | None = Field(
        default=None, ge=1, description="How many rows to accept; required unless the options give a share."
    )
    options: dict = Field(
        default_factory=dict, description="Options of the method; GET /v1/methods gives the schema of each."
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    mode: Literal["direct", "batch"] = Field(
        default="direct",
        description="batch: calls go through the teacher's Files and Batches endpoints: cheaper, and within a day.",
    )
    max_requests: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_usd: float | None = Field(default=None, gt=0, le=1_000_000)
    max_candidates: int | None = Field(
        default=None,
        ge=1,
        description="The maximum of offered rows; by default 20 for each row of the target, and 200 more.",
    )
    max_seconds: int | None = Field(default=None, ge=1)
    saturation_window: int = Field(
        default=300,
        ge=20,
        le=1_000_000,
        description="The number of newest candidates on which the accepted share is computed.",
    )
    saturation_share: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="The run ends as `saturated` when the accepted share of the window is smaller; 0: it never does.",
    )


class PreviewCreate(RunCreate):
    """The body of the whole run, and how many of its rows to generate now. These rows stay: they are paid for."""

    rows: int = Field(default=8, ge=1, le=100, description="How many rows to accept now.")
    dry_run: bool = Field(
        default=False, description="Generate nothing: forecast from ended runs with the same settings."
    )
    show_prompts: bool = Field(
        default=False, description="Generate nothing, pay nothing: show the requests of a first batch."
    )


class IntervalView(View):
    """An estimate with its 90 % interval."""

    estimate: float
    low: float
    high: float


class Forecast(View):
    """The expected cost and time of `target` rows, computed from so many `runs` and `candidates`."""

    target: int
    runs: int
    candidates: int
    share: IntervalView = Field(
        description="The share of the candidates that will be accepted.", serialization_alias="yield"
    )
    requests: IntervalView
    tokens: IntervalView
    cost_usd: IntervalView
    seconds: IntervalView | None = Field(description="null in batch mode: the teacher takes up to a day.")


class ForecastView(View):
    """The forecast; null while no row was accepted, or no run with the same settings has ended."""

    forecast: Forecast | None


class SamplingView(View):
    """The sampling parameters of a request."""

    temperature: float
    top_p: float | None
    max_tokens: int
    seed: int | None


class PromptView(View):
    """One kind of request, complete, on real material of the dataset."""

    step: str = Field(description="The step of the method, by which costs are counted.")
    asked: str = Field(description="The role that is called: teacher or judge.")
    template: str = Field(description="The name of the prompt with its digest, as in the lineage of a row.")
    operation: str | None
    system: str
    turns: list[dict[str, str]] = Field(description="The messages between `system` and `user`.")
    user: str
    placeholders: bool = Field(description="Whether parts in ⟦ ⟧ stand for text of the reply to an earlier request.")
    reply_form: str = Field(description="text, or the form in which the request demands a reply with parts.")
    reply_schema: dict | None = Field(description="The JSON schema of the reply; null for a plain text.")
    sampling: SamplingView


class PromptList(View):
    """The requests of a first batch, one of each kind, in the order in which a row meets them."""

    prompts: list[PromptView]


class RunCounts(View):
    """offered = accepted + rejected + in_flight, at every moment. Proposals in flight are not decided on yet."""

    offered: int
    in_flight: int
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]


class RunUsage(UsageView):
    """The spending of a run, with the requests and tokens per accepted row; null before the first."""

    requests_per_accepted: float | None
    tokens_per_accepted: float | None


class HealthView(View):
    """The outcomes of the newest proposals.

    `message` says why the run waits for a person, and `samples` are the beginnings of unusable replies.
    """

    counts: dict[str, int] = Field(description="usable, repeated, cut, empty, refused, unreadable.")
    samples: list[str]
    message: str | None


Outcome = Literal["complete", "partial", "empty"]


class RunView(JobView):
    """A run: its settings, its state, its counts and its spending. `note` is set for rows of a simulated teacher."""

    outcome: Outcome | None = Field(
        description="Of an ended run: complete, with its target; partial, with fewer rows; empty, with no row."
    )
    dataset_id: str
    account_id: str = Field(description="The account that pays for its calls: GET /v1/accounts/{id}.")
    mode: str
    preview_target: int | None = Field(description="The target of the whole run, where this run is its preview.")
    paused_for: str | None = Field(
        description="Why the service paused it. teacher_unavailable: it continues by itself. teacher_unusable: it "
        "waits until it is resumed; `health` shows the replies, and what is likely to help."
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

    # Clients of earlier versions read the former name.
    @computed_field(**old_field("pilot_for", "preview_target"))
    @property
    def pilot_for(self) -> int | None:
        """The former name of `preview_target`."""
        return self.preview_target


_OF_ACCOUNT = ("max_requests", "max_tokens", "max_usd", "simulated", "note")
_DERIVED = {"counts", "usage", "health", "outcome", *_OF_ACCOUNT}


def outcome_of(row: Run) -> Outcome | None:
    """Return the outcome of an ended run by its accepted rows, whatever its status; None before its end."""
    if not row.ended:
        return None
    if row.accepted >= row.target:
        return "complete"
    return "partial" if row.accepted else "empty"


def run_view(row: Run, account: AccountView) -> RunView:
    """Return the response for the run.

    Args:
        row: the run.
        account: its account, which has the ceilings and the spending of the run.
    """
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
    """Return the total per row, rounded to thousandths; None without a row."""
    return round(total / rows, 3) if rows else None


class ReportView(View):
    """The report of a run: counts and shares. Histograms have edges and counts, so that a client can draw them."""

    run_id: str
    method: str
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]
    economy: dict = Field(description="Calls, tokens and dollars by step, in all and per accepted row.")
    novelty: dict = Field(
        description="The accepted share over time: of the first candidates, of the next ones, and so on."
    )
    operations: list[dict] = Field(
        description="By operation: offered and accepted rows, reasons of rejections, verdicts, cost."
    )
    sampled_rows: int
    quality: dict = Field(
        description="The checklist, diversity, difficulty, lengths, and the distribution of every score."
    )
    simulated: bool
    note: str | None


class MethodView(View):
    """A method that generates data. `draws_from`: the material that it needs, with its default options."""

    name: str
    summary: str
    draws_from: str
    asks_teacher: bool
    prompts: list[str] = Field(description="The names of its prompts, for the option `prompts`.")
    options: dict = Field(description="JSON schema of the options, with defaults and descriptions.")


class MethodList(View):
    """All methods, in the order of their registry."""

    data: list[MethodView]


class TeacherView(View):
    """A teacher as the operator has configured it, without its key and its address."""

    name: str
    model: str
    prompt_price: str
    cached_price: str
    completion_price: str
    in_flight: int
    replies: str = Field(description="The form of replies with parts: json_schema, json_object or tagged.")
    checked_at: Time | None = Field(description="The time of the last check; null for a teacher that was not checked.")
    profile: dict = Field(description="What the last check has learnt, with its calls as evidence.")


class TeacherList(View):
    """All configured teachers."""

    data: list[TeacherView]
