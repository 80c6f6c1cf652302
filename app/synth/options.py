"""What every method takes beside its own options: the rules of form, the least scores, the judge's stages."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.synth.filters import RuleSet, instruction_rules, rules_of
from app.synth.rules import Rule, digest_of
from app.synth.scores import RULE_SCORES

Aspect = Literal["instruction_following", "correctness", "helpfulness", "clarity", "harmlessness"]
ASPECTS: tuple[Aspect, ...] = ("instruction_following", "correctness", "helpfulness", "clarity", "harmlessness")


def _known_scores(given: dict[str, float]) -> dict[str, float]:
    for name, least in given.items():
        if name not in RULE_SCORES:
            raise ValueError(f"no score {name!r}; there are {', '.join(RULE_SCORES)}")
        if not 0 <= least <= 1:
            raise ValueError(f"{name}: a least score lies between 0 and 1, not at {least}")
    return given


MinimumScores = Annotated[dict[str, float], AfterValidator(_known_scores)]


class Judging(BaseModel):
    """What a judge is asked. Each stage is one call a row; what fails at one is not paid for at the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: bool = Field(default=False, description="Judge an instruction before its answer is paid for.")
    question_minimum: float = Field(default=3, ge=1, le=5, description="Least clarity of an instruction.")
    answer: bool = Field(default=False, description="Judge each finished row on the rubric.")
    answer_minimum: float = Field(default=3.5, ge=1, le=5, description="Least mean over the aspects.")
    aspect_minimum: float = Field(default=2, ge=1, le=5, description="Least score of each single aspect.")
    aspects: tuple[Aspect, ...] = Field(default=ASPECTS, min_length=1, description="Aspects of the rubric, 1 to 5.")
    max_tokens: int = Field(default=512, ge=64, le=4096, description="Most tokens of a verdict.")


class MethodOptions(BaseModel):
    """Options that every method shares. `judges_questions`: it has questions before it pays for their answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    judges_questions: ClassVar[bool] = True

    rules: RuleSet | None = Field(
        default=None,
        description="Rules of form: a preset by name, or a list, also on inputs and outputs. Unset: the method's own.",
    )
    minimum_scores: MinimumScores = Field(
        default={"no_refusal": 0.5, "no_repetition": 0.2},
        description="Least rule scores (0 to 1); a row below one of them is rejected.",
    )
    judging: Judging = Field(default=Judging(), description="What a judge is asked, stage by stage.")

    @model_validator(mode="after")
    def stage_is_there(self) -> "MethodOptions":
        if self.judging.question and not self.judges_questions:
            raise ValueError("judging.question: here answers come with their questions; set judging.answer")
        return self

    def digests(self) -> tuple[str, ...]:
        """Names with digests of what a caller brought in and what has a part in every row."""
        if self.rules is None or isinstance(self.rules, str):
            return ()
        return (f"rules@{digest_of([rule.model_dump(mode='json') for rule in self.rules])}",)

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        return instruction_rules(language) if self.rules is None else rules_of(self.rules)
