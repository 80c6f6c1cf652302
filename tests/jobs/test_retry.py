"""The retry policy, as a table of cases."""

import pytest

from app.jobs.retry import MAX_DELAY_SECONDS, Decision, Outcome, decide

FAILED, CANCELLED = Decision("failed"), Decision("cancelled")


@pytest.mark.parametrize(
    ("outcome", "attempt", "max_attempts", "decision"),
    [
        (Outcome.CANCELLED, 1, 3, CANCELLED),
        (Outcome.CANCELLED, 3, 3, CANCELLED),
        (Outcome.FINAL_FAULT, 1, 3, FAILED),
        (Outcome.FINAL_FAULT, 3, 3, FAILED),
        (Outcome.FAULT, 1, 3, Decision("queued", 2.0)),
        (Outcome.FAULT, 2, 3, Decision("queued", 4.0)),
        (Outcome.FAULT, 3, 3, FAILED),
        (Outcome.FAULT, 4, 3, FAILED),
        (Outcome.FAULT, 9, 20, Decision("queued", MAX_DELAY_SECONDS)),
        (Outcome.FAULT, 1, 1, FAILED),
        (Outcome.WORKER_LOST, 1, 3, Decision("queued")),
        (Outcome.WORKER_LOST, 2, 3, Decision("queued")),
        (Outcome.WORKER_LOST, 3, 3, FAILED),
        (Outcome.WORKER_STOPPING, 1, 3, Decision("queued", attempt_counts=False)),
        (Outcome.WORKER_STOPPING, 3, 3, Decision("queued", attempt_counts=False)),
        (Outcome.WORKER_STOPPING, 1, 1, Decision("queued", attempt_counts=False)),
    ],
)
def test_what_follows_from_the_end_of_an_attempt(outcome, attempt, max_attempts, decision):
    assert decide(outcome, attempt, max_attempts) == decision


@pytest.mark.parametrize("outcome", Outcome)
def test_no_attempt_follows_the_last_one_that_counts(outcome):
    assert decide(outcome, 5, 5).status != "queued" or not decide(outcome, 5, 5).attempt_counts
