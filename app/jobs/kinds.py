"""A kind of job: one value that tells the runner, the sweeper and the queues how such a job is performed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session


class JobFailed(Exception):
    """The job can't succeed, and another attempt would change nothing.

    Args:
        reason: The stop_reason of the job.
        message: What was wrong and what to do, for the people who read the job's `error`.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Explanation:
    """The stop reason and the message of a job for an exception. `final`: every attempt would meet the exception."""

    stop_reason: str
    message: str
    final: bool = False


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class JobKind:
    """One kind of long job.

    Attributes:
        name: The name of the kind.
        table: The table of its rows.
        task: The name of the task in the queue.
        perform: `perform(job, *tools)` does the work, and ends the row by `job.succeed`. An exception ends the attempt.
        explain: `explain(error)` explains an exception that is no JobFailed.
        max_attempts: The attempts after which a job that failed is not tried again.
        reset: `reset(session, row)` removes what an earlier attempt wrote, before a new one. The row is locked.
        discard: `discard(session, row)` removes partial results after a cancel or a failure. The row is locked. It may
            be called twice for one row.
        discard_files: `discard_files(id)` removes partial files. It may be called twice for one job.
        only: The condition of the rows of this kind, if other kinds share the table.
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
        """The conditions that rows of this kind meet, besides their table."""
        return () if self.only is None else (self.only,)

    def explain_error(self, error: Exception) -> Explanation:
        """Return the explanation of any exception that ended an attempt; a JobFailed explains itself."""
        if isinstance(error, JobFailed):
            return Explanation(error.reason, error.message, final=True)
        return self.explain(error)
