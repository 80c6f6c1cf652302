"""What a finished row's form and scores say of it, asked again without any teacher: its texts and scores are stored."""

from collections.abc import Mapping
from typing import get_args

from app.synth.filters import check_instruction, check_row
from app.synth.options import MethodOptions
from app.synth.rules import RowField, Rule, is_rule_reason
from app.synth.types import Candidate, Rejection

NOVELTY = ("duplicate_exact", "duplicate_lexical", "duplicate_semantic")
_OTHER_REASONS = (*NOVELTY, "surplus", "unanswered")


def may_be_lifted(reason: str) -> bool:
    """Whether other thresholds, rules or scores may lift it. The rest are faults of the reply itself, and stand."""
    return reason in _OTHER_REASONS or reason.startswith("low_") or is_rule_reason(reason)


def re_evaluate(
    row: Candidate,
    language: str,
    options: MethodOptions,
    rules: tuple[Rule, ...] | None,
    min_scores: Mapping[str, float],
) -> Rejection | None:
    """Form and scores, in the order of the methods. `rules` and `least` take the places of the method's own.

    `least` names rule scores (`no_refusal`) or any stored score (`judge.overall`). A score that the row doesn't
    have is not missed: it was not asked for when the row was made.
    """
    rules = options.rules_for(language) if rules is None else rules
    # A row that was turned away before its answer was paid for has no other field yet.
    fields = get_args(RowField) if row.output else ("instruction",)
    rejection = check_instruction(row.instruction, rules) or check_row(row, rules, fields)
    if rejection is not None:
        return rejection
    thresholds = {
        **_minimum_scores_of(options),
        **{_stored_name(name): threshold for name, threshold in min_scores.items()},
    }
    for name, threshold in thresholds.items():
        score = row.scores.get(name)
        if score is not None and score < threshold:
            return Rejection(f"low_{_reason_suffix(name)}", score, threshold)
    return None


def _minimum_scores_of(options: MethodOptions) -> dict[str, float]:
    thresholds = {f"rule.{name}": value for name, value in options.minimum_scores.items()}
    if options.judging.answer:
        thresholds |= {f"judge.{name}": minimum for name, minimum in options.judging.minimums.items()}
        thresholds["judge.overall"] = options.judging.answer_minimum
    return thresholds


def _stored_name(name: str) -> str:
    return name if "." in name else f"rule.{name}"


def _reason_suffix(stored_name: str) -> str:
    name = stored_name.partition(".")[2]
    return "judge_score" if stored_name == "judge.overall" else name
