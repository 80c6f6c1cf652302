"""Refilter, decontamination and re-encoding on a real Postgres, with an encoder of the tests' own."""

import time

import numpy as np
import pytest
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.calls import service as accounts
from app.datasets import service as datasets
from app.datasets import store as dataset_store
from app.datasets.admission import Origin, admit
from app.datasets.pools import Pools
from app.datasets.schemas import DatasetCreate
from app.errors import AppError
from app.jobs import runner
from app.maintenance import service, store
from app.maintenance.kinds import KINDS
from app.maintenance.schemas import DecontaminationCreate, ReencodeCreate, RefilterCreate
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.synth.novelty.pool import comparison_text
from app.synth.types import Candidate, Rejection
from app.tables.datasets import Dataset, Decision, Record
from app.tables.maintenance import MaintenanceJob, Match, NewEmbedding
from app.tables.runs import Run
from tests.fakes import encoders, hash_encoder, unlike

BASE = "Explain {} to a child in a few simple words"


@pytest.fixture
def caller(database) -> Caller:
    with transaction() as session:
        return Caller(access.ensure_project(session, "maintenance").id, "key")


@pytest.fixture
def dataset(caller) -> Dataset:
    with transaction() as session:
        return datasets.create(
            session, caller, DatasetCreate(name=f"set {time.time_ns()}", seeds={"bundled": "korean"})
        )


@pytest.fixture
def pools() -> Pools:
    return Pools(encoders())


def run_with(dataset: Dataset, caller: Caller, pools: Pools, *candidates: Candidate, target: int = 100) -> Run:
    """A run that has ended, with these candidates decided as its own."""
    with transaction() as session:
        id = new_id("run")
        account = accounts.open_account(session, caller.project_id, dataset.id, ("run", id), {})
        run = Run(
            id=id,
            project_id=caller.project_id,
            account_id=account.id,
            dataset_id=dataset.id,
            method="self_instruct",
            options={},
            seed=0,
            target=target,
            status="succeeded",
            stop_reason="target_reached",
            rejected_by_reason={},
            cursor={},
        )
        session.add(run)
    vectors = list(pools.prepare(dataset).encode([comparison_text(dataset.scope, c) for c in candidates]))
    with pools.precheck_and_lock(dataset.id, candidates, vectors) as offer:
        origin = Origin("generated", run.id, method="self_instruct")
        outcome = admit(offer.session, offer.dataset, candidates, vectors, origin, offer.precheck, target)
        row = offer.session.get(Run, run.id)
        row.accepted, row.rejected = outcome.accepted, outcome.rejected.total()
        row.rejected_by_reason = dict(outcome.rejected)
    return run


def run_job(pools: Pools, caller: Caller, order, id: str, body) -> MaintenanceJob:
    with transaction() as session:
        created_job = order(session, caller, id, body)
    runner.work(KINDS[created_job.kind], created_job.id, pools)
    with transaction() as session:
        stored_job = session.get(MaintenanceJob, created_job.id)
    assert stored_job.status == "succeeded", stored_job.error
    return stored_job


def refilter(pools, caller, run, **asked) -> dict:
    return run_job(pools, caller, service.refilter, run.id, RefilterCreate(**asked)).result


def rows(run: Run) -> dict[str, tuple[str, str | None]]:
    with transaction() as session:
        records = session.scalars(select(Record).where(Record.run_id == run.id).order_by(Record.id))
        return {row.output: (row.status, row.reason) for row in records}


def check_books(dataset: Dataset, run: Run) -> None:
    """Counters equal the rows, places have no doubles, every group has its representative in the pool."""
    with transaction() as session:
        row, one = session.get(Dataset, dataset.id), session.get(Run, run.id)
        all_rows = list(session.scalars(select(Record).where(Record.dataset_id == dataset.id)))
    mine = [r for r in all_rows if r.run_id == run.id]
    assert one.accepted == sum(r.status == "accepted" for r in mine)
    assert one.rejected == sum(r.status == "rejected" for r in mine) == sum(one.rejected_by_reason.values())
    assert row.accepted_count == sum(r.status == "accepted" and r.origin != "seed" for r in all_rows)
    assert row.rejected_count == sum(r.status == "rejected" for r in all_rows)
    assert row.seed_count == len({r.group_id for r in all_rows if r.origin == "seed" and r.pool_position})
    positions = [r.pool_position for r in all_rows if r.pool_position is not None]
    assert len(set(positions)) == len(positions) and max(positions) <= row.last_pool_position
    representatives = {r.id for r in all_rows if r.pool_position is not None}
    assert all(r.group_id in representatives for r in all_rows if r.pool_position is not None)


FIRST = BASE.format("the way of rain")
NEAR = BASE.format("the way of snow")  # F1 of 11/12 to FIRST
FAR = f"List {unlike(1)}"
CANDIDATES = (
    Candidate(FIRST, "", "first"),
    Candidate(NEAR, "", "near"),
    Candidate(BASE.format("the path of hail"), "", ""),
    Candidate(FAR, "", "far"),
    Candidate("Hm", "", "malformed", rejection=Rejection("malformed_reply", "cut")),
)


def test_a_preview_says_what_would_move_and_moves_nothing(dataset, caller, pools):
    run = run_with(dataset, caller, pools, *CANDIDATES)
    before = rows(run)
    assert before["near"] == ("rejected", "duplicate_lexical")
    outcome = refilter(pools, caller, run, lexical_threshold=0.95)
    assert (outcome["applied"], outcome["accepted_before"], outcome["accepted_after"]) == (False, 2, 3)
    assert (outcome["moved_in"], outcome["moved_out"], outcome["unanswered"]) == ({"duplicate_lexical": 1}, {}, 1)
    assert outcome["other_reason"] == {"duplicate_lexical -> unanswered": 1}
    assert {example["to"] for example in outcome["examples"]} == {"accepted", "unanswered"}
    assert rows(run) == before
    check_books(dataset, run)


def test_the_same_rules_move_nothing(dataset, caller, pools):
    run = run_with(dataset, caller, pools, *CANDIDATES, Candidate(f"Say {unlike(5)}", "", "more"), target=2)
    assert rows(run)["more"] == ("rejected", "over_target")
    outcome = refilter(pools, caller, run, apply=True)
    assert (outcome["moved_in"], outcome["moved_out"], outcome["other_reason"]) == ({}, {}, {})


def test_looser_rules_bring_rows_in_and_the_old_decisions_stay_readable(dataset, caller, pools):
    run = run_with(dataset, caller, pools, *CANDIDATES)
    refilter(pools, caller, run, lexical_threshold=0.95, apply=True)
    assert rows(run)["near"] == ("accepted", None)
    check_books(dataset, run)
    with transaction() as session:
        row = session.scalar(select(Record).where(Record.run_id == run.id, Record.output == "near"))
        (old,) = session.scalars(select(Decision).where(Decision.record_id == row.id))
    assert row.decision == 2 and row.detail is None
    assert (old.decision, old.status, old.reason) == (1, "rejected", "duplicate_lexical")
    assert old.detail["threshold"] == 0.7 and old.nearest_text == FIRST
    shown = datasets_lineage(caller, row.id)
    assert [decision.reason for decision in shown.decisions] == ["duplicate_lexical"]
    # What came in is in the pool for every worker.
    late = Candidate(NEAR.replace("simple", "easy"), "", "late")
    for known in (pools, Pools(encoders())):
        assert rows(run_with(dataset, caller, known, late))["late"] == ("rejected", "duplicate_lexical")


def datasets_lineage(caller, id):
    with transaction() as session:
        return datasets.load_lineage(session, caller, id)


def test_stricter_rules_take_rows_out_and_make_room_for_others(dataset, caller, pools):
    akin = Candidate("Describe the way of rain to a child in words that all know", "", "akin")
    run = run_with(dataset, caller, pools, Candidate(FIRST, "", "first"), akin, Candidate(FAR, "", "far"))
    assert rows(run)["akin"] == ("accepted", None)
    outcome = refilter(pools, caller, run, lexical_threshold=0.51, apply=True)
    assert outcome["moved_out"] == {"duplicate_lexical": 1}
    assert rows(run) == {
        "first": ("accepted", None),
        "akin": ("rejected", "duplicate_lexical"),
        "far": ("accepted", None),
    }
    check_books(dataset, run)
    # Workers that had the row in memory forget it.
    again = Candidate(akin.instruction + " well", "", "again")
    assert rows(run_with(dataset, caller, pools, again))["again"] == ("accepted", None)
    # And back again: two versions to read.
    refilter(pools, caller, run, lexical_threshold=0.99, apply=True)
    assert rows(run)["akin"] == ("accepted", None)
    check_books(dataset, run)


def test_other_rules_and_least_scores_decide_on_stored_rows(dataset, caller, pools):
    scored = Candidate(FAR, "", "far", scores={"rule.length_fit": 0.4, "judge.overall": 3.6})
    picture = Candidate(f"Draw {unlike(2)}", "", "drawn", rejection=Rejection("blocked_word", "draw"))
    run = run_with(dataset, caller, pools, scored, picture)
    assert refilter(pools, caller, run, rules="form")["moved_in"] == {"blocked_word": 1}
    assert refilter(pools, caller, run, minimum_scores={"length_fit": 0.5})["moved_out"] == {"low_length_fit": 1}
    assert refilter(pools, caller, run, minimum_scores={"judge.overall": 4})["moved_out"] == {"low_judge_score": 1}
    assert refilter(pools, caller, run, minimum_scores={"judge.clarity": 4})["moved_out"] == {}


def test_a_head_that_leaves_is_followed_by_the_oldest_of_its_family(dataset, caller, pools):
    text = BASE.format("seas")
    group = [Candidate(text, f"in {n}", f"out {n}", scores={"rule.length_fit": n / 2}) for n in range(3)]
    run = run_with(dataset, caller, pools, *group)
    refilter(pools, caller, run, minimum_scores={"length_fit": 0.4}, apply=True)
    assert rows(run)["out 0"] == ("rejected", "low_length_fit")
    check_books(dataset, run)
    with transaction() as session:
        representative = session.scalar(select(Record).where(Record.run_id == run.id, Record.output == "out 1"))
        assert (
            representative.group_id == representative.id
            and representative.embedding == hash_encoder([text])[0].tobytes()
        )
    # The instruction is still in the pool, by its new representative.
    near = Candidate(text + " please", "", "near")
    assert rows(run_with(dataset, caller, Pools(encoders()), near))["near"] == ("rejected", "duplicate_lexical")


def test_only_a_run_that_has_ended_is_looked_at_again(dataset, caller, pools):
    run = run_with(dataset, caller, pools, *CANDIDATES)
    with transaction() as session:
        session.get(Run, run.id).status = "running"
    with pytest.raises(AppError) as refused, transaction() as session:
        service.refilter(session, caller, run.id, RefilterCreate())
    assert refused.value.status == 409


QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)
KOREAN = "서울에서 부산까지 기차로 두 시간 사십 분이 걸린다면 왕복에는 모두 몇 시간 몇 분이 걸리는지 계산해 보세요."


def evaluation(caller: Caller, *texts: str) -> str:
    with transaction() as session:
        return service.create_set(session, caller, f"exam {time.time_ns()}", list(texts)).id


def decontaminate(pools, caller, dataset, sets, **asked) -> MaintenanceJob:
    body = DecontaminationCreate(evaluation_sets=sets, **asked)
    return run_job(pools, caller, service.decontaminate, dataset.id, body)


def matches(found: MaintenanceJob) -> list[Match]:
    with transaction() as session:
        return list(store.list_matches(session, found.id, 100, 0))


def test_shared_words_are_reported_with_their_spans_and_scores(dataset, caller, pools):
    copied = Candidate("Solve this problem", "Hello! " + QUESTION.lower().replace("48", "49"), "73")
    korean = Candidate("다음 문제를 푸세요: " + KOREAN, "", "다섯 시간 이십 분")
    run = run_with(dataset, caller, pools, copied, korean, Candidate(FAR, "", "far"))
    exam = evaluation(caller, QUESTION, KOREAN, "Too short")
    outcome = decontaminate(pools, caller, dataset, [exam], semantic_threshold=None)
    assert outcome.result["contaminated_rows"] == 2 and outcome.result["items_too_short_for_ngrams"] == 1
    first, second = sorted(matches(outcome), key=lambda item: item.place)
    assert (first.kind, first.field, first.item_text) == ("ngram", "input", QUESTION)
    assert copied.input[first.start : first.end] == first.span and first.span.startswith("of her friends")
    assert 0 < first.score < 1
    assert (second.place, second.score, korean.instruction[second.start : second.end]) == (1, 1.0, KOREAN[:-1])
    assert set(rows(run).values()) == {("accepted", None)}


def test_matches_by_embedding_and_what_is_done_with_them(dataset, caller, pools):
    # An encoder to which all questions about clips are one.
    def by_topic(texts):
        return hash_encoder(["clips" if "clips" in text else text for text in texts])

    pools = Pools(encoders(by_topic))
    run = run_with(dataset, caller, pools, Candidate("How many clips are left?", "", "two"), Candidate(FAR, "", "far"))
    exam = evaluation(caller, QUESTION)
    outcome = decontaminate(pools, caller, dataset, [exam], action="flag")
    (match,) = matches(outcome)
    assert (match.kind, match.field, round(match.score, 4)) == ("embedding", None, 1.0)
    with transaction() as session:
        flagged = session.get(Record, match.record_id)
        assert (flagged.tags["contaminated"], flagged.status) == (exam, "accepted")
    outcome = decontaminate(pools, caller, dataset, [exam], action="drop")
    assert outcome.result["contaminated_rows"] == 1
    assert rows(run) == {"two": ("rejected", "contaminated"), "far": ("accepted", None)}
    check_books(dataset, run)
    with transaction() as session:
        dropped = session.get(Record, match.record_id)
        assert dropped.nearest_text == QUESTION and dropped.detail == {"value": 1.0, "threshold": 0.9}
        assert dropped.decision == 2
    assert decontaminate(pools, caller, dataset, [exam], action="drop").result["contaminated_rows"] == 0


def test_a_seed_can_be_dropped_and_the_books_still_balance(dataset, caller, pools):
    run = run_with(dataset, caller, pools, Candidate(FAR, "", "far"))
    with transaction() as session:
        seed = session.scalar(
            select(Record)
            .where(Record.dataset_id == dataset.id, Record.origin == "seed")
            .order_by(Record.pool_position)
        )
        before = session.get(Dataset, dataset.id).seed_count
    outcome = decontaminate(pools, caller, dataset, [evaluation(caller, seed.instruction)], action="drop")
    assert outcome.result["contaminated_rows"] == 1
    with transaction() as session:
        assert session.get(Record, seed.id).reason == "contaminated"
        assert session.get(Dataset, dataset.id).seed_count == before - 1
    check_books(dataset, run)


def test_unknown_sets_and_nothing_to_look_for_are_refused(dataset, caller):
    with pytest.raises(AppError, match="evs_nothing"), transaction() as session:
        service.decontaminate(session, caller, dataset.id, DecontaminationCreate(evaluation_sets=["evs_nothing"]))
    nothing = DecontaminationCreate(evaluation_sets=[evaluation(caller, "x")], ngram=None, semantic_threshold=None)
    with pytest.raises(AppError, match="the search has no method"), transaction() as session:
        service.decontaminate(session, caller, dataset.id, nothing)


def other_encoder(texts) -> np.ndarray:
    both = [hash_encoder(texts), hash_encoder([text[::-1] for text in texts])]
    return (np.concatenate(both, axis=1) / np.sqrt(2)).astype(np.float32)


def test_a_dataset_is_encoded_anew_all_at_once(dataset, caller, pools):
    run = run_with(dataset, caller, pools, *CANDIDATES)
    after = Pools(encoders(other_encoder, revision="2", dimensions=64))
    outcome = run_job(after, caller, service.reencode, dataset.id, ReencodeCreate())
    assert (outcome.result["before"]["revision"], outcome.result["after"]["dimensions"]) == ("1", 64)
    with transaction() as session:
        assert session.get(Dataset, dataset.id).encoding["revision"] == "2"
        for row in session.scalars(select(Record).where(Record.dataset_id == dataset.id)):
            if row.embedding is not None:
                assert row.embedding == other_encoder([row.instruction])[0].tobytes()
        assert session.scalar(select(NewEmbedding)) is None
    # Admission goes on with the new vectors, also in a worker that held the old ones.
    after._cached.update(pools._cached)
    assert rows(run_with(dataset, caller, after, Candidate(f"Say {unlike(9)}", "", "new")))["new"][0] == "accepted"
    assert outcome.done_rows == outcome.rows > len(rows(run))


def test_encoding_anew_waits_for_nobody_and_lets_nobody_in(dataset, caller, pools):
    with transaction() as session:
        order = service.reencode(session, caller, dataset.id, ReencodeCreate())
    with pytest.raises(AppError, match="encoded anew"), transaction() as session:
        dataset_store.refuse_while_encoding(session, dataset.id)
    with pytest.raises(AppError) as refused, transaction() as session:
        service.reencode(session, caller, dataset.id, ReencodeCreate())
    assert refused.value.status == 409
    runner.work(KINDS[order.kind], order.id, pools)
    with pytest.raises(AppError, match="unheard-of"), transaction() as session:
        service.reencode(session, caller, dataset.id, ReencodeCreate(encoder="unheard-of"))
