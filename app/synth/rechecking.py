"""What a finished row's form and scores say of it, asked again without any teacher: its texts and scores are stored."""

from collections.abc import Mapping

from app.synth.filters import RULES, Rule, check_instruction
from app.synth.options import ASPECTS, MethodOptions
from app.synth.scores import RULE_SCORES
from app.synth.types import Candidate, Rejection

NOVELTY = ("duplicate_exact", "duplicate_lexical", "duplicate_semantic")
_SCORES = (*RULE_SCORES, *ASPECTS, "judge_score")
REASONS = frozenset({*NOVELTY, *RULES, *(f"low_{name}" for name in _SCORES), "surplus", "unanswered"})
"""Reasons that other thresholds or rules may lift. The rest are faults of the reply itself, and stand."""


def recheck(
    row: Candidate, language: str, options: MethodOptions, rules: tuple[Rule, ...] | None, least: Mapping[str, float]
) -> Rejection | None:
    """Form and scores, in the order of the methods. `rules` and `least` take the places of the method's own.

    `least` names rule scores (`no_refusal`) or any stored score (`judge.overall`). A score that the row doesn't
    have is not missed: it was not asked for when the row was made.
    """
    found = check_instruction(row.instruction, options.rules_for(language) if rules is None else rules)
    if found is not None:
        return found
    wanted = {**_of_options(options), **{_stored(name): value for name, value in least.items()}}
    for name, value in wanted.items():
        had = row.scores.get(name)
        if had is not None and had < value:
            return Rejection(f"low_{_reason(name)}", had, value)
    return None


def _of_options(options: MethodOptions) -> dict[str, float]:
    wanted = {f"rule.{name}": value for name, value in options.minimum_scores.items()}
    if options.judging.answer:
        wanted |= {f"judge.{aspect}": options.judging.aspect_minimum for aspect in options.judging.aspects}
        wanted["judge.overall"] = options.judging.answer_minimum
    return wanted


def _stored(name: str) -> str:
    return name if "." in name else f"rule.{name}"


def _reason(stored: str) -> str:
    name = stored.partition(".")[2]
    return "judge_score" if stored == "judge.overall" else name
