"""The migration that gives each run an account moves what was spent, both ways."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from app.stack import Stack
from tests.migrating import engine_of, insert, migrate, row_of

DATASET = {
    **{"id": "ds_1", "project_id": "prj_1", "name": "d", "language": "en", "encoder": "e", "simulated": True},
    **{"lexical_threshold": 0.7, "lexical_mode": "rouge_l", "semantic_threshold": 0.9},
    **dict.fromkeys(("last_seq", "seed_count", "accepted_count", "rejected_count"), 0),
}
RUN = {
    **{"id": "run_1", "project_id": "prj_1", "dataset_id": "ds_1", "method": "m", "teacher": "t", "status": "running"},
    **{"options": "{}", "rejected_by_reason": "{}", "simulated": True, "max_usd": Decimal("5")},
    **dict.fromkeys(("seed", "target", "batches_planned", "accepted", "rejected", "cached_tokens"), 0),
    # Two answers, two calls that were lost and charged at their worst, and one in flight.
    **{"requests": 4, "unknown_requests": 2, "prompt_tokens": 120, "completion_tokens": 80, "unknown_tokens": 2000},
    **{"cost_usd": Decimal("0.022"), "reserved_requests": 1, "reserved_tokens": 1000, "reserved_usd": Decimal("0.01")},
}
COMPLETION = {
    **{"run_id": "run_1", "batch_id": "bat_1", "step": "s", "teacher": "t", "model": "m", "request": "{}"},
    **{"simulated": True, "tries": 1, "usage_estimated": False, "reserved_usd": 0, "cost_usd": 0},
    **dict.fromkeys(("reserved_tokens", "prompt_tokens", "cached_tokens", "completion_tokens", "unknown_tokens"), 0),
}
ANSWERED = COMPLETION | {
    **{"key": "answered", "status": "done", "prompt_tokens": 60, "completion_tokens": 40},
    "cost_usd": Decimal("0.001"),
}
LOST = COMPLETION | {"key": "lost", "status": "failed", "unknown_tokens": 1000, "cost_usd": Decimal("0.01")}
BOTH = ANSWERED | {"key": "both", "unknown_tokens": 1000, "cost_usd": Decimal("0.011")}
SENT = COMPLETION | {"key": "sent", "status": "sent", "reserved_tokens": 1000, "reserved_usd": Decimal("0.01")}


@pytest.fixture
def stack(tmp_path) -> Iterator[Stack]:
    with Stack(tmp_path, only=("postgres",), durable=False) as stack:
        yield stack


def test_what_was_spent_moves_to_an_account_and_back(stack):
    migrate(stack, "upgrade", "0006")
    migrate(stack, "downgrade", "-1")
    engine = engine_of(stack)
    with engine.begin() as connection:
        insert(connection, "projects", {"id": "prj_1", "name": "p"})
        insert(connection, "datasets", DATASET)
        insert(connection, "runs", RUN)
        for completion in (ANSWERED, LOST, BOTH, SENT):
            insert(connection, "completions", completion)
    migrate(stack, "upgrade", "0006")
    spent = "requests, lost_requests, reserved_requests, prompt_tokens, held_tokens, cost_usd, held_usd, reserved_usd"
    assert row_of(engine, f"SELECT id, owner_id, state, max_usd, {spent} FROM accounts") == (
        *("acc_1", "run_1", "open", Decimal("5"), 2, 2, 1, 120),
        # The lost call holds its worst case; the one that was answered at another try what that answer cost.
        *(1100, Decimal("0.002"), Decimal("0.011"), Decimal("0.01")),
    )
    lost = "SELECT string_agg(key || ' ' || state, ', ' ORDER BY key), sum(held_usd) FROM lost_calls"
    assert row_of(engine, lost) == ("both priced, lost unsettled", Decimal("0.011"))
    assert row_of(engine, "SELECT account_id FROM runs") == ("acc_1",)
    assert row_of(engine, "SELECT count(*), sum(cost_usd) FROM completions WHERE account_id = 'acc_1'") == (
        4,
        Decimal("0.002"),
    )
    migrate(stack, "downgrade", "-1")
    spent = "requests, unknown_requests, reserved_requests, prompt_tokens, unknown_tokens, cost_usd, max_usd"
    expected = (4, 2, 1, 120, 1100, Decimal("0.013"), Decimal("5"))
    assert row_of(engine, f"SELECT {spent} FROM runs") == expected
    totals = "count(*), sum(cost_usd), sum(unknown_tokens)"
    assert row_of(engine, f"SELECT {totals} FROM completions WHERE run_id = 'run_1'") == (4, Decimal("0.013"), 1100)
    engine.dispose()
