"""Rounds of work for many who ask at about the same time."""

import asyncio
import threading

import numpy as np
import pytest

from app.runs.worker.encoding import AsyncEncoder
from app.runs.worker.micro_batcher import MicroBatcher
from tests.waiting import PROCESS_SECONDS, until_in_loop


class Rounds:
    """Work that notes each round, and how many went on at once."""

    def __init__(self, fails=()):
        self.seen, self.at_once, self.most_at_once = [], 0, 0
        self.fails, self.guard, self.go = list(fails), threading.Lock(), threading.Event()
        self.go.set()

    def __call__(self, asked):
        with self.guard:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(PROCESS_SECONDS)
        with self.guard:
            self.at_once -= 1
            self.seen.append(list(asked))
            if self.fails and self.fails.pop(0):
                raise ValueError("this round fails")
        return [np.full(2, len(item)) for item in asked]


def test_what_is_asked_during_a_round_is_one_round_later():
    work = Rounds()

    async def ask():
        rounds = MicroBatcher(work)
        work.go.clear()
        first = asyncio.create_task(rounds.submit("a"))
        await until_in_loop(lambda: work.at_once)
        later = [asyncio.create_task(rounds.submit("b" * n)) for n in (2, 3, 4)]
        await until_in_loop(lambda: rounds.waiting == 3)
        work.go.set()
        return [int(found[0]) for found in await asyncio.gather(first, *later)]

    assert asyncio.run(ask()) == [1, 2, 3, 4]
    assert work.seen == [["a"], ["bb", "bbb", "bbbb"]] and work.most_at_once == 1


def test_a_round_takes_no_more_than_it_may_and_the_order_of_asking_is_kept():
    work = Rounds()

    async def ask():
        rounds = MicroBatcher(work, max_size=2)
        return await asyncio.gather(*(rounds.submit("x" * n) for n in range(5)))

    assert [int(found[0]) for found in asyncio.run(ask())] == list(range(5))
    assert [len(item) for item in work.seen] == [2, 2, 1]


def test_a_round_that_fails_fails_for_those_in_it_alone():
    async def ask():
        rounds = MicroBatcher(Rounds(fails=[True, False]), max_size=1)
        return await asyncio.gather(rounds.submit("a"), rounds.submit("bb"), return_exceptions=True)

    failed, found = asyncio.run(ask())
    assert isinstance(failed, ValueError) and int(found[0]) == 2


def test_a_text_is_encoded_once_however_often_it_is_asked_for():
    work = Rounds()

    async def ask():
        encoding = AsyncEncoder(work)
        both = await encoding.encode_many(["a", "bb", "a"])
        return both, await encoding.encode("bb")

    both, again = asyncio.run(ask())
    assert work.seen == [["a", "bb"]]
    assert [int(vector[0]) for vector in both] == [1, 2, 1] and again is both[1]


def test_a_text_whose_round_failed_has_another_try():
    work = Rounds(fails=[True])

    async def ask():
        encoding = AsyncEncoder(work)
        with pytest.raises(ValueError):
            await encoding.encode("a")
        return await encoding.encode("a")

    assert int(asyncio.run(ask())[0]) == 1


def test_who_is_cancelled_does_not_take_the_vector_from_the_others():
    work = Rounds()

    async def ask():
        encoding = AsyncEncoder(work)
        work.go.clear()
        cancelled, other = (asyncio.create_task(encoding.encode("a")) for _ in range(2))
        await until_in_loop(lambda: work.at_once)
        cancelled.cancel()
        work.go.set()
        return await other

    assert int(asyncio.run(ask())[0]) == 1 and work.seen == [["a"]]


def test_what_was_asked_for_long_ago_is_forgotten_and_encoded_again():
    work = Rounds()

    async def ask():
        encoding = AsyncEncoder(work, max_cached=2)
        for text in ("a", "bb", "ccc", "bb", "a"):
            await encoding.encode(text)
        return encoding

    assert len(asyncio.run(ask())._cached) == 2
    assert work.seen == [["a"], ["bb"], ["ccc"], ["a"]]
