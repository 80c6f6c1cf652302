"""What a kind of job is: one value that the runner, the sweeper and the queues work by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session


class JobFailed(Exception):
    """The job can't succeed, and another attempt would change nothing. `reason` is its stop_reason."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Explanation:
    """An exception as a job tells it. `final`: another attempt would meet it again."""

    stop_reason: str
    message: str
    final: bool = False


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class JobKind:
    """One kind of long job.

    perform(job, *tools): does the work, and ends the row by `job.succeed`. What it raises ends the attempt.
    explain(error): what the job says of an exception that is no JobFailed.
    reset(session, row): takes back what an earlier attempt wrote, before a new one. The row is locked.
    discard(session, row): takes back what was half stored, after a cancel or a failure. The row is locked.
    discard_files(id): the same for files. Both may be called twice.
    only: which rows of the table are of this kind, if others share it.
    """

    name: str
    table: type
    task: str
    perform: Callable[..., None]
    explain: Callable[[Exception], Explanation]
    max_attempts: int
    reset: Callable[[Session, Any], None] = _nothing
    discard: Callable[[Session, Any], None] = _nothing
    discard_files: Callable[[str], None] = _nothing
    only: ColumnElement[bool] | None = None

    @property
    def rows(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions that rows of this kind meet."""
        return () if self.only is None else (self.only,)

    def explained(self, error: Exception) -> Explanation:
        if isinstance(error, JobFailed):
            return Explanation(error.reason, error.message, final=True)
        return self.explain(error)
