"""The health of a run's teacher: what the newest proposals became, and whether the run has to wait for a person.

A teacher can answer every call and still give nothing that a method can use: replies that are cut, empty, refused, or
in another form than the one asked for. Each of them is paid for. So a run whose newest proposals were all unusable
pauses, and reports how the replies were unusable and what is likely to help.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from app.synth.types import Candidate

# The number of outcomes that are stored. The run pauses when each of the newest MAX_UNUSABLE ones is unusable.
WINDOW, MAX_UNUSABLE = 50, 16
MAX_SAMPLES, SAMPLE_CHARACTERS = 3, 200
# Until a run has its first usable row, so few batches are under way: an unusable teacher costs tens of calls.
PROBATION_BATCHES = 4

# From the reason of a rejection to its class. All other reasons are usable: the reply could be read.
_CLASSES = {
    **dict.fromkeys(("cut_off", "cut_in_thought"), "cut"),
    **dict.fromkeys(("empty_reply", "empty_output", "thought_without_answer"), "empty"),
    **dict.fromkeys(("refused", "moderated", "request_refused"), "refused"),
    **dict.fromkeys(("malformed_reply", "unreadable_reply", "prompt_too_long", "unjudged"), "unreadable"),
    **dict.fromkeys(("repeated_in_reply", "duplicate_exact"), "repeated"),
}
# `repeated` is none of them: the replies can be read, and the run ends by saturation if all rows are repeated.
UNUSABLE = frozenset({"cut", "empty", "refused", "unreadable"})

# What is likely to help, by the reason; below by the class, for reasons that have no advice of their own.
_ADVICE_BY_REASON = {
    "cut_off": "replies are cut before their end: {limit}",
    "cut_in_thought": "the teacher spends its tokens on thought: raise thought_tokens in its configuration, or choose "
    "a model or a setting that thinks less",
    "thought_without_answer": "the teacher thinks and does not answer: check its template, or choose another model",
    "refused": "the teacher declines these prompts: choose other topics or another teacher",
    "moderated": "the content filter of the teacher refuses these prompts: choose other topics or another teacher",
    "request_refused": "the teacher does not accept the requests: run `seedbed teachers check {teacher}`",
    "prompt_too_long": "the prompts are too long for the teacher: show fewer demonstrations, or give it more context",
}
_ADVICE_BY_CLASS = {
    "empty": "the replies are empty: check the chat template of the model, and whether the server streams its answers",
    "unreadable": "the replies are not in the form that was asked for: run `seedbed teachers check {teacher}`, or set "
    'replies = "tagged" for it',
}


def classify(candidate: Candidate) -> str:
    """Return the class of a candidate: usable, repeated, cut, empty, refused or unreadable.

    A near duplicate of the pool is usable: its reply could be read.

    Args:
        candidate: a candidate with the rejection that the method gave it, before admission decides.
    """
    return "usable" if candidate.rejection is None else _CLASSES.get(candidate.rejection.reason, "usable")


def update_health(health: dict, candidates: Sequence[Candidate]) -> dict:
    """Return the health with the outcomes of these candidates as its newest.

    Args:
        health: What the run's row has: `window` (classes, oldest first), `reasons` and `samples` of unusable replies.
        candidates: The candidates of one batch, in their order.
    """
    if "message" in health:
        # The run waits for a person, who reads why: batches that were under way do not change it.
        return health
    window, reasons, samples = (list(health.get(name, ())) for name in ("window", "reasons", "samples"))
    for candidate in candidates:
        window.append(classify(candidate))
        if window[-1] in UNUSABLE:
            reasons.append(candidate.rejection.reason)
            value = candidate.rejection.value
            samples.append(value[:SAMPLE_CHARACTERS] if isinstance(value, str) else "")
        else:
            reasons, samples = [], []
    samples = [sample for sample in samples if sample]
    has_usable = health.get("has_usable", False) or any(name not in UNUSABLE for name in window)
    return health | {
        "window": window[-WINDOW:],
        "reasons": reasons[-WINDOW:],
        "samples": samples[-MAX_SAMPLES:],
        "has_usable": has_usable,
    }


def is_unusable(health: dict) -> bool:
    """Return whether each of the newest proposals was unusable, so that the run has to pause."""
    newest = health.get("window", [])[-MAX_UNUSABLE:]
    return len(newest) == MAX_UNUSABLE and UNUSABLE.issuperset(newest)


def count_classes(health: dict) -> dict[str, int]:
    """Return the number of the newest proposals of each class."""
    return dict(sorted(Counter(health.get("window", ())).items()))


def advise(health: dict, teacher: str, limit: str) -> str:
    """Return what is likely to help, by the most frequent reason among the newest unusable proposals.

    Args:
        health: The health of the run.
        teacher: The name of the teacher.
        limit: What to do against replies that are cut, with the option to raise.
    """
    reasons = Counter(health.get("reasons", ()))
    if not reasons:
        return "look at the samples"
    ((reason, _),) = reasons.most_common(1)
    advice = _ADVICE_BY_REASON.get(reason) or _ADVICE_BY_CLASS[_CLASSES[reason]]
    return advice.format(teacher=teacher, limit=limit)


def token_option(options: dict, step: str, max_tokens: int | None) -> str:
    """Return the name of the option that limits the step, to be raised: one of its name, or one of this value."""
    limits = list(_token_options(options))
    of_step = [name for name, _ in limits if name.startswith(step.removesuffix("s"))]
    of_value = [name for name, value in limits if value == max_tokens]
    return next(iter((*of_step, *of_value)), "the option of this step that ends with _tokens")


def _token_options(options: dict) -> Iterable[tuple[str, object]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _token_options(value)
        elif name.endswith("_tokens"):
            yield name, value
