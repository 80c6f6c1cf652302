"""Counts of a server that can't be true are replaced by our own count, and flagged."""

import pytest

from app.synth.prices import estimate
from app.synth.types import Reply, Usage
from app.synth.usage_check import with_believable_usage

MESSAGES = [{"role": "system", "content": "You write."}, {"role": "user", "content": "Name three rivers of Europe."}]
TEXT = "Rhine, Rhone and Po."
OWN = estimate(MESSAGES, TEXT)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(14, 0, 8),
        Usage(14, 14, 8),
        Usage(14, 0, 9000, 8990),
        Usage(3000, 0, 8),
    ],
    ids=["plain", "cached", "hidden thought", "the provider's own system prompt"],
)
def test_what_can_be_true_is_believed(usage):
    reply = Reply(TEXT, usage=usage)
    assert with_believable_usage(reply, MESSAGES) == (reply, False)


@pytest.mark.parametrize(
    ("usage", "replaced"),
    [
        (Usage(0, 0, 0), OWN),
        (Usage(0, 0, 8), Usage(OWN.prompt, 0, 8)),
        (Usage(14, 0, 0), Usage(14, 0, OWN.completion)),
        (Usage(10**8, 0, 8), Usage(OWN.prompt, 0, 8)),
        (Usage(14, 0, 10**8), Usage(14, 0, OWN.completion)),
        (Usage(14, 20, 8), Usage(14, 14, 8)),
        (Usage(14, 0, 8, 9), Usage(14, 0, 8, 8)),
    ],
)
def test_what_can_not_be_true_is_replaced_and_flagged(usage, replaced):
    assert with_believable_usage(Reply(TEXT, usage=usage), MESSAGES) == (Reply(TEXT, usage=replaced), True)


def test_a_refusal_of_the_request_costs_nothing():
    reply = Reply("filtered", finish_reason="content_filter")
    assert with_believable_usage(reply, MESSAGES) == (reply, False)


def test_an_empty_reply_may_have_no_tokens():
    reply = Reply("", usage=Usage(14, 0, 0))
    assert with_believable_usage(reply, MESSAGES) == (reply, False)


def test_usage_of_zeros_counts_the_thought_too():
    reply = Reply("yes", thought="4 is even, since 4 = 2 * 2.")
    counted, is_replaced = with_believable_usage(reply, MESSAGES)
    assert is_replaced and counted.usage == estimate(MESSAGES, reply.text + reply.thought)
