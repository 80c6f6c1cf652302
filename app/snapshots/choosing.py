"""Which of a snapshot's rows are kept: a mixture of methods, then a selection by scores or by what covers the rest."""

import hashlib

import numpy as np
from sqlalchemy.orm import Session

from app.snapshots import store
from app.synth.mixing import counts_of_mix
from app.synth.selection import facility_location, quality_complexity, top_k
from app.tables.snapshots import Snapshot

MOST_FOR_COVER = 20_000
FAMILIES_AT_ONCE = 5000


def scores_needed(selection: dict) -> list[str]:
    """The names of the scores that a selection goes by."""
    return {
        "top_k": [selection["quality"]],
        "quality_complexity": [selection["quality"], selection["complexity"]],
        "facility_location": [],
    }[selection["method"]]


def choose(session: Session, snapshot: Snapshot) -> set[str] | None:
    """Ids of the rows to keep; None for all of them. The same rows and scores give the same choice."""
    spec = snapshot.spec
    kept = _mixed(session, snapshot) if spec.get("mix") else None
    return _selected(session, snapshot, kept) if spec.get("selection") else kept


def _mixed(session: Session, snapshot: Snapshot) -> set[str]:
    mix, groups = snapshot.spec["mix"], {}
    for id, name in store.groups(session, snapshot):
        groups.setdefault(name, []).append(id)
    counts = counts_of_mix({name: len(ids) for name, ids in groups.items()}, mix["weights"], mix["temperature"])
    return {
        id
        for name, count in counts.items()
        for id in sorted(groups[name], key=lambda id: _rank(id, snapshot.spec["seed"]))[:count]
    }


def _rank(id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{id}".encode()).digest()


def _selected(session: Session, snapshot: Snapshot, kept: set[str] | None) -> set[str]:
    wanted = snapshot.spec["selection"]
    rows = [
        row
        for row in store.scores(session, snapshot, scores_needed(wanted))
        if (kept is None or row[0] in kept) and all(score is not None for score in row[2:])
    ]
    k = min(wanted["k"], len(rows))
    if k == 0:
        return set()
    if wanted["method"] == "top_k":
        places = top_k([row[2] for row in rows], k)
    else:
        rows, vectors = _with_vectors(session, rows)
        if not rows:
            return set()
        if wanted["method"] == "facility_location":
            places = facility_location(vectors, min(k, len(rows)))
        else:
            quality, complexity = ([row[n] for row in rows] for n in (2, 3))
            places = quality_complexity(quality, complexity, vectors, min(k, len(rows)), wanted["max_similarity"])
    return {rows[place][0] for place in places}


def _with_vectors(session: Session, rows: list) -> tuple[list, np.ndarray]:
    """The rows whose instruction is embedded (a worker does that at once), and the embeddings."""
    families = sorted({row[1] for row in rows})
    known: dict[str, bytes] = {}
    for start in range(0, len(families), FAMILIES_AT_ONCE):
        known |= store.embeddings(session, families[start : start + FAMILIES_AT_ONCE])
    rows = [row for row in rows if row[1] in known]
    vectors = [np.frombuffer(known[row[1]], dtype=np.float32) for row in rows]
    return rows, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)
