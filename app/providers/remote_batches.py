"""What remote batches are to the service: many requests in one file, answered within a day at a lower price."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from app.providers.teacher import Endpoint, Served


@dataclass(frozen=True)
class Remote:
    """How a remote batch stands. `words`: why it failed as a whole."""

    id: str
    over: bool
    failed: bool
    words: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One line of the answers: by its key a reply, or words why there is none. `refused`: asking again is vain."""

    key: str
    served: Served | None
    words: str = ""
    refused: bool = False


class RemoteBatches(Protocol):
    """The remote batches of one teacher, as a context manager. Each call raises TryAgain or TeacherRefused."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that they were opened for."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def submit(self, mark: str, requests: Sequence[tuple[str, dict]]) -> str:
        """Send these (key, request) as one batch, and return its remote id.

        `mark` is our name for it. A batch that the teacher has under this name already is returned instead, so that a
        lost answer doesn't buy everything twice.
        """

    def find(self, mark: str) -> str | None:
        """Return the remote id of the batch that has this mark; None if the teacher has none."""

    def look(self, remote_id: str) -> Remote:
        """Return how the batch stands."""

    def cancel(self, remote_id: str) -> None:
        """Ask the teacher to end the batch; what was answered by then is still to be had."""

    def answers(self, file: str, asked: dict[str, dict]) -> Iterator[Line]:
        """Return the lines of a file of answers to these requests, by key. An unreadable line answers nothing."""
