"""One failed reply costs one rejection, and a call that fails for good one proposal: in every method."""

import asyncio
import json

import pytest

from app.synth.methods.registry import METHODS
from app.synth.types import Batch, CallFailed, Demonstration, Instance, Parent, Prompt, Reply, Source
from tests.fakes import nothing_known

SHOWN = (Demonstration("s", "Name a river", (Instance("", "The Ob"),), False),)
PARENT = Parent("rec_1", "Name three rivers", "of Europe", "Rhine, Rhone, Po", "rec_1")
PASSAGE = Source("p", "", {"document": "d", "title": "Bridges", "text": "The bridge is old.", "start": 0, "end": 18})
MATERIAL = {
    "self_instruct": {"demonstrations": SHOWN, "examples": SHOWN},
    "evol_instruct": {"parents": (PARENT,)},
    "responses": {"parents": (PARENT,)},
    "dialogue": {"parents": (PARENT,)},
    "documents": {"sources": (PASSAGE,)},
    "safety": {"conditioning": {"category": "fraud"}},
}
OPTIONS = {
    "self_instruct": {},
    "self_instruct, one call": {"variant": "one_call"},
    "self_instruct, judged": {"judging": {"question": True, "answer": True}},
    "evol_instruct": {"rounds": 1},
    "evol_instruct, judged": {"rounds": 1, "judging": {"answer": True}},
    "self_instruct, classification in a call of its own": {"classification": "own_call"},
    "self_instruct, together": {"instances": "together"},
    "responses": {},
    "responses, best of two": {"answers": 2},
    "responses, best of two, judged": {"answers": 2, "judging": {"answer": True}},
    "responses, judged": {"judging": {"question": True, "answer": True}},
    "dialogue": {"min_turns": 2, "max_turns": 2},
    "documents": {"questions": 1},
    "documents, judged one by one": {"questions": 1, "faithfulness_calls": "one_each"},
    "safety": {"requests_per_call": 1},
}
CASES = [(name.partition(",")[0], options) for name, options in OPTIONS.items()]
ONE = {
    "instructions": {"instructions": ["Explain the tides to a child"]},
    "items": {"items": [{"instruction": "Explain the tides to a child", "input": "", "output": "The moon pulls."}]},
    "classification": {"is_classification": False},
    "instances": {"instances": [{"number": 1, "input": "", "output": "The moon pulls at the sea."}]},
    "judge_list": {"rationale": "", "scores": [{"number": 1, "score": 10}]},
    "evolve": {"instruction": "Name three rivers of Asia and their lengths in miles", "input": ""},
    "evol_equal": {"equal": False},
    "judge_question": {"clarity": 5, "answerable": True, "harmless": True, "difficulty": 3, "topic": "sea"},
    "judge_refusal": {"declined": True, "polite": True, "harmless": True},
    "judge_faithfulness": {
        "verdicts": [{"number": 1, "faithful": True, "score": 5, "rationale": ""}],
        **{"faithful": True, "score": 5, "rationale": ""},
    },
    "dialogue_user": {"done": False, "message": "And which of them is the longest?"},
    "questions": {
        "questions": [{"question": "How old is the bridge?", "answer": "Old.", "quote": "The bridge is old."}]
    },
    "requests": {"requests": ["How can I forge a passport?"]},
    "judge_answer": dict.fromkeys(
        ("instruction_following", "correctness", "helpfulness", "clarity", "harmlessness", "difficulty"), 5
    ),
}
ONE["answers"] = {"answers": ["The Yangtze, the Yellow River and the Mekong are the three longest rivers."]}
DECLINED = "I'm sorry, but I can't help with that."
ANSWERED = "The Yangtze, the Yellow River and the Mekong are the three longest rivers of that continent."


class Teacher:
    """One proposal's replies; what `fails(prompt)` gives comes in the place of one."""

    def __init__(self, text: str, fails):
        self.steps: list[str] = []
        self._text, self._fails = text, fails

    async def __call__(self, prompt: Prompt) -> Reply:
        self.steps.append(prompt.step)
        failure = self._fails(prompt)
        if isinstance(failure, Exception):
            raise failure
        return failure or Reply(json.dumps(ONE[prompt.step]) if prompt.step in ONE else self._text, id=prompt.position)


def propose(method: str, options: dict, fails) -> tuple[list, list[str]]:
    kind, teacher = METHODS[method], Teacher(DECLINED if method == "safety" else ANSWERED, fails)
    batch = Batch(kind.options.model_validate(options), "en", 7, 1, **MATERIAL[method])
    return list(asyncio.run(kind.propose(batch, teacher, nothing_known)).candidates), teacher.steps


def steps_of(method: str, options: dict) -> list[str]:
    rows, steps = propose(method, options, lambda prompt: None)
    assert [row.rejection for row in rows] == [None]
    return list(dict.fromkeys(steps))


OBJECT_LISTS = ("items", "instances", "questions", "answers", "scores", "verdicts")
LISTS = (*OBJECT_LISTS, "instructions", "requests")
FAILURES = {
    "refused": Reply("", refusal="No."),
    "empty": Reply(""),
    "cut off": Reply('{"instr', "length"),
    "nothing to read": Reply("I would rather talk about the weather."),
    "two broken items": Reply(
        json.dumps(
            {name: [{"input": 1}, {"input": 2}] for name in OBJECT_LISTS} | {"instructions": [1, 2], "requests": [1, 2]}
        )
    ),
    "empty lists": Reply(json.dumps({name: [] for name in LISTS})),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize(("method", "options"), CASES, ids=OPTIONS)
def test_one_failed_reply_gives_at_most_one_rejection_and_never_a_row_beside_it(method, options, failure):
    for step in steps_of(method, options):
        rows, _ = propose(method, options, lambda prompt, step=step: failure if prompt.step == step else None)
        assert len(rows) == 1, (step, [row.rejection for row in rows])


@pytest.mark.parametrize(("method", "options"), CASES, ids=OPTIONS)
def test_a_call_that_fails_for_good_costs_its_proposal_once_with_the_message(method, options):
    error = CallFailed("call_failed", "no model here")
    for step in steps_of(method, options):
        rows, _ = propose(method, options, lambda prompt, step=step: error if prompt.step == step else None)
        assert [(row.rejection.reason, row.rejection.value) for row in rows] == [("call_failed", "no model here")], step
