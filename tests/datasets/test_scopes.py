"""What a dataset compares: instructions, instructions with inputs, or whole rows; and by which encoder."""

import time

import pytest
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.datasets import imports, neighbours, service
from app.datasets.admission import Origin, admit
from app.datasets.pools import EncoderMismatch, Pools
from app.datasets.schemas import DatasetCreate
from app.errors import AppError
from app.persistence.db import transaction
from app.synth.novelty.pool import comparison_text
from app.synth.types import Candidate
from app.tables.datasets import Dataset, Record
from tests.fakes import encoders, hash_encoder, unlike

TEMPLATE = "Translate this sentence into Korean"


def dataset_of(**rules) -> Dataset:
    with transaction() as session:
        caller = Caller(access.ensure_project(session, "scopes").id, "key")
        return service.create(session, caller, DatasetCreate(name=f"set {time.time_ns()}", **rules))


def offer(dataset: Dataset, pools: Pools, *candidates: Candidate, kind: str = "generated"):
    vectors = list(pools.load_encoder(dataset).encode([comparison_text(dataset.scope, c) for c in candidates]))
    with pools.precheck_and_lock(dataset.id, candidates, vectors) as offered:
        return admit(offered.session, offered.dataset, candidates, vectors, Origin(kind), offered.precheck)


def rows(dataset: Dataset, **filters) -> list[Record]:
    with transaction() as session:
        query = select(Record).where(Record.dataset_id == dataset.id).filter_by(**filters).order_by(Record.id)
        return list(session.scalars(query))


SUMMARY = Candidate("Summarise the article", f"About {unlike(1)}", "Short.")
SAME_TASK = Candidate("Summarise this article", f"On {unlike(2)}", "Brief.")
SAME_TEXT = Candidate("Summarise this article", f"About {unlike(1)}", f"Other: {unlike(3)} {unlike(4)}")


@pytest.mark.parametrize(
    ("scope", "accepted"),
    [("instruction", [True, False, False]), ("instruction_input", [True, True, False]), ("row", [True, True, True])],
)
def test_each_scope_compares_as_much_as_it_says(database, scope, accepted):
    dataset, pools = dataset_of(scope=scope, lexical_threshold=0.6), Pools(encoders())
    for candidate, kept in zip((SUMMARY, SAME_TASK, SAME_TEXT), accepted, strict=True):
        outcome = offer(dataset, pools, candidate)
        assert (outcome.accepted, dict(outcome.rejected)) == ((1, {}) if kept else (0, {"duplicate_lexical": 1}))
    # A worker that starts afresh reads the same texts back.
    fresh = Candidate("Summarise the article now", f"About {unlike(1)}", "Short.")
    assert offer(dataset, Pools(encoders()), fresh).rejected == {"duplicate_lexical": 1}


@pytest.mark.parametrize("scope", ["instruction", "instruction_input", "row"])
@pytest.mark.parametrize("kind", ["templates", "imported"])
def test_a_group_holds_thousands_of_inputs_that_are_alike(database, scope, kind):
    dataset, pools = dataset_of(scope=scope), Pools(encoders())
    how = {"scope": "row"} if kind == "templates" else {}
    inputs = [f"The cat sat on the mat number {n} in the house." for n in range(2000)]
    candidates = [Candidate(TEMPLATE, text, f"문장 {n}", **how) for n, text in enumerate(inputs)]
    origin = "generated" if kind == "templates" else "imported"
    accepted = sum(offer(dataset, pools, *candidates[n : n + 250], kind=origin).accepted for n in range(0, 2000, 250))
    assert accepted == 2000
    assert len({row.group_id for row in rows(dataset, status="accepted")}) == 1
    again = offer(dataset, pools, candidates[7], candidates[1999], kind=origin)
    assert again.rejected == {"duplicate_exact": 2}


def test_a_generated_copy_of_a_template_row_is_caught_where_inputs_count(database):
    dataset, pools = dataset_of(scope="instruction_input"), Pools(encoders())
    offer(dataset, pools, *(Candidate(TEMPLATE, f"Sentence: {unlike(n)}", "x", scope="row") for n in range(3)))
    near = Candidate(f"{TEMPLATE} now", f"Sentence: {unlike(1)}", "y")
    assert offer(dataset, pools, near).rejected == {"duplicate_lexical": 1}


def test_an_instruction_generated_again_is_a_duplicate_whatever_its_input(database):
    dataset, pools = dataset_of(), Pools(encoders())
    assert offer(dataset, pools, Candidate(TEMPLATE, "one", "하나")).accepted == 1
    assert offer(dataset, pools, Candidate(TEMPLATE, "two", "둘")).rejected == {"duplicate_lexical": 1}
    assert offer(dataset, pools, Candidate(TEMPLATE, "two", "둘"), kind="imported").accepted == 1


def test_korean_rows_are_admitted_and_their_duplicates_caught(database):
    dataset, pools = dataset_of(language="ko"), Pools(encoders())
    first = Candidate("서울의 주말 날씨를 친구에게 알려 주는 글을 쓰세요", "", "맑음")
    near = Candidate("서울의 주말 날씨를 친구에게 알려 주는 글을 써 주세요", "", "맑음")
    other = Candidate("김치찌개를 끓이는 순서를 설명하세요", "", "먼저")
    outcome = offer(dataset, pools, first, near, other)
    assert (outcome.accepted, dict(outcome.rejected)) == (2, {"duplicate_lexical": 1})


def test_the_first_who_encodes_says_how_and_others_are_refused(database):
    dataset = dataset_of(seeds={"tasks": [{"instruction": "Name a red fruit"}]})
    Pools(encoders()).prepare(dataset)
    with transaction() as session:
        assert session.get(Dataset, dataset.id).encoding["revision"] == "1"
    before = rows(dataset)
    for other in ({"revision": "2"}, {"pooling": "cls"}, {"dtype": "bfloat16"}, {"dimensions": 99}):
        with pytest.raises(EncoderMismatch, match=f"{dataset.id}/reencode"):
            Pools(encoders(**other)).prepare(dataset)
    assert [row.decision for row in rows(dataset)] == [row.decision for row in before]


def test_the_dtype_of_the_first_is_asked_of_all_others(database):
    arguments, dataset = [], dataset_of()

    def loading(name, dtype):
        arguments.append(dtype)
        return encoders(dtype="bfloat16")(name, dtype)

    Pools(loading).load_encoder(dataset)
    Pools(loading).load_encoder(dataset)
    assert arguments == [None, "bfloat16"]


def test_vectors_of_another_encoder_or_size_are_refused_before_anything_is_kept(database):
    dataset = dataset_of()
    Pools(encoders(name="all-MiniLM-L6-v2", dimensions=384)).load_encoder(dataset)
    with transaction() as session:
        dataset = session.get(Dataset, dataset.id)
    with pytest.raises(AppError, match="reencode") as refused:
        imports.check_upload_encoding(dataset, "another", None)
    assert (refused.value.status, refused.value.errors[0].pointer) == (422, "query/encoder")
    with pytest.raises(AppError, match="revision"):
        imports.check_upload_encoding(dataset, "all-MiniLM-L6-v2", "sha256:other")
    known = imports.check_upload_encoding(dataset, "all-MiniLM-L6-v2", "1")
    line = b'{"instruction": "Name a fruit", "output": "fig", "embedding": %s}'
    for vector, words in [
        (b"[1, 0, 0]", "3 dimensions; all-MiniLM-L6-v2 has 384"),
        (b"[" + b"0," * 383 + b"0]", "not all 0"),
        (b"[" + b"1e999," * 383 + b"0]", "finite"),
    ]:
        with pytest.raises(AppError, match=words) as refused:
            imports.check_lines("records", iter([line % vector]), imports.open_temporary_file(), None, known)
        assert (refused.value.status, refused.value.errors[0].pointer[:6]) == (422, "line/1")
    with pytest.raises(AppError, match="parameter encoder"):
        imports.check_lines("records", iter([line % b"[1, 0]"]), imports.open_temporary_file())


def test_pools_leave_when_they_hold_too_much_memory_and_come_back(database):
    sets = [dataset_of() for _ in range(3)]
    pools = Pools(encoders(), max_bytes=1)
    for dataset in sets:
        offer(dataset, pools, Candidate(f"Explain {unlike(dataset.id)}", "", "x"))
    assert list(pools._cached) == [sets[-1].id]
    for dataset in sets:
        assert offer(dataset, pools, Candidate(f"Explain {unlike(dataset.id)}", "", "y")).rejected.total() == 1


def test_neighbours_of_any_row_with_both_scores(database):
    dataset, pools = dataset_of(seeds={"tasks": [{"instruction": "Name a red fruit"}]}), Pools(encoders())
    assert near(rows(dataset)[0]) == []
    offer(dataset, pools, Candidate("Name a red fruit today", "", "x"), Candidate(f"Explain {unlike(1)}", "", "y"))
    pools.prepare(dataset)
    (rejected,) = rows(dataset, status="rejected")
    found = near(rejected)
    assert [item.text for item in found] == ["Name a red fruit", f"Explain {unlike(1)}"]
    assert found[0].lexical == pytest.approx(8 / 9, abs=1e-6)
    vectors = hash_encoder([rejected.instruction, found[0].text])
    assert found[0].semantic == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)


def near(row: Record, most: int = 5):
    with transaction() as session:
        return neighbours.find_neighbours(session, session.get(Record, row.id), most)
