"""The migration to the field's terms keeps the rows, both ways."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from app.stack import Stack
from tests.migrating import engine_of, insert, migrate, row_of

DATASET = {
    **{"id": "ds_1", "project_id": "prj_1", "name": "d", "language": "en", "encoder": "e", "simulated": True},
    **{"lexical_threshold": 0.7, "lexical_mode": "rouge_l", "semantic_threshold": 0.9, "last_seq": 7},
    **dict.fromkeys(("seed_count", "accepted_count", "rejected_count"), 0),
}
RECORD = {
    **{"dataset_id": "ds_1", "origin": "imported", "language": "en", "simulated": False, "lineage": "{}"},
    **dict.fromkeys(("instruction", "input", "output"), "text"),
}
ACCEPTED = RECORD | {"id": "rec_1", "family": "rec_1", "status": "accepted", "seq": 7, "content_hash": b"1"}
REJECTED = RECORD | {
    **{"id": "rec_2", "family": "rec_2", "status": "rejected", "content_hash": b"2", "reason": "surplus"},
    # A text is not a reason.
    "instruction": "surplus",
}
SNAPSHOT = {
    **{"id": "snap_1", "project_id": "prj_1", "dataset_id": "ds_1", "spec": "{}", "status": "queued"},
    **{"through_seq": 6, "lease_token": 0, "attempt": 0},
}
RUN = {
    **{"id": "run_1", "project_id": "prj_1", "dataset_id": "ds_1", "account_id": "acc_1", "method": "m"},
    **{"status": "running", "options": "{}", "rejected_by_reason": '{"surplus": 2, "too_long": 1}'},
    **{"seed": 0, "target": 12, "batches_planned": 0, "accepted": 0, "rejected": 3},
    **{"stopping": "target_reached", "pilot_for": 400},
}
ACCOUNT = {
    **{"id": "acc_1", "project_id": "prj_1", "owner_type": "run", "owner_id": "run_1", "state": "open"},
    **{"simulated": False},
    **dict.fromkeys(("requests", "lost_requests", "reserved_requests", "prompt_tokens", "cached_tokens"), 0),
    **dict.fromkeys(("completion_tokens", "held_tokens", "reserved_tokens", "cost_usd", "held_usd", "reserved_usd"), 0),
}
DECISION = {"record_id": "rec_2", "decision": 1, "status": "rejected", "reason": "surplus", "replaced_by": "rev_1"}
JOB = {"project_id": "prj_1", "dataset_id": "ds_1", "status": "succeeded"}
COUNTS = {"rows": 3, "done_rows": 3, "rejected": 3}
IMPORT = JOB | COUNTS | {"id": "imp_1", "kind": "records", "file": "f", "accepted": 0, "rejected_by_reason": "{}"}
JUDGEMENT = JOB | {
    **{"id": "jdg_1", "account_id": "acc_1", "teacher": "t", "newest_record_id": "rec_2", "options": "{}"},
    **{"reject": False, "rows": 3, "done_rows": 3, "rejected": 0, "filter": '{"reason": "surplus", "origin": null}'},
}
REFILTER = JOB | {"id": "rev_1", "kind": "refilter", "settings": "{}", "rows": 3, "done_rows": 3}
DECONTAMINATION = REFILTER | {
    **{"id": "rev_2", "kind": "decontamination", "status": "failed", "stop_reason": "review_failed"},
    "result": "{}",
}
MATCH = {
    **{"review_id": "rev_2", "record_id": "rec_1", "set_id": "evs_1", "place": 0, "kind": "ngram", "score": 1.0},
    "item_text": "text",
}


def refiltered(reason: str) -> dict:
    """A refilter's report in which rows had the reason."""
    return {
        "moved_out": {reason: 1},
        "moved_in": {"too_long": 2},
        "other_reason": {f"{reason} -> too_long": 1, f"too_short -> {reason}": 1},
        "examples": [{"instruction": "surplus", "from": reason, "to": "accepted"}],
    }


@pytest.fixture
def stack(tmp_path) -> Iterator[Stack]:
    with Stack(tmp_path, only=("postgres",), durable=False) as stack:
        yield stack


def reasons(engine: Engine, maintenance_jobs: str) -> tuple:
    return row_of(
        engine,
        "SELECT r.reason, r.instruction, d.reason, i.rejected_by_reason, runs.rejected_by_reason, j.filter, v.result "
        f"FROM records r, decisions d, imports i, runs, judgements j, {maintenance_jobs} v "
        "WHERE r.id = 'rec_2' AND v.id = 'rev_1'",
    )


def expected_reasons(reason: str) -> tuple:
    counts = {reason: 3}, {reason: 2, "too_long": 1}
    return (reason, "surplus", reason, *counts, {"reason": reason, "origin": None}, refiltered(reason))


def test_rows_keep_their_values_under_the_new_names_and_back(stack):
    migrate(stack, "upgrade", "0007")
    engine = engine_of(stack)
    with engine.begin() as connection:
        insert(connection, "projects", {"id": "prj_1", "name": "p"})
        insert(connection, "datasets", DATASET)
        insert(connection, "records", ACCEPTED)
        insert(connection, "records", REJECTED)
        insert(connection, "decisions", DECISION)
        insert(connection, "imports", IMPORT | {"rejected_by_reason": '{"surplus": 3}'})
        insert(connection, "reviews", DECONTAMINATION)
        insert(connection, "matches", MATCH)
        insert(connection, "reviews", REFILTER | {"result": json.dumps(refiltered("surplus"))})
        insert(connection, "snapshots", SNAPSHOT)
        insert(connection, "accounts", ACCOUNT)
        insert(connection, "runs", RUN)
        insert(connection, "judgements", JUDGEMENT)
    migrate(stack, "upgrade", "0008")
    assert row_of(engine, "SELECT last_pool_position FROM datasets") == (7,)
    assert row_of(engine, "SELECT pool_position, group_id FROM records WHERE id = 'rec_1'") == (7, "rec_1")
    assert row_of(engine, "SELECT through_pool_position FROM snapshots") == (6,)
    assert row_of(engine, "SELECT pending_stop_reason, preview_target FROM runs") == ("target_reached", 400)
    assert reasons(engine, "maintenance_jobs") == expected_reasons("over_target")
    assert row_of(engine, "SELECT maintenance_job_id FROM matches") == ("rev_2",)
    assert row_of(engine, "SELECT stop_reason FROM maintenance_jobs WHERE id = 'rev_2'") == ("maintenance_failed",)
    migrate(stack, "downgrade", "0007")
    assert reasons(engine, "reviews") == expected_reasons("surplus")
    assert row_of(engine, "SELECT review_id FROM matches") == ("rev_2",)
    assert row_of(engine, "SELECT stop_reason FROM reviews WHERE id = 'rev_2'") == ("review_failed",)
    assert row_of(engine, "SELECT last_seq FROM datasets") == (7,)
    assert row_of(engine, "SELECT seq, family FROM records WHERE id = 'rec_1'") == (7, "rec_1")
    assert row_of(engine, "SELECT through_seq FROM snapshots") == (6,)
    assert row_of(engine, "SELECT stopping, pilot_for FROM runs") == ("target_reached", 400)
    engine.dispose()
