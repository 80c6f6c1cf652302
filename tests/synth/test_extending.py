"""What a caller brings in without code: operations, criteria of a judge, prompts. And how each is seen beforehand."""

import asyncio
import json
import random

import pytest
from pydantic import ValidationError

from app import synth
from app.synth.methods import evol_instruct
from app.synth.methods.material import draw_plan, load_plan
from app.synth.methods.operations import OPERATIONS, WEIGHTS
from app.synth.methods.preview import CLOSING, OPENING, has_placeholders, preview
from app.synth.methods.registry import METHODS
from app.synth.notebook.in_memory_material import InMemoryMaterial, as_parents, as_passages, as_sources
from app.synth.prompting.prompts import fields_of, template
from app.synth.quality.judging import finish
from app.synth.quality.options import ASPECTS, MethodOptions
from app.synth.quality.re_evaluate import may_be_lifted, re_evaluate
from app.synth.types import Batch, Candidate, Parent, Prompt
from tests.fakes import FakeTeacher, nothing_known, unlike

RHYME = {"name": "rhyme", "kind": "depth", "text": "Ask for an answer in verse: {{instruction}} of four lines."}
PARENT = Parent("r1", "Name three rivers", "", "Rhine, Rhone, Po", "r1")
JUDGED = {"question": True, "answer": True}


def evolved(options: dict, **replies) -> tuple[list[Candidate], list[Prompt]]:
    told = {"instruction": "Name three rivers in verse, each with its source", "input": ""}
    answer = " ".join(unlike(number) for number in range(9))
    teacher = FakeTeacher(evolve=json.dumps(told), evol_equal='{"equal": false}', answer=answer)
    teacher.replies |= replies
    given = {"rounds": 1, "operations": {}, "custom_operations": [RHYME]} | options
    batch = Batch(evol_instruct.Options(**given), "en", 1, parents=(PARENT,))
    proposal = asyncio.run(METHODS["evol_instruct"].propose(batch, teacher, nothing_known))
    return list(proposal.candidates), teacher.prompts


def test_an_operation_of_the_callers_own_is_rendered_as_it_stands_and_told_in_the_lineage():
    (row,), prompts = evolved({})
    # Its braces are text: what is filled in is never looked at again.
    assert RHYME["text"] in prompts[0].user and "<instruction>Name three rivers</instruction>" in prompts[0].user
    assert (row.operation, row.rejection) == ("rhyme", None)
    evolve = row.templates[0]
    assert evolve.startswith("evol_depth.en.txt@") and "+operation:rhyme@" in evolve
    (other,), _ = evolved({"custom_operations": [RHYME | {"text": "Ask for an answer in prose only."}]})
    assert other.templates[0] != evolve and other.templates[0].split("+")[0] == evolve.split("+")[0]


def test_an_operation_in_breadth_has_its_prompt_and_no_ancestors_to_resemble():
    (deep,), _ = evolved({})
    (broad,), prompts = evolved({"custom_operations": [RHYME | {"kind": "breadth"}]})
    assert prompts[0].template.startswith("evol_breadth")
    assert (deep.resembles, broad.resembles) == (("r1",), ())


def test_words_of_the_prompt_have_no_place_in_a_child_of_a_custom_operation():
    leaked = json.dumps({"instruction": "The rewritten instruction: rivers", "input": ""})
    (row,), _ = evolved({}, evolve=leaked)
    assert row.rejection.reason == "leaks_prompt"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "deepening"},
        {"name": "Rhyme"},
        {"name": ""},
        {"text": "short"},
        {"text": "          \n         "},
        {"text": "x" * 2001},
        {"kind": "height"},
        {"weight": -1},
        {"weight": float("nan")},
        {"more": 1},
    ],
)
def test_an_operation_that_cannot_be_is_refused(change):
    with pytest.raises(ValidationError):
        evol_instruct.Options(custom_operations=[RHYME | change])


def test_names_stand_once_and_something_has_to_be_drawn():
    for given in ({"custom_operations": [RHYME, RHYME]}, {"operations": {}}, {"operations": {"topic": 0}}):
        with pytest.raises(ValidationError):
            evol_instruct.Options(**given)
    assert evol_instruct.Options(operations={}, custom_operations=[RHYME]).weights == {"rhyme": 1.0}
    assert evol_instruct.Options(custom_operations=[RHYME]).weights == WEIGHTS | {"rhyme": 1.0}


def test_a_new_operation_changes_no_default_run():
    before = evol_instruct.Options().weights
    OPERATIONS["analogy"] = "depth"
    try:
        assert evol_instruct.Options().weights == before == WEIGHTS
        assert evol_instruct.Options(operations={"analogy": 1}).weights == {"analogy": 1}
    finally:
        del OPERATIONS["analogy"]
    assert set(WEIGHTS) <= set(OPERATIONS)


TONE = {"name": "tone", "description": "the answer is friendly and speaks to the reader.", "minimum": 4}
ROW = Candidate("Name a river", "", "The Rhine is a river of Europe.")


def judged(verdict: dict, language="en", **judging) -> tuple[Candidate, Prompt]:
    teacher = FakeTeacher(judge_answer=json.dumps({"rationale": "So.", "difficulty": 2, "topic": "rivers"} | verdict))
    options = MethodOptions(rules="none", judging={"answer": True, "rubric": [TONE]} | judging)
    row = asyncio.run(finish(Batch(options, language, 1), ROW, "0", teacher))
    return row, teacher.prompts[0]


ALL_FOUR = dict.fromkeys(ASPECTS, 4)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (ALL_FOUR | {"tone": 5}, None),
        (ALL_FOUR | {"tone": 3}, "low_tone"),
        (ALL_FOUR | {"tone": 4, "clarity": 1}, "low_clarity"),
        (ALL_FOUR, "unjudged"),
    ],
)
def test_a_criterion_stands_beside_the_aspects(verdict, reason):
    row, prompt = judged(verdict)
    assert (row.rejection.reason if row.rejection else None) == reason
    assert "tone: the answer is friendly" in prompt.user
    assert set(prompt.schema["properties"]) == {"rationale", *ASPECTS, "tone", "difficulty", "topic"}
    if reason != "unjudged":
        assert row.scores["judge.tone"] == verdict["tone"]
        assert row.scores["judge.overall"] == pytest.approx(sum(verdict.values()) / 6, abs=1e-4)
    assert row.templates[-1].startswith("judge_answer.en.txt@") and "+rubric@" in row.templates[-1]


def test_a_rubric_may_take_the_place_of_the_aspects_in_either_language():
    english, prompt = judged({"tone": 5}, aspects=())
    assert english.rejection is None and english.scores["judge.overall"] == 5
    assert prompt.user.startswith("Score these in the place of the five aspects")
    korean, prompt = judged({"tone": 5}, "ko", aspects=())
    assert korean.rejection is None and prompt.user.startswith("위의 다섯 항목 대신")


def test_without_a_rubric_the_judge_is_asked_as_before():
    teacher = FakeTeacher(judge_answer=json.dumps(ALL_FOUR))
    batch = Batch(MethodOptions(rules="none", judging={"answer": True}), "en", 1)
    row = asyncio.run(finish(batch, ROW, "0", teacher))
    assert teacher.prompts[0].user.startswith("<instruction>") and "+" not in row.templates[-1]


@pytest.mark.parametrize(
    "judging",
    [
        {"rubric": [TONE, TONE]},
        {"rubric": [TONE | {"name": "clarity"}]},
        {"rubric": [TONE | {"name": "topic"}]},
        {"rubric": [TONE | {"name": "model_dump"}]},
        {"rubric": [TONE | {"name": "copy"}]},
        {"rubric": [TONE | {"name": "Tone of voice"}]},
        {"rubric": [TONE | {"minimum": 6}]},
        {"rubric": [TONE | {"description": ""}]},
        {"aspects": []},
    ],
)
def test_a_rubric_that_cannot_be_is_refused(judging):
    with pytest.raises(ValidationError):
        MethodOptions(judging=judging)


def test_the_rubric_is_asked_again_without_a_teacher():
    options = MethodOptions(rules="none", judging={"answer": True, "aspects": [], "rubric": [TONE]})
    row = Candidate("Name a river", "", "The Rhine.", scores={"judge.tone": 3.0, "judge.overall": 4.0})
    assert re_evaluate(row, "en", options, None, {}).reason == "low_tone" and may_be_lifted("low_tone")
    assert re_evaluate(row, "en", options, None, {"judge.tone": 2}) is None


ANSWER = {"system": "You are a captain. Answer as one.", "user": "Aye: {{instruction}}{{input}} (in {{language}})"}


def answered(prompts: dict, instruction="Why is tea hot?") -> tuple[Candidate, Prompt]:
    teacher = FakeTeacher(answer="Because it was boiled, aye.")
    options = METHODS["responses"].options(prompts=prompts)
    batch = Batch(options, "en", 1, parents=(Parent("r1", instruction),))
    (row,) = asyncio.run(METHODS["responses"].propose(batch, teacher, nothing_known)).candidates
    return row, teacher.prompts[0]


def test_a_prompt_of_the_callers_own_takes_the_place_of_the_built_in_one():
    row, prompt = answered({"answer": ANSWER})
    assert (prompt.system, prompt.user) == (ANSWER["system"], "Aye: Why is tea hot? (in English)")
    assert row.templates[0].startswith("custom:answer@")
    half, prompt = answered({"answer": {"system": ANSWER["system"]}})
    assert prompt.system == ANSWER["system"] and prompt.user == answered({})[1].user
    assert half.templates[0].startswith("custom:answer@") and half.templates != row.templates


def test_what_is_filled_in_is_never_looked_at_again():
    _, prompt = answered({"answer": ANSWER}, "{{language}} {0.__class__} ${HOME} {% if %}")
    assert prompt.user == "Aye: {{language}} {0.__class__} ${HOME} {% if %} (in English)"


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            {"nope": ANSWER},
            "no prompt 'nope'; this method has answer, answer_steps, answers, answers_steps, judge_list",
        ),
        ({"evol_depth": ANSWER}, "no prompt"),
        ({"answer": {}}, "give system, user or both"),
        ({"answer": {"user": "{{instruction}}{{input}}"}}, "lacks the fields {{language}}"),
        ({"answer": {"user": ANSWER["user"] + "{{more}}"}}, "has the fields {{more}}"),
        ({"answer": {"system": "{{language}}"}}, "takes no fields"),
        ({"answer": {"user": "x" * 20_001}}, "20000"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(prompts, message):
    with pytest.raises(ValidationError) as caught:
        METHODS["responses"].options(prompts=prompts)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_prompts_of_a_method_have_the_same_fields_in_every_language(method):
    for name in method.options.all_prompt_names():
        fields = fields_of(name)
        for language in ("en", "ko"):
            page = template(name, language)
            assert page.render(**dict.fromkeys(fields, "x"))


def batch_of(name: str, options: dict, language="en") -> Batch:
    seeds = synth.load_seeds("english")
    material = InMemoryMaterial(
        seeds=seeds,
        records=[*as_parents(seeds), Parent("u", "Why is tea hot?")],
        labelled=as_sources({"sentiment": [{"text": "Fine soup!", "label": 1}]}),
        passages=as_passages([("Bridges", "The bridge was opened in 1900 and carries trains. " * 20)]),
    )
    method, checked = METHODS[name], METHODS[name].options(**options)
    plan, _ = draw_plan(material, {}, name, checked, 0, 0, method.batch_size(checked), random.Random(0))
    return load_plan(material, plan, checked, language)


# All prompts of each method, over these options.
EVERYTHING = {
    "self_instruct": (
        {"judging": JUDGED},
        {"classification": "own_call"},
        {"instances": "together"},
        {"variant": "one_call"},
    ),
    "evol_instruct": ({"judging": JUDGED},),
    "responses": (
        {"answers": 3, "answer_calls": "one_each", "choose_by": "comparison", "steps_share": 0.5, "judging": JUDGED},
        {"answers": 3, "steps_share": 0.5},
    ),
    "dialogue": ({"topics": ["tea"], "judging": JUDGED}, {}),
    "templates": ({"judging": {"answer": True}},),
    "documents": ({"judging": {"answer": True}}, {"faithfulness_calls": "one_each"}),
    "safety": ({"judging": {"answer": True}},),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_preview_shows_every_request_that_the_options_bring_about(name):
    shown = set()
    for options in EVERYTHING[name]:
        prompts = asyncio.run(preview(METHODS[name], batch_of(name, options)))
        shown |= {prompt.template.partition(".")[0] for prompt in prompts}
        assert not has_placeholders(prompts[0])
    assert shown == set(METHODS[name].options.all_prompt_names())


def test_a_preview_shows_real_material_and_marks_what_only_a_reply_can_say():
    batch = batch_of("self_instruct", {"classification": "own_call"})
    prompts = asyncio.run(preview(METHODS["self_instruct"], batch))
    steps = [prompt.step for prompt in prompts]
    assert steps == ["instructions", "classification", "instances", "instances"]
    seeds = [seed.instruction for seed in synth.load_seeds("english")]
    assert any(" ".join(text.split()) in prompts[0].user for text in seeds)
    assert f"{OPENING}instructions of the reply to instructions{CLOSING}" in prompts[1].user
    assert has_placeholders(prompts[1]) and not has_placeholders(prompts[0])


@pytest.mark.parametrize(
    ("method", "options", "name", "instead"),
    [
        ("self_instruct", {}, "self_instruct_classification", "self_instruct_instructions"),
        ("self_instruct", {}, "self_instruct_instructions_only", "self_instruct_instructions"),
        (
            "self_instruct",
            {"classification": "own_call"},
            "self_instruct_instructions",
            "self_instruct_instructions_only",
        ),
        ("responses", {"answers": 2}, "answer", "answers"),
        ("documents", {}, "judge_faithfulness", "judge_faithfulness_list"),
        ("documents", {"faithfulness_calls": "one_each"}, "judge_faithfulness_list", "judge_faithfulness"),
    ],
)
def test_a_prompt_that_the_options_never_send_is_refused(method, options, name, instead):
    prompts = {name: {"system": "Be brief."}}
    with pytest.raises(ValidationError, match=f"send {instead} in the place of {name}"):
        METHODS[method].options.model_validate(options | {"prompts": prompts})
    METHODS[method].options.model_validate(options | {"prompts": {instead: {"system": "Be brief."}}})


def test_a_preview_shows_the_instances_of_both_answers_of_the_classification_in_one_call():
    prompts = asyncio.run(preview(METHODS["self_instruct"], batch_of("self_instruct", {})))
    names = [prompt.template.partition(".")[0] for prompt in prompts]
    assert names == ["self_instruct_instructions", "self_instruct_output_first", "self_instruct_input_first"]


def test_the_first_request_of_a_preview_is_the_first_that_a_run_makes():
    options = {"classification": "own_call", "prompts": {"self_instruct_classification": {"system": "Sort."}}}
    batch = batch_of("self_instruct", options)
    teacher = FakeTeacher()
    asyncio.run(METHODS["self_instruct"].propose(batch, teacher, nothing_known))
    shown = asyncio.run(preview(METHODS["self_instruct"], batch))
    assert shown[0] == teacher.prompts[0]
    assert shown[1].system == "Sort." and shown[1].template.startswith("custom:self_instruct_classification@")


def test_a_preview_shows_each_operation_and_criterion_of_the_caller():
    options = {"custom_operations": [RHYME], "judging": {"answer": True, "rubric": [TONE]}}
    prompts = asyncio.run(preview(METHODS["evol_instruct"], batch_of("evol_instruct", options)))
    assert any(RHYME["text"] in prompt.user for prompt in prompts)
    assert any("tone: the answer is friendly" in prompt.user for prompt in prompts)


def test_options_stored_before_are_read():
    stored = {"operations": {"deepening": 1.0}, "judging": {"answer": True, "aspects": ["clarity"]}, "rules": None}
    options = evol_instruct.Options.model_validate(stored)
    assert (options.custom_operations, options.prompts, options.judging.rubric) == ((), {}, ())
    assert evol_instruct.Options.model_validate(options.model_dump(mode="json")) == options
