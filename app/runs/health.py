"""The health of a run's teacher: what the newest proposals became, and whether the run has to wait for a person.

A teacher can answer every call and still give nothing that a method can use: replies that are cut, empty, refused, or
in another form than the one asked for. Each of them is paid for. So a run whose newest proposals all came to nothing
pauses, and says what came and what is likely to help.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from app.synth.types import Candidate

# Outcomes that are kept, and how many of the newest must be unusable, without any other, for a pause.
WINDOW, MAX_UNUSABLE = 50, 16
MAX_SAMPLES, SAMPLE_CHARACTERS = 3, 200
# Until a run has its first usable row, so few batches are under way: an unusable teacher costs tens of calls.
PROBATION_BATCHES = 4

_CLASSES = {
    **dict.fromkeys(("cut_off", "cut_in_thought"), "cut"),
    **dict.fromkeys(("empty_reply", "empty_output", "thought_without_answer"), "empty"),
    **dict.fromkeys(("refused", "moderated", "request_refused"), "refused"),
    **dict.fromkeys(("malformed_reply", "unreadable_reply", "prompt_too_long", "unjudged"), "unreadable"),
    **dict.fromkeys(("repeated_in_reply", "duplicate_exact"), "repeated"),
}
UNUSABLE = frozenset({"cut", "empty", "refused", "unreadable"})

_CURES = {
    "cut_off": "replies are cut before their end: {limit}",
    "cut_in_thought": "the teacher spends its tokens on thought: raise thought_tokens in its configuration, or choose "
    "a model or a setting that thinks less",
    "thought_without_answer": "the teacher thinks and does not answer: check its template, or choose another model",
    "refused": "the teacher declines these prompts: choose other topics or another teacher",
    "moderated": "the content filter of the teacher refuses these prompts: choose other topics or another teacher",
    "request_refused": "the teacher does not accept the requests: run `seedbed teachers check {teacher}`",
    "prompt_too_long": "the prompts are too long for the teacher: show fewer demonstrations, or give it more context",
}
_OTHER_CURES = {
    "empty": "the replies are empty: check the chat template of the model, and whether the server streams its answers",
    "unreadable": "the replies are not in the form that was asked for: run `seedbed teachers check {teacher}`, or set "
    'replies = "tagged" for it',
}


def class_of(candidate: Candidate) -> str:
    """Return what a proposal became, as the method left it: usable, repeated, cut, empty, refused or unreadable.

    A duplicate of the pool is usable: its reply could be read.
    """
    return "usable" if candidate.rejection is None else _CLASSES.get(candidate.rejection.reason, "usable")


def update_health(health: dict, candidates: Sequence[Candidate]) -> dict:
    """Return the health with the outcomes of these candidates as its newest.

    Args:
        health: What the run's row has: `window` (classes, oldest first), `reasons` and `samples` of unusable replies.
        candidates: The candidates of one batch, in their order.
    """
    window, reasons, samples = (list(health.get(name, ())) for name in ("window", "reasons", "samples"))
    for candidate in candidates:
        window.append(class_of(candidate))
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
    """Return whether the newest proposals have all come to nothing."""
    newest = health.get("window", [])[-MAX_UNUSABLE:]
    return len(newest) == MAX_UNUSABLE and UNUSABLE.issuperset(newest)


def count_classes(health: dict) -> dict[str, int]:
    """Return how many of the newest proposals became what, by class."""
    return dict(sorted(Counter(health.get("window", ())).items()))


def cure_of(health: dict, teacher: str, limit: str) -> str:
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
    cure = _CURES.get(reason) or _OTHER_CURES[_CLASSES[reason]]
    return cure.format(teacher=teacher, limit=limit)


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
