"""One review from claim to end, by its kind."""

from app.datasets.pools import Pools
from app.db import transaction
from app.jobs import runner
from app.reviews import decontaminate, reencode, refilter
from app.tables.reviews import Review

_KINDS = {
    "refilter": refilter.work,
    "decontamination": decontaminate.work,
    "reencoding": reencode.work,
}


def work(id: str, pools: Pools) -> None:
    """A second call finds nothing to claim."""
    with transaction() as session:
        review = session.get(Review, id)
    if review is not None:
        do = _KINDS[review.kind]
        runner.work(Review, id, lambda taken, beat: do(taken, beat, pools), "review_failed")
