"""The rows that a snapshot includes: a mixture of methods, then a selection by scores or coverage."""

import hashlib

import numpy as np
from sqlalchemy import Row
from sqlalchemy.orm import Session

from app.datasets import store as dataset_store
from app.datasets import training_rows
from app.snapshots import store
from app.synth.export.mixing import counts_of_mix
from app.synth.export.selection import facility_location, quality_complexity, top_k
from app.tables.snapshots import Snapshot

# Facility location compares every row with every other one, so its time grows with the square of the rows.
MAX_FACILITY_LOCATION_ROWS = 20_000
# The ids are parameters of the query, and PostgreSQL allows 65,535 of them.
GROUPS_PER_QUERY = 5000


def list_required_scores(selection: dict) -> list[str]:
    """Return the names of the scores without which a row is not selected."""
    return {
        "top_k": [selection["quality"]],
        "quality_complexity": [selection["quality"], selection["complexity"]],
        "facility_location": [],
    }[selection["method"]]


def select_row_ids(session: Session, snapshot: Snapshot) -> set[str] | None:
    """Return the ids of the rows that the snapshot includes, or None for all rows.

    Equal rows and scores give an equal result.

    Args:
        session: a transaction in which the pool does not change (`store.freeze_pool`).
        snapshot: the snapshot. Its mixture is applied first, and its selection to the rows of the mixture.
    """
    spec = snapshot.spec
    row_ids = _apply_mix(session, snapshot) if spec.get("mix") else None
    return _apply_selection(session, snapshot, row_ids) if spec.get("selection") else row_ids


def _apply_mix(session: Session, snapshot: Snapshot) -> set[str]:
    mix, ids_by_method = snapshot.spec["mix"], {}
    for id, method in training_rows.load_methods(session, store.rows_of(snapshot)):
        ids_by_method.setdefault(method, []).append(id)
    sizes = {method: len(ids) for method, ids in ids_by_method.items()}
    counts = counts_of_mix(sizes, mix["weights"], mix["temperature"])
    # The order is a hash of the id, so a second export draws the same rows without a stored random state.
    return {
        id
        for method, count in counts.items()
        for id in sorted(ids_by_method[method], key=lambda id: _hash_id(id, snapshot.spec["seed"]))[:count]
    }


def _hash_id(id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{id}".encode()).digest()


def _apply_selection(session: Session, snapshot: Snapshot, mixed_ids: set[str] | None) -> set[str]:
    selection = snapshot.spec["selection"]
    # A row without one of the scores can't be ranked, so the selection passes over it.
    rows = [
        row
        for row in training_rows.load_scores(session, store.rows_of(snapshot), list_required_scores(selection))
        if (mixed_ids is None or row[0] in mixed_ids) and all(score is not None for score in row[2:])
    ]
    k = min(selection["k"], len(rows))
    if k == 0:
        return set()
    if selection["method"] == "top_k":
        indices = top_k([row[2] for row in rows], k)
    else:
        rows, vectors = _load_vectors(session, rows)
        if not rows:
            return set()
        if selection["method"] == "facility_location":
            indices = facility_location(vectors, min(k, len(rows)))
        else:
            quality, complexity = ([row[column] for row in rows] for column in (2, 3))
            indices = quality_complexity(quality, complexity, vectors, min(k, len(rows)), selection["max_similarity"])
    return {rows[index][0] for index in indices}


def _load_vectors(session: Session, rows: list[Row]) -> tuple[list[Row], np.ndarray]:
    """The rows whose group's representative has an embedding, and a vector for each of these rows."""
    # A worker embeds new rows within moments; a row that it has not reached yet is left out rather than waited for.
    group_ids = sorted({row[1] for row in rows})
    embeddings: dict[str, bytes] = {}
    for start in range(0, len(group_ids), GROUPS_PER_QUERY):
        embeddings |= dataset_store.load_embeddings(session, group_ids[start : start + GROUPS_PER_QUERY])
    rows = [row for row in rows if row[1] in embeddings]
    vectors = [np.frombuffer(embeddings[row[1]], dtype=np.float32) for row in rows]
    return rows, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)
