"""The exports worker: writes snapshots."""

from app.jobs import queue, runner
from app.snapshots.writing import KIND
from workers.process import SHUTDOWN, map_queries_to_work, serve


@queue.app.task(name=queue.SNAPSHOT)
def snapshot(id: str) -> None:
    """Write the files of one snapshot."""
    runner.work(KIND, id, shutdown=SHUTDOWN)


serve(queue.EXPORTS, map_queries_to_work([KIND], snapshot))
