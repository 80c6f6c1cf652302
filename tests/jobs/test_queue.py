"""The doorbell: what it does when Redis hangs, and that it rings again afterwards."""

import os
import signal
import time

from redis import Redis

from app.jobs import queue


def waiting(url: str) -> int:
    return Redis.from_url(url).llen(f"seedbed:{queue.EXPORTS}")


def test_who_rings_does_not_wait_for_a_redis_that_hangs(database, monkeypatch):
    monkeypatch.setattr(queue, "_quiet_until", 0.0)
    monkeypatch.setattr(queue, "QUIET_SECONDS", 1.0)
    assert queue.ring(queue.SNAPSHOT, "snap_1") and waiting(database.redis_url) == 1
    pid = database.processes["redis"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert not queue.ring(queue.SNAPSHOT, "snap_2")
        assert time.monotonic() - started < 3 * queue.RING_TIMEOUT_SECONDS
        started = time.monotonic()
        assert not queue.ring(queue.SNAPSHOT, "snap_3")
        assert time.monotonic() - started < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(queue.QUIET_SECONDS)
    before = waiting(database.redis_url)
    assert queue.ring(queue.SNAPSHOT, "snap_4") and waiting(database.redis_url) == before + 1
    Redis.from_url(database.redis_url).delete(f"seedbed:{queue.EXPORTS}")
