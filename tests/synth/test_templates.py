"""The template library: every phrasing of every task renders, strictly, in both languages."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.methods import task_families, templates
from app.synth.methods.task_families import (
    FAMILIES,
    LANGUAGES,
    Phrasing,
    add_demonstrations,
    check_fields,
    choose_phrasing,
    load_family,
    render,
)
from app.synth.methods.templates import Options, mixture
from app.synth.types import Batch, Source
from tests.fakes import FakeTeacher, nothing_known

ALL = [(task, language) for task in FAMILIES for language in LANGUAGES]


def test_there_are_enough_of_them():
    assert len(FAMILIES) >= 12
    for task, language in ALL:
        ways = load_family(task).phrasings[language]
        assert sum(not way.inverse for way in ways) >= 8, (task, language)
        assert len({(item.instruction, item.input, item.output) for item in ways}) == len(ways)


@pytest.mark.parametrize(("task", "language"), ALL)
def test_every_phrasing_renders_its_sample(task, language):
    kind, row = load_family(task), load_family(task).samples[language]
    check_fields(task, row)
    for phrasing in kind.phrasings[language]:
        assert phrasing.fields <= set(kind.fields)
        filled = render(phrasing, row)
        assert filled.instruction.strip() and filled.output.strip()
        assert "{{" not in filled.instruction + filled.input + filled.output
        fixed = phrasing.instruction.replace("{{question}}", "가" if language == "ko" else "a")
        assert any("가" <= c <= "힣" for c in fixed) == (language == "ko")


def test_known_labels_become_words_of_the_language():
    rows = {"en": ("positive", "negative"), "ko": ("긍정", "부정")}
    for language, (good, bad) in rows.items():
        one = load_family("sentiment").phrasings[language][0]
        said = [
            render(one, {"text": "x", "label": label}).output
            for label in (1, "pos" if language == "en" else "positive", 0, "mixed")
        ]
        assert said == [good, good, bad, "mixed"]


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("sentiment", {"text": "x"}, "sentiment rows need the fields text, label; label is missing"),
        ("sentiment", {"text": "x", "label": "y", "z": 1}, "'z' is none of them"),
        ("sentiment", {"text": " ", "label": "y"}, "text is empty"),
        ("sentiment", {"text": None, "label": "y"}, "must be a text, a number, or a list"),
        ("ner", {"text": "x", "entities": []}, "must be a text, a number, or a list"),
        ("ner", {"text": "x", "entities": [{"text": "a"}]}, "neither a text nor"),
        ("ner", {"text": "x", "entities": {"text": "a"}}, "must be a text"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_in_words(task, row, words):
    with pytest.raises(ValueError, match=words):
        check_fields(task, row)


def test_lists_are_written_out():
    row = {"text": "x", "entities": [{"text": "서울", "label": "장소"}, "부산"]}
    assert render(load_family("ner").phrasings["ko"][0], row).output == "서울 (장소), 부산"


def test_a_missing_field_is_an_error_and_an_unknown_task_too():
    with pytest.raises(ValueError, match="needs the field label"):
        render(load_family("sentiment").phrasings["en"][0], {"text": "x"})
    with pytest.raises(KeyError, match="no task 'nope'"):
        load_family("nope")


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=40))
def test_what_is_filled_in_is_never_read_again(text, label):
    row = {"text": text + "{{label}}", "label": label + "{{text}}"}
    one = Phrasing("t/en/1", "topic", "en", "Which topic?", "{{text}}", "{{label}}")
    filled = render(one, row)
    assert (filled.input, filled.output) == (row["text"], row["label"])


def test_few_shot_examples_stand_before_the_input():
    one = load_family("topic").phrasings["en"][0]
    shown = [render(one, {"text": f"text {n}", "label": f"label {n}"}) for n in range(2)]
    own = render(one, {"text": "mine", "label": "secret"})
    told = add_demonstrations(own, shown, "en")
    assert told.input.index("text 0") < told.input.index("label 1") < told.input.index("mine")
    assert "secret" not in told.input and (told.instruction, told.output) == (own.instruction, "secret")
    assert "예시" in add_demonstrations(own, shown, "ko").input


def test_inverse_phrasings_are_drawn_in_their_share():
    rng = random.Random(1)
    drawn = [choose_phrasing("sentiment", "en", rng, 0.2).inverse for _ in range(1000)]
    assert sum(drawn) / 1000 == pytest.approx(0.2, abs=0.04)
    assert not any(choose_phrasing("paraphrase", "en", rng, 1.0).inverse for _ in range(10))
    assert choose_phrasing("sentiment", "fr", rng).language == "en"


def rows_of(sources, language="en", **options):
    batch = Batch(Options(**options), language, 1, len(sources), sources=sources, conditioning={"shown": sources})
    teacher = FakeTeacher()
    candidates = asyncio.run(templates.propose(batch, teacher, nothing_known)).candidates
    assert teacher.prompts == []
    return candidates


SOURCES = tuple(Source(f"src_{n}", "sentiment", {"text": f"text {n}", "label": n % 2}) for n in range(20))


def test_a_run_of_templates_asks_nobody_and_names_its_source():
    rows = rows_of(SOURCES)
    assert [row.parents[0] for row in rows] == [source.id for source in SOURCES]
    assert all(row.scope == "row" and row.rejection is None and row.tags["task_type"] == "sentiment" for row in rows)
    assert len({row.operation for row in rows}) > 4


def test_demonstrations_are_other_rows_of_the_task():
    for row in rows_of(SOURCES, demonstrations=3):
        assert len(row.parents) == 4 and row.parents[0] not in row.parents[1:]
        assert row.input.count("Output:") == 3


def test_the_mixture_follows_size_weight_and_temperature():
    sizes = {"a": 1000, "b": 10, "c": 100_000}
    by_size = mixture(sizes, Options())
    assert by_size["a"] / by_size["b"] == 100 and by_size["c"] == 3000
    even = mixture(sizes, Options(mixing_temperature=100))
    assert even["a"] / even["b"] == pytest.approx(1, abs=0.06)
    weighed = mixture({"nli": 10, "ner": 10}, Options(weights={"nli": 3, "ner": 0}))
    assert weighed == {"nli": 30}


def test_options_are_checked():
    with pytest.raises(ValueError, match="no task 'nope'"):
        Options(tasks=("nope",))
    assert tuple(sorted(task_families.FAMILIES)) == task_families.FAMILIES
