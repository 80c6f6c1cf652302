"""The columns of datasets and records that other slices may read. Functions of this slice return such rows.

A protocol in the place of the table: the other slices then can't query the tables of this one by themselves.
"""

from typing import Protocol

from app.synth.novelty.pool import Scope


class DatasetRow(Protocol):
    """A dataset. The columns are explained in app/tables/datasets.py."""

    id: str
    project_id: str
    name: str
    language: str
    lexical_threshold: float
    lexical_mode: str
    semantic_threshold: float
    scope: Scope
    encoder: str
    encoding: dict | None
    pool_version: int
    last_pool_position: int
    accepted_count: int


class RecordRow(Protocol):
    """A record. The columns are explained in app/tables/datasets.py."""

    id: str
    dataset_id: str
    origin: str
    status: str
    pool_position: int | None
    group_id: str
    instruction: str
    input: str
    output: str
    is_classification: bool | None
    language: str
    messages: list | None
    reasoning: str
    content_hash: bytes
    embedding: bytes | None
    simulated: bool
    reason: str | None
    run_id: str | None
    method: str | None
    operation: str | None
    round: int | None
    scores: dict
    tags: dict
    lineage: dict
