"""The options that every method shares: rules of form, minimum scores, the judge's stages, custom prompts."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from app.synth.prompting.custom_prompts import CustomPrompt, check_prompts
from app.synth.quality.filters import RuleSet, instruction_rules, rules_of
from app.synth.quality.rules import Name, Rule, digest_of
from app.synth.quality.scores import RULE_SCORES

Aspect = Literal["instruction_following", "correctness", "helpfulness", "clarity", "harmlessness"]
ASPECTS: tuple[Aspect, ...] = ("instruction_following", "correctness", "helpfulness", "clarity", "harmlessness")


def _check_score_names(minimums: dict[str, float]) -> dict[str, float]:
    for name, minimum in minimums.items():
        if name not in RULE_SCORES:
            raise ValueError(f"no score {name!r}; there are {', '.join(RULE_SCORES)}")
        if not 0 <= minimum <= 1:
            raise ValueError(f"{name}: a least score lies between 0 and 1, not at {minimum}")
    return minimums


MinimumScores = Annotated[dict[str, float], AfterValidator(_check_score_names)]


# A criterion of these names would overwrite another field of the verdict, or the score of another prompt.
_RESERVED = ("rationale", "difficulty", "topic", "overall", "question_clarity", "equal", "faithfulness")


class Criterion(BaseModel):
    """A criterion of the caller's own for the answer's judge. Its score is stored as `judge.NAME`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    description: str = Field(min_length=3, max_length=1000, description="As the judge is shown it.")
    minimum: float | None = Field(
        default=None, ge=1, le=5, description="Least score; that of the aspects unless given."
    )

    @model_validator(mode="after")
    def has_a_name_of_its_own(self) -> "Criterion":
        """Refuse a name that another score or field of a verdict has."""
        is_reserved = (
            self.name in (*ASPECTS, *_RESERVED) or self.name.startswith("model_") or hasattr(BaseModel, self.name)
        )
        if is_reserved:
            raise ValueError(f"name: {self.name!r} means something else already; choose another")
        return self


class Judging(BaseModel):
    """The stages of the judge. Each is one call per row; a row that fails at a stage is not paid for at the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: bool = Field(default=False, description="Judge an instruction before its answer is paid for.")
    question_minimum: float = Field(default=3, ge=1, le=5, description="Least clarity of an instruction.")
    answer: bool = Field(default=False, description="Judge each finished row on the rubric.")
    answer_minimum: float = Field(default=3.5, ge=1, le=5, description="Least mean over the aspects.")
    aspect_minimum: float = Field(default=2, ge=1, le=5, description="Least score of each single aspect.")
    aspects: tuple[Aspect, ...] = Field(default=ASPECTS, description="Aspects that are scored, 1 to 5.")
    rubric: tuple[Criterion, ...] = Field(
        default=(), max_length=20, description="Criteria of your own, beside the aspects; in their place with none."
    )
    max_tokens: int = Field(default=512, ge=64, le=4096, description="Most tokens of a verdict.")

    @model_validator(mode="after")
    def judges_something(self) -> "Judging":
        """Check that there is something to score, and that each criterion has another name."""
        if not self.aspects and not self.rubric:
            raise ValueError("aspects: without any of them a rubric is needed")
        names = [criterion.name for criterion in self.rubric]
        if len(set(names)) < len(names):
            raise ValueError("rubric: each name once")
        return self

    @property
    def minimums(self) -> dict[str, float]:
        """The minimum score of each aspect and each criterion by name, in the order of the prompt."""
        # Aspects first and criteria after them, as the prompt has them: the order is a part of the request.
        criteria = {
            criterion.name: self.aspect_minimum if criterion.minimum is None else criterion.minimum
            for criterion in self.rubric
        }
        return dict.fromkeys(self.aspects, self.aspect_minimum) | criteria

    def rubric_digest(self) -> str:
        """Return name and digest of the caller's criteria; empty without any."""
        return (
            f"rubric@{digest_of([criterion.model_dump(mode='json') for criterion in self.rubric])}"
            if self.rubric
            else ""
        )


class MethodOptions(BaseModel):
    """Options that every method shares.

    Attributes:
        judges_questions: whether the method has questions before it pays for their answers.
        prompt_names: the prompts of the method, without those of the judge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    judges_questions: ClassVar[bool] = True
    prompt_names: ClassVar[tuple[str, ...]] = ()

    rules: RuleSet | None = Field(
        default=None,
        description="Rules of form: a preset by name, or a list, also on inputs and outputs. Unset: the method's own.",
    )
    # Low on purpose: they reject refusals and loops of repeated text, which no data set wants.
    minimum_scores: MinimumScores = Field(
        default={"no_refusal": 0.5, "no_repetition": 0.2},
        description="Least rule scores (0 to 1); a row below one of them is rejected.",
    )
    judging: Judging = Field(default=Judging(), description="What a judge is asked, stage by stage.")
    prompts: dict[str, CustomPrompt] = Field(
        default={}, description="Your own texts by the name of a built-in prompt, in its place."
    )

    ask_again: bool = Field(
        default=False, description="Ask once more for a reply with parts that could not be read; both calls are paid."
    )

    @model_validator(mode="after")
    def stage_is_there(self) -> "MethodOptions":
        """Refuse the judging of questions where a method has none before their answers."""
        if self.judging.question and not self.judges_questions:
            raise ValueError("judging.question: here answers come with their questions; set judging.answer")
        return self

    @model_validator(mode="after")
    def sends_each_prompt(self) -> "MethodOptions":
        """Refuse a prompt of the caller's that these options never send: its text would be ignored without a sign."""
        for name, instead in self.unsent_prompts().items():
            if name in self.prompts:
                raise ValueError(f"prompts: these options send {instead} in the place of {name}")
        return self

    def unsent_prompts(self) -> dict[str, str]:
        """Return the prompts in whose place these options send another one, with that one's name."""
        return {}

    @field_validator("prompts")
    @classmethod
    def are_prompts_of_the_method(cls, prompts: dict[str, CustomPrompt]) -> dict[str, CustomPrompt]:
        """Refuse a prompt that the method does not send, or one with other fields."""
        check_prompts(prompts, cls.all_prompt_names())
        return prompts

    @classmethod
    def all_prompt_names(cls) -> tuple[str, ...]:
        """Return the prompts that a run of the method may send, with those of the judge."""
        return (*cls.prompt_names, *(("judge_question",) if cls.judges_questions else ()), "judge_answer")

    def digests(self) -> tuple[str, ...]:
        """Return names with digests of the caller's texts that have a part in every row: rules in a list."""
        # A preset is named by the options of the run, while a list has no name by which rows could be grouped.
        if self.rules is None or isinstance(self.rules, str):
            return ()
        return (f"rules@{digest_of([rule.model_dump(mode='json') for rule in self.rules])}",)

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return the rules of form for a BCP-47 tag: those of the caller, or the preset of the language."""
        return instruction_rules(language) if self.rules is None else rules_of(self.rules)
