"""A case: a teacher with personalities, the run that asks it, and how that run must end."""

from dataclasses import dataclass, field

MODEL = "seedbed-simulated"
# Reasons for which a row of any teacher may be rejected.
COMMON_REASONS = {
    *("over_target", "duplicate_exact", "duplicate_lexical", "duplicate_semantic", "repeated_in_reply"),
    *("output_equals_input", "leaks_prompt", "contradictory_outputs", "blocked_word", "too_long", "too_short"),
}
ONE_CALL = {"variant": "one_call", "instructions_per_call": 4}
TWO_STAGES = {"instructions_per_call": 4}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        personalities: As in the name of the model, behind `seedbed-simulated+`.
        seedbed: What Seedbed does, for the documentation.
        method: The method of the run.
        options: The options of the method.
        replies: The form of replies in the configuration of the teacher.
        settings: Further lines of the configuration of the teacher, in TOML.
        is_checked: `seedbed teachers check` learns what the teacher accepts, before the run.
        change: What the event says that was changed in later requests, of a teacher that refuses a field.
        target: Of the run.
        max_requests: Of the run: a guard against a teacher of whose replies none can be used.
        timeout_seconds: Of one call.
        status: How the run ends.
        stop_reason: Why it ends.
        outcome: What it brought: complete, partial or empty; None while it waits for a person.
        cure: A regular expression that the message of `health` must match, of a run that waits for a person.
        reasons: Reasons for which rows must have been rejected.
        may_reject: Further reasons that may occur.
        error: A regular expression that the error of the run must match; "" where it has none.
        thinks: Accepted rows have a thought.
        repairs: The names of the repairs of its replies.
        may_repair: Further repairs that may occur.
        usage: `true`: the ledger is the bill. `estimated`: it is near to the bill, for lack of a true usage.
            `unread`: no reply could be read, so that only the prompts are near to the bill.
            `lost`: answers were lost, so that the bill lies between certain and held cost.
        is_long: Left out by `make test`.
    """

    personalities: str
    seedbed: str
    method: str = "self_instruct"
    options: dict = field(default_factory=lambda: ONE_CALL)
    replies: str = "auto"
    settings: str = ""
    is_checked: bool = False
    change: str = ""
    target: int = 4
    max_requests: int = 12
    timeout_seconds: float = 120
    status: str = "succeeded"
    stop_reason: str | None = "target_reached"
    outcome: str | None = "complete"
    cure: str = ""
    reasons: frozenset[str] = frozenset()
    may_reject: frozenset[str] = frozenset()
    error: str = ""
    thinks: bool = False
    repairs: frozenset[str] = frozenset()
    may_repair: frozenset[str] = frozenset()
    usage: str = "true"
    is_long: bool = False

    @property
    def model(self) -> str:
        """The name of the model: it selects the personalities, and tells this case from the others in the bill."""
        return f"{MODEL}+{self.personalities}"

    @property
    def teacher(self) -> str:
        """The name of the teacher in the configuration."""
        return self.personalities.replace("+", ".").replace(":", "-")
