"""Questions on passages: each rests on a span that is really there."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.methods import documents
from app.synth.methods.documents import Options, find_quote
from app.synth.methods.passages import passages
from app.synth.types import Batch, CallFailed, CallsEnded, Rejection, Reply, Source
from tests.fakes import FakeTeacher, nothing_known

TEXT = "The bridge was opened in 1932.\nIt is repainted every ten years, in a green that was chosen by vote."
SOURCE = Source("src_1", "", {"document": "doc_1", "title": "Bridge", "text": TEXT, "start": 1000, "end": 1100})
FAITHFUL = json.dumps({"rationale": "It says so.", "faithful": True, "score": 5})
EACH = {"faithfulness_calls": "one_each"}


def verdicts(*items) -> str:
    return json.dumps({"verdicts": list(items)})


def verdict(number: int, faithful: object = True, score: int = 5) -> dict:
    return {"number": number, "rationale": "", "faithful": faithful, "score": score}


ALL_FAITHFUL = verdicts(*(verdict(n) for n in range(1, 4)))


def item(question="When was the bridge opened?", answer="It was opened in 1932.", quote="opened in 1932"):
    return {"question": question, "answer": answer, "quote": quote}


def ask(*items, screen=nothing_known, faithfulness=ALL_FAITHFUL, **options):
    teacher = FakeTeacher(questions=json.dumps({"questions": list(items)}), judge_faithfulness=faithfulness)
    batch = Batch(Options(**options), "en", 1, 1, sources=(SOURCE,))
    return teacher, list(asyncio.run(documents.propose(batch, teacher, screen)).candidates)


def reasons(rows):
    return [row.rejection.reason if row.rejection else None for row in rows]


def test_a_row_names_the_place_its_answer_rests_on():
    _, (row,) = ask(item())
    assert row.rejection is None
    start, end = row.source["start"] - 1000, row.source["end"] - 1000
    assert TEXT[start:end] == row.source["quote"] == "opened in 1932"
    assert (row.source["source"], row.source["document"]) == ("src_1", "doc_1")
    assert row.input == TEXT and row.scores["judge.faithfulness"] == 5


def test_the_passage_can_be_left_out_of_the_row():
    _, (row,) = ask(item(), include_passage=False)
    assert row.input == ""


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (item(quote="opened by the king himself"), "quote_not_found"),
        (item(quote=""), "quote_not_found"),
        (item(question=""), "empty_instruction"),
        (item(answer=" "), "empty_output"),
    ],
)
def test_what_is_not_grounded_is_turned_away_before_the_judge_is_paid(given, reason):
    teacher, rows = ask(given)
    assert (reasons(rows), teacher.steps()) == ([reason], ["questions"])


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ({"rationale": "", "faithful": False, "score": 5}, "unfaithful"),
        ({"rationale": "", "faithful": True, "score": 3}, "unfaithful"),
        ({"rationale": "", "faithful": "perhaps", "score": 3}, "unjudged"),
    ],
)
def test_the_judge_decides_on_faithfulness(verdict, reason):
    _, rows = ask(item(), faithfulness=json.dumps(verdict), **EACH)
    assert reasons(rows) == [reason]


def test_a_judgement_of_each_row_is_an_option():
    second = item("Which colour has the bridge?", "Green.", "a green that")
    teacher, rows = ask(item(), second, faithfulness=FAITHFUL, **EACH)
    assert (reasons(rows), teacher.steps()) == ([None, None], ["questions", *["judge_faithfulness"] * 2])


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (verdicts(verdict(2), verdict(1)), [None, None]),
        (verdicts(verdict(1), verdict(2, score=3)), ["unfaithful", None]),
        (verdicts(verdict(1, faithful=False), verdict(2)), ["unfaithful", None]),
        (verdicts(verdict(2)), ["unjudged", None]),
        (verdicts(verdict(1), {"number": 2, "faithful": True}), ["unjudged", None]),
        (verdicts(verdict(1), verdict(2, score=9)), ["unjudged", None]),
        (verdicts(verdict(1), verdict(1, score=1), verdict(7)), ["unjudged", None]),
        (Reply(verdicts(verdict(1), verdict(2))[:-20], "length"), ["unjudged", None]),
        ("nothing to read", ["unjudged", "unjudged"]),
        (Reply("", refusal="No."), ["unjudged", "unjudged"]),
    ],
)
def test_one_judgement_covers_all_questions_of_a_passage(reply, outcome):
    second = item("Which colour has the bridge?", "Green.", "a green that")
    teacher, rows = ask(item(), second, faithfulness=reply)
    assert sorted(map(str, reasons(rows))) == sorted(map(str, outcome))
    assert teacher.steps() == ["questions", "judge_faithfulness"]


def test_the_judgement_shows_each_row_under_its_number_and_new_rows_alone():
    second = item("Which colour has the bridge?", "Green.", "a green that")
    broken = item("Who opened it?", "The king.", "opened by the king himself")
    reply = verdicts(verdict(1, score=4), verdict(2, score=1))
    teacher, rows = ask(broken, item(), second, faithfulness=reply)
    by_question = {row.instruction: row for row in rows}
    assert by_question["When was the bridge opened?"].scores["judge.faithfulness"] == 4
    assert by_question["Which colour has the bridge?"].rejection.reason == "unfaithful"
    assert by_question["Who opened it?"].rejection.reason == "quote_not_found"
    judged = teacher.prompts[-1]
    assert "<row_2>\n<instruction>Which colour has the bridge?</instruction>" in judged.user
    assert "The king." not in judged.user and judged.by == "judge"


def test_a_failed_judgement_rejects_its_rows_and_ended_calls_keep_the_rejected_ones():
    def fails_with(error):
        def answer(prompt):
            raise error

        return answer

    broken = item("Who opened it?", "The king.", "opened by the king himself")
    _, rows = ask(item(), broken, faithfulness=fails_with(CallFailed("request_refused", "said no")))
    assert sorted(reasons(rows)) == ["quote_not_found", "request_refused"]
    _, rows = ask(item(), broken, faithfulness=fails_with(CallsEnded("no money")))
    assert reasons(rows) == ["quote_not_found"]
    with pytest.raises(CallsEnded):
        ask(item(), faithfulness=fails_with(CallsEnded("no money")))


def test_a_bad_item_does_not_cost_its_neighbours():
    _, rows = ask(item(), {"question": "No answer?"}, item("Which colour has the bridge?", "Green.", "a green that"))
    assert sorted(reasons(rows), key=str) == sorted([None, None, "malformed_reply"], key=str)


def test_a_question_twice_in_a_reply_or_known_to_the_pool():
    _, rows = ask(item(), item())
    assert reasons(rows) == ["repeated_in_reply", None]

    async def known(draft):
        return Rejection("duplicate_semantic", 0.95, 0.9)

    teacher, rows = ask(item(), screen=known)
    assert (reasons(rows), teacher.steps()) == (["duplicate_semantic"], ["questions"])


@pytest.mark.parametrize(
    ("quote", "quotation"),
    [
        ("The bridge was opened in 1932.", "The bridge was opened in 1932."),
        ("the  BRIDGE was\nopened", "The bridge was opened"),
        ("“opened in 1932”", "opened in 1932"),
        ("in 1932. It is repainted", "in 1932.\nIt is repainted"),
        (
            "repainted every ten years in a green that was chosen",
            "repainted every ten years, in a green that was chosen",
        ),
        ("a sentence that is not there at all", None),
        ("  ", None),
    ],
)
def test_find_quote(quote, quotation):
    span = find_quote(TEXT, quote)
    assert (None if span is None else TEXT[slice(*span)]) == quotation


@given(st.text(max_size=300), st.text(max_size=60))
def test_a_span_lies_within_its_text(text, quote):
    span = find_quote(text, quote)
    assert span is None or 0 <= span[0] <= span[1] <= len(text)


@pytest.mark.parametrize(
    "text", ["한국어 문장이 여기에 있습니다. " * 200, "One sentence follows another. " * 200 + "🙂", "x" * 5000]
)
def test_passages_are_stretches_of_the_text(text):
    chunks = passages(text)
    assert len(chunks) > 1
    assert all(text[start : start + len(passage)] == passage and len(passage) <= 1200 for start, passage in chunks)
    assert sum(len(passage) for _, passage in chunks) >= 0.95 * len(text.replace(" ", ""))
