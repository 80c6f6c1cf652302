"""Wake-ups: what happens when Redis hangs, and that they are sent again afterwards."""

import os
import signal

from kombu.exceptions import OperationalError
from redis import Redis

from app.jobs import queue
from app.jobs.queue import BACK_OFF_SECONDS, Notifier
from tests.fakes import FakeClock


def waiting(url: str) -> int:
    return Redis.from_url(url).llen(f"seedbed:{queue.EXPORTS}")


class Sender:
    """Stands for the broker: `away` makes it raise what a broker that is away raises."""

    def __init__(self):
        self.away, self.sent, self.tried = False, [], 0

    def __call__(self, task: str, id: str) -> None:
        self.tried += 1
        if self.away:
            raise OperationalError("away")
        self.sent.append((task, id))


def test_a_redis_that_hangs_fails_the_wake_up_and_not_the_caller(database):
    notifier, before = Notifier(clock=FakeClock()), waiting(database.redis_url)
    assert notifier.notify(queue.SNAPSHOT, "snap_1") and waiting(database.redis_url) == before + 1
    pid = database.processes["redis"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not notifier.notify(queue.SNAPSHOT, "snap_2")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert Notifier().notify(queue.SNAPSHOT, "snap_3")
    Redis.from_url(database.redis_url).delete(f"seedbed:{queue.EXPORTS}")


def test_after_a_failure_redis_is_left_alone_for_a_while():
    clock, sender = FakeClock(), Sender()
    notifier = Notifier(sender, clock)
    sender.away = True
    assert not notifier.notify(queue.SNAPSHOT, "snap_1")
    sender.away = False
    clock.advance(BACK_OFF_SECONDS - 0.1)
    assert not notifier.notify(queue.SNAPSHOT, "snap_2") and sender.tried == 1
    clock.advance(0.2)
    assert notifier.notify(queue.SNAPSHOT, "snap_3") and sender.sent == [(queue.SNAPSHOT, "snap_3")]
