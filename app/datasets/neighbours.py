"""The nearest neighbours of a record in the pool. The API process caches pools, and refreshes one at each request."""

from functools import cache

import numpy as np
from sqlalchemy.orm import Session

from app import config
from app.datasets import store
from app.datasets.pools import Pools
from app.datasets.schemas import NeighbourView
from app.tables.datasets import Dataset, Record


# One object for the process, created at the first request: a pool that is loaded stays for the next request.
@cache
def _pools() -> Pools:
    return Pools(None, config.settings().api_pool_memory_mb * 2**20)


def find_neighbours(session: Session, row: Record, max_neighbours: int) -> list[NeighbourView]:
    """Return up to `max_neighbours` rows of the pool, nearest first, without the rows of the record's own group."""
    dataset = session.get(Dataset, row.dataset_id)
    # In the scope `instruction` only the representative of the group has an embedding.
    stored = store.load_embeddings(session, [row.id, row.group_id])
    embedding = stored.get(row.id) or stored.get(row.group_id)
    vector = None if embedding is None else np.frombuffer(embedding, dtype=np.float32)
    with _pools().lock_pool(dataset.id) as cached:
        pool = _pools().refresh(session, dataset, cached)
        nearest = pool.neighbours(store.compared_text(dataset, row), vector, max_neighbours, {row.id, row.group_id})
    return [
        NeighbourView(
            id=neighbour.id,
            text=neighbour.text,
            lexical=round(neighbour.lexical, 6),
            semantic=None if neighbour.semantic is None else round(neighbour.semantic, 6),
        )
        for neighbour in nearest
    ]
