"""Refusals: harmful requests with polite refusals, so that a tuned model learns to decline.

The only seed is a category. Requests are phrased in general terms and their length is limited, so that the rows teach
a refusal without describing how to do the harm.
"""

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, Field, RootModel, StrictBool, StrictStr

from app.synth.methods.method import Method
from app.synth.prompting.chains import gather_until_budget, reject_on_failure
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items, read_object, read_text
from app.synth.prompting.requests import TEXT, YES_NO, list_schema, object_schema, prompt_for
from app.synth.quality.filters import check_instruction, check_row
from app.synth.quality.judging import finish
from app.synth.quality.options import MethodOptions, MinimumScores
from app.synth.quality.postprocess import limit_to_requested, normalise_instruction
from app.synth.quality.rules import OpensWithPunctuation, Rule, TooLong, TooShort
from app.synth.quality.scores import RULE_SCORES
from app.synth.text import clean, count_words
from app.synth.types import Ask, Batch, Candidate, Prefilter, Proposal, Rejection

# Broad names, so that no prompt contains a harmful detail.
CATEGORIES: dict[str, dict[str, str]] = {
    "en": {
        "violence": "violence against people",
        "weapons": "making or getting weapons",
        "drugs": "making or selling illegal drugs",
        "fraud": "fraud, scams and forged documents",
        "theft": "theft and breaking in",
        "malware": "malicious software and breaking into systems",
        "privacy": "spying on people and exposing private data",
        "hate": "hatred against a group of people",
        "harassment": "bullying, threats and blackmail",
        "self_harm": "hurting oneself",
        "child_safety": "endangering children",
        "deception": "disinformation and tampering with elections",
    },
    "ko": {
        "violence": "사람에 대한 폭력",
        "weapons": "무기를 만들거나 구하는 일",
        "drugs": "불법 약물을 만들거나 파는 일",
        "fraud": "사기와 문서 위조",
        "theft": "절도와 무단 침입",
        "malware": "악성 소프트웨어와 시스템 침입",
        "privacy": "남을 몰래 감시하거나 개인정보를 퍼뜨리는 일",
        "hate": "특정 집단에 대한 혐오",
        "harassment": "괴롭힘과 협박",
        "self_harm": "스스로를 해치는 일",
        "child_safety": "아동을 위험하게 하는 일",
        "deception": "허위 정보와 선거 방해",
    },
}


def _check_categories(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in CATEGORIES["en"]]
    if unknown:
        raise ValueError(f"no category {unknown[0]!r}; there are {', '.join(CATEGORIES['en'])}")
    return names


class Options(MethodOptions):
    """What a caller may set."""

    judges_questions: ClassVar[bool] = False
    prompt_names: ClassVar[tuple[str, ...]] = (
        "safety_requests",
        "safety_refusal",
        "judge_refusal",
    )

    share: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="Share of the dataset's accepted rows that refusals shall be: instead of a target.",
    )
    categories: Annotated[tuple[str, ...], AfterValidator(_check_categories)] = Field(
        default=tuple(CATEGORIES["en"]), min_length=1, description="What requests are about; each batch has one."
    )
    requests_per_call: int = Field(default=4, ge=1, le=10, description="Requests asked for at once.")
    most_words: int = Field(default=30, ge=5, le=200, description="A longer request could carry details.")
    judge_refusal: bool = Field(default=True, description="Ask a judge whether the answer declines, and politely.")
    # The default of other methods rejects refusals, which are the purpose here and have a check of their own.
    minimum_scores: MinimumScores = Field(default={}, description="Least rule scores; none unless given.")
    temperature: float = Field(default=1.0, ge=0, le=2, description="Of the requests.")
    answer_temperature: float = Field(default=0.7, ge=0, le=2, description="Of the refusals.")
    request_tokens: int = Field(default=512, ge=64, le=4096, description="Most tokens of a call for requests.")
    answer_tokens: int = Field(default=512, ge=64, le=4096, description="Most tokens of a refusal.")

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return rules of length and of opening by default: a long request could carry details."""
        rules = (TooShort(parameter=2), TooLong(parameter=self.most_words), OpensWithPunctuation())
        return rules if self.rules is None else super().rules_for(language)


class Request(RootModel[StrictStr]):
    """One harmful request of a reply."""


class RefusalVerdict(BaseModel):
    """The judge's verdict on a refusal."""

    declined: StrictBool
    polite: StrictBool
    harmless: StrictBool


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Write requests in the category of the batch, each with a refusal."""
    options: Options = batch.options
    category = batch.conditioning["category"]
    # A prompt in Korean names the category in Korean; every other language uses English.
    names = CATEGORIES.get(batch.language.split("-")[0].lower(), CATEGORIES["en"])
    prompt = prompt_for(
        batch,
        "safety_requests",
        "requests",
        {"category": names[category], "count": batch.size, "language": language_name(batch.language)},
        list_schema("requests", TEXT, batch.size),
        step="requests",
        temperature=options.temperature,
        max_tokens=options.request_tokens,
    )
    reply = await ask(prompt)
    # The category stands as operation, too, so that reports count yield and cost for each category.
    origin = Candidate("", operation=category, tags={"topic": category, "task_type": "refusal"}).after(prompt, reply)
    items, faults = limit_to_requested(*read_items(reply, "requests", Request), batch.size)
    rows = [replace(origin, rejection=fault) for fault in faults]
    drafts = [replace(origin, instruction=normalise_instruction(item.root)) for item in items]
    chains = (reject_on_failure(draft, _decline(batch, draft, n, ask, prefilter)) for n, draft in enumerate(drafts))
    return Proposal((*rows, *await gather_until_budget(chains)))


async def _decline(batch: Batch, draft: Candidate, index: int, ask: Ask, prefilter: Prefilter) -> Candidate:
    options: Options = batch.options
    fault = check_instruction(draft.instruction, options.rules_for(batch.language))
    # Rules come before the prefilter, which may have to encode the text.
    fault = fault or await prefilter(draft)
    if fault is not None:
        return replace(draft, rejection=fault)
    prompt = prompt_for(
        batch,
        "safety_refusal",
        f"refusal-{index}",
        {"instruction": draft.instruction, "language": language_name(batch.language)},
        None,
        step="answer",
        temperature=options.answer_temperature,
        max_tokens=options.answer_tokens,
        seed=index,
    )
    reply = await ask(prompt)
    row, parsed = draft.after(prompt, reply), read_text(reply)
    if isinstance(parsed, Rejection):
        return replace(row, rejection=parsed)
    row = replace(row, output=clean(parsed))
    if count_words(row.output) == 0:
        return row.reject("empty_output")
    rejection = check_row(row, options.rules_for(batch.language))
    if rejection is not None:
        return replace(row, rejection=rejection)
    if options.judge_refusal:
        row = await _judge_refusal(batch, row, index, ask)
    # Without a judge the wording alone tells: here a score of 0 is the good one.
    elif RULE_SCORES["no_refusal"](row, batch.language) > 0:
        row = row.reject("not_a_refusal")
    return row if row.rejection is not None else await finish(batch, row, str(index), ask)


async def _judge_refusal(batch: Batch, row: Candidate, index: int, ask: Ask) -> Candidate:
    prompt = prompt_for(
        batch,
        "judge_refusal",
        f"judge-refusal-{index}",
        {"instruction": row.instruction, "output": row.output},
        object_schema("refusal_verdict", {"declined": YES_NO, "polite": YES_NO, "harmless": YES_NO}),
        temperature=0.0,
        max_tokens=64,
        by="judge",
    )
    reply = await ask(prompt)
    row, verdict = row.after(prompt, reply), read_object(reply, RefusalVerdict)
    if isinstance(verdict, Rejection):
        return row.reject("unjudged", verdict.reason)
    if not verdict.declined:
        return row.reject("not_a_refusal")
    if not verdict.harmless:
        return row.reject("harmful_detail")
    return row if verdict.polite else row.reject("impolite_refusal")


METHOD = Method(
    name="safety",
    summary="Harmful requests in general words, politely declined.",
    options=Options,
    make=propose,
    draws_from=lambda options: "nothing",
    batch_size=lambda options: options.requests_per_call,
    candidates=lambda options: 1,
    min_steps=lambda options: 2 + options.judge_refusal,
    share_of=lambda options: options.share,
    conditioning=lambda options, size, number: {"category": options.categories[number % len(options.categories)]},
    sample_values=lambda batch: {"text": "I can't help with that."},
)
