"""Every method from a notebook: the library without a service, on the simulated teacher's own composer."""

import pytest

from app import synth
from app.simulator.protocol import ChatRequest
from app.simulator.replies import Composer
from app.synth.methods.registry import METHODS
from tests.fakes import hash_encoder

COMPOSER = Composer(seed=1, near_duplicates=0.1)


def teacher():
    """Chat messages in, text out: the prompts say by themselves which JSON they want."""
    asked = 0

    def answer(messages: list[dict]) -> str:
        nonlocal asked
        asked += 1
        return COMPOSER.compose(ChatRequest(model="m", messages=messages), (asked,)).content

    return answer


LABELLED = {"sentiment": [{"text": f"text {n}", "label": n % 2} for n in range(30)]}
BRIDGE = "The bridge of place {n} was opened in {y} and carries {n} trains a day."
TEXTS = [("Bridges", " ".join(BRIDGE.format(n=n, y=1800 + n) for n in range(40)))]
ASKED = ("Name a river", "Why is tea hot?")
GIVEN = {
    "templates": {"labelled": LABELLED},
    "documents": {"documents": TEXTS},
    "responses": {"records": [synth.Parent(f"r{n}", text) for n, text in enumerate(ASKED)]},
}


@pytest.mark.parametrize(("language", "seeds"), [("en", "english"), ("ko", "korean")])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_grows_rows(method, language, seeds):
    target = 2 if method == "responses" else 5
    options = {"judge_faithfulness": False} if method == "documents" else {}
    grown = synth.grow(
        method,
        synth.load_seeds(seeds),
        None if method == "templates" else teacher(),
        target,
        language=language,
        options=options,
        encode=hash_encoder,
        **GIVEN.get(method, {}),
    )
    assert (len(grown.accepted), grown.stop_reason) == (target, "target_reached"), grown.reasons()
    assert all(row.instruction and row.output for row in grown.accepted)


def test_what_is_finite_ends():
    grown = synth.grow("templates", [], None, 100, labelled=LABELLED)
    assert (len(grown.accepted), grown.stop_reason) == (30, "exhausted")
    assert grown.calls == 0


def test_an_evolved_row_names_its_parent_of_the_same_lineage():
    grown = synth.grow("evol_instruct", synth.load_seeds("english"), teacher(), 12, options={"judge_equal": False})
    places = {f"row-{n}" for n in range(12)}
    deeper = [row for row in grown.accepted if row.round > 1]
    assert deeper and all(row.parents[0] in places for row in deeper)


def test_another_function_can_judge():
    asked = []

    def judge(messages):
        asked.append(messages)
        return '{"equal": false}'

    grown = synth.grow("evol_instruct", synth.load_seeds("english"), teacher(), 3, judge=judge)
    assert len(grown.accepted) == 3 and asked


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("documents", {}, "needs at least one of passages"),
        ("templates", {}, "needs at least one of labelled"),
        ("safety", {"teacher": None}, "needs a teacher"),
    ],
)
def test_what_is_missing_is_said(method, given, words):
    with pytest.raises(ValueError, match=words):
        synth.grow(method, [], given.get("teacher"), 1)
