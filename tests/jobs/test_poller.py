"""The poller: it works while no wake-ups arrive, and only then. The worker's wait is a script of the test's."""

import threading

from app.jobs.poller import Poller


class Turns:
    """Stands for the worker's wait: so many turns, then the end."""

    def __init__(self, turns: int):
        self.left = turns

    def __call__(self, seconds: float) -> bool:
        self.left -= 1
        return self.left < 0


def test_it_works_on_what_waits_while_redis_is_away(database):
    worked = []
    answers = iter([True, False, True])
    kinds = {lambda session: ["a", "b"]: worked.append}
    Poller(kinds, threading.Event(), lambda: next(answers), Turns(3)).run()
    assert worked == ["a", "b"]


def test_a_job_that_raises_holds_up_no_later_turn(database):
    worked = []

    def work(id: str) -> None:
        worked.append(id)
        raise RuntimeError("broken")

    Poller({lambda session: ["a"]: work}, threading.Event(), lambda: False, Turns(2)).run()
    assert worked == ["a", "a"]


def test_a_worker_that_is_to_end_begins_nothing(database):
    worked, stop = [], threading.Event()
    stop.set()
    Poller({lambda session: ["a"]: worked.append}, stop, lambda: False, Turns(1)).run()
    assert worked == []
