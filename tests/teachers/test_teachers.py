"""Every teacher of the table, through REST and a worker: rows, ledger, outcome, and what people are told."""

import re
from decimal import Decimal

import pytest

from tests.rest import rows_of
from tests.teachers.case import COMMON_REASONS, Case
from tests.teachers.cases import CASES
from tests.teachers.conftest import KEY

MARKUPS = (
    *("<think", "</think", "THINK]", "seed:think", "think▷", "<|", "|>", "<thought", "thinking>", "reasoning>"),
    *("antThinking", "<details", "thought process", "my response", "analysis", "assistantfinal", "<answer", "DRAFT"),
)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.personalities, marks=[pytest.mark.long] if case.is_long else []) for case in CASES],
)
def test_a_teacher(api, run, bill, case):
    check_end(run, case)
    check_rows(api, run, case)
    check_ledger(run["usage"], bill, case)
    events = api.get(f"/v1/runs/{run['id']}/events").json()["data"]
    changes = [event["data"]["change"] for event in events if event["type"] == "teacher_profile"]
    assert changes == ([case.change] if case.change else [])
    report = api.get(f"/v1/accounts/{run['account_id']}/report").json()
    assert case.repairs <= set(report["repairs"]) <= case.repairs | case.may_repair


def check_end(run: dict, case: Case) -> None:
    """How the run ended, for which reasons it rejected rows, and what its error says."""
    assert (run["status"], run["stop_reason"]) == (case.status, case.stop_reason), run
    assert run["outcome"] == case.outcome
    assert run["paused_for"] == ("teacher_unusable" if case.status == "paused" else None)
    assert re.search(case.cure, run["health"]["message"] or ""), run["health"]
    reasons = set(run["counts"]["rejected_by_reason"])
    assert case.reasons <= reasons <= case.reasons | case.may_reject | COMMON_REASONS
    if case.error:
        assert re.search(case.error, run["error"]), run["error"]
    else:
        assert run["error"] is None
    for secret in (KEY, "127.0.0.1"):
        assert secret not in (run["error"] or "")


def check_rows(api, run: dict, case: Case) -> None:
    """The rows that were accepted: as many as the run says, without a draft, with their thought."""
    rows = rows_of(api, {"id": run["dataset_id"]}, run_id=run["id"], status="accepted")
    assert len(rows) == run["counts"]["accepted"] == (case.target if case.outcome == "complete" else 0)
    for row in rows:
        texts = [row["instruction"], row["input"], row["output"], *(turn["content"] for turn in row["messages"] or ())]
        assert not [markup for markup in MARKUPS for text in texts if markup in text], row
        if "thought_tokens" in case.settings:
            assert row["is_classification"] is not None
        if case.thinks:
            assert "DRAFT" in row["thought"], row
        elif "think" not in case.personalities:
            assert row["thought"] == ""


def check_ledger(usage: dict, bill: dict, case: Case) -> None:
    """The ledger against the teacher's own bill."""
    ledger = {name: usage[f"{name}_tokens"] for name in ("prompt", "cached", "completion")}
    billed = {name: bill[name] for name in ledger}
    if case.usage == "true" and not usage["unknown_requests"]:
        assert ledger == billed
        assert Decimal(usage["certain_usd"]) == price(bill) == Decimal(usage["cost_usd"])
    elif case.usage in ("estimated", "unread"):
        assert ledger["prompt"] == pytest.approx(billed["prompt"], rel=0.25)
        if case.usage == "estimated":
            assert ledger["completion"] == pytest.approx(billed["completion"], rel=0.25)
    else:
        assert Decimal(usage["certain_usd"]) <= price(bill)
        assert price(bill) <= Decimal(usage["certain_usd"]) + Decimal(usage["held_usd"])
    if case.thinks:
        assert 0 < usage["thought_tokens"] < usage["completion_tokens"]
        if "reasoning_tokens" in case.personalities:
            assert usage["thought_tokens"] == bill["thought"]


def price(bill: dict) -> Decimal:
    """What the bill costs by the prices of the configuration, in dollars."""
    uncached = bill["prompt"] - bill["cached"]
    per_million = uncached * Decimal("0.15") + bill["cached"] * Decimal("0.075") + bill["completion"] * Decimal("0.60")
    return per_million / 10**6
