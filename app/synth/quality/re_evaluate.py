"""Re-evaluation of stored rows under other rules or thresholds, by their texts and scores, without a teacher."""

from collections.abc import Mapping
from typing import get_args

from app.synth.quality.filters import check_instruction, check_row
from app.synth.quality.options import MethodOptions
from app.synth.quality.rules import RowField, Rule, is_rule_reason
from app.synth.types import Candidate, Rejection

# Another threshold of novelty, or another pool, can lift these rejections.
NOVELTY = ("duplicate_exact", "duplicate_lexical", "duplicate_semantic")
# A row over the target or without an answer has no fault of its own, so other thresholds may accept it.
_OTHER_REASONS = (*NOVELTY, "over_target", "unanswered")


def may_be_lifted(reason: str) -> bool:
    """Return whether other thresholds or rules can lift a rejection.

    All other reasons are faults of the reply and remain.
    """
    return reason in _OTHER_REASONS or reason.startswith("low_") or is_rule_reason(reason)


def re_evaluate(
    row: Candidate,
    language: str,
    options: MethodOptions,
    rules: tuple[Rule, ...] | None,
    min_scores: Mapping[str, float],
) -> Rejection | None:
    """Check the rules, then the scores, in the order in which the methods do.

    Args:
        row: a stored row.
        language: the BCP-47 tag of the dataset.
        options: the options of the run that made the row.
        rules: rules in place of those of the options; None keeps the latter.
        min_scores: thresholds that override those of the options, by the name of a rule score (`no_refusal`) or of any
            stored score (`judge.overall`).

    Returns:
        The first rejection, or None when the row passes.
    """
    # No rules at all is a choice of the caller, so an empty tuple is not replaced.
    rules = options.rules_for(language) if rules is None else rules
    # A row that was rejected before its answer was paid for has an instruction only.
    fields = get_args(RowField) if row.output else ("instruction",)
    rejection = check_instruction(row.instruction, rules) or check_row(row, rules, fields)
    if rejection is not None:
        return rejection
    thresholds = {
        **_minimum_scores_of(options),
        **{_stored_name(name): threshold for name, threshold in min_scores.items()},
    }
    for name, threshold in thresholds.items():
        # A score that the row lacks was not part of its run, so it rejects nothing.
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
