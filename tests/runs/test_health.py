"""The health of a teacher, by what its proposals became."""

from types import SimpleNamespace

import pytest

from app.runs.health import MAX_UNUSABLE, advise, count_classes, is_unusable, token_option, update_health
from app.runs.schemas import outcome_of
from app.synth.types import Candidate

USABLE, DUPLICATE = Candidate("Name it."), Candidate("Name it.").reject("duplicate_lexical")


def failed(reason: str, value: str | None = None) -> Candidate:
    return Candidate("").reject(reason, value)


def test_a_run_of_unusable_proposals_alone_is_unusable():
    health = update_health({}, [failed("cut_off", f"text {n}") for n in range(MAX_UNUSABLE - 1)])
    assert not is_unusable(health)
    health = update_health(health, [failed("malformed_reply", "the last")])
    assert is_unusable(health) and not health["has_usable"]
    assert health["samples"] == [f"text {MAX_UNUSABLE - 3}", f"text {MAX_UNUSABLE - 2}", "the last"]
    assert count_classes(health) == {"cut": MAX_UNUSABLE - 1, "unreadable": 1}


@pytest.mark.parametrize("readable", [USABLE, DUPLICATE, failed("low_no_refusal"), failed("repeated_in_reply")])
def test_one_reply_that_could_be_read_among_the_newest_is_enough(readable):
    health = update_health({}, [failed("empty_reply")] * 30 + [readable] + [failed("empty_reply")] * (MAX_UNUSABLE - 1))
    assert not is_unusable(health) and health["has_usable"]


def test_the_cure_is_that_of_the_most_frequent_reason():
    health = update_health({}, [failed("moderated")] * 2 + [failed("cut_off")] * 3)
    assert advise(health, "t", "raise it") == "replies are cut before their end: raise it"
    assert "seedbed teachers check t" in advise(update_health({}, [failed("malformed_reply")]), "t", "")


def test_the_option_that_sets_a_limit_is_named_by_its_value():
    options = {"instruction_tokens": 512, "judging": {"max_tokens": 300}, "instance_tokens": 160}
    assert token_option(options, "instances", 1) == "instance_tokens"
    assert token_option(options, "judge_answer", 300) == "max_tokens"
    assert token_option(options, "answer", 9).endswith("_tokens")


@pytest.mark.parametrize(
    ("ended", "accepted", "outcome"),
    [(False, 3, None), (True, 10, "complete"), (True, 3, "partial"), (True, 0, "empty")],
)
def test_the_outcome_says_what_came_whatever_the_status(ended, accepted, outcome):
    assert outcome_of(SimpleNamespace(ended=ended, accepted=accepted, target=10)) == outcome


def test_what_a_waiting_run_says_stays_while_batches_under_way_end():
    health = update_health({}, [failed("cut_off", "a text")] * MAX_UNUSABLE) | {"message": "raise it"}
    assert update_health(health, [USABLE]) == health
