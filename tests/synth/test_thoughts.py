"""A thought is told from the answer, in each markup that today's models and servers write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from app.synth.prompting.replies import read_items, read_object, read_text
from app.synth.thoughts import separate_thought, split_thought
from app.synth.types import Rejection, Reply, Usage

DRAFT, FINAL = '{"is_classification": true}', '{"is_classification": false}'
MARKED = {
    "deepseek, qwen": f"<think>\nMaybe {DRAFT}? No.\n</think>\n\n{FINAL}",
    "opened by the template": f"Maybe {DRAFT}? No.\n</think>\n\n{FINAL}",
    "upper case": f"<THINK>Maybe {DRAFT}? No.</THINK>{FINAL}",
    "nested": f"<think>Maybe <think>{DRAFT}</think>? No.</think>{FINAL}",
    "opened twice": f"<think>Maybe <think>{DRAFT}? No.</think>{FINAL}",
    "closed twice": f"<think>Maybe</think>{DRAFT}? No.</think>{FINAL}",
    "two thoughts": f"<think>Maybe</think>{DRAFT}\n<think>No.</think>\n{FINAL}",
    "after a greeting": f"Sure, let me see.\n<think>Maybe {DRAFT}? No.</think>\n{FINAL}",
    "answer in tags": f"<think>Maybe {DRAFT}? No.</think>\n<answer>{FINAL}</answer>",
    "escaped by a proxy": f"&lt;think&gt;Maybe {DRAFT}? No.&lt;/think&gt;\n{FINAL}",
    "magistral": f"[THINK]Maybe {DRAFT}? No.[/THINK]{FINAL}",
    "seed-oss": f"<seed:think>Maybe {DRAFT}? No.</seed:think>{FINAL}",
    "kimi-vl": f"◁think▷Maybe {DRAFT}? No.◁/think▷{FINAL}",
    "exaone": f"<thought>\nMaybe {DRAFT}? No.\n</thought>\n\n{FINAL}",
    "thinking": f"<thinking>Maybe {DRAFT}? No.</thinking>{FINAL}",
    "reasoning": f"<reasoning>Maybe {DRAFT}? No.</reasoning>{FINAL}",
    "openthinker": (
        f"<|begin_of_thought|>Maybe {DRAFT}? No.<|end_of_thought|>\n<|begin_of_solution|>{FINAL}<|end_of_solution|>"
    ),
    "command a": f"<|START_THINKING|>Maybe {DRAFT}? No.<|END_THINKING|><|START_RESPONSE|>{FINAL}<|END_RESPONSE|>",
    "apertus": f"<|inner_prefix|>Maybe {DRAFT}? No.<|inner_suffix|>{FINAL}",
    "gemma": f"<|channel>thought\nMaybe {DRAFT}? No.\n<channel|>{FINAL}",
    "gpt-oss": (
        f"<|channel|>analysis<|message|>Maybe {DRAFT}? No.<|end|><|start|>assistant<|channel|>final<|message|>{FINAL}"
        "<|return|>"
    ),
    "gpt-oss without special tokens": f"analysisMaybe {DRAFT}? No.assistantfinal{FINAL}",
    "granite": f"Here is my thought process: Maybe {DRAFT}? No. Here is my response: {FINAL}",
    "html": f'<details type="reasoning" done="true">\nMaybe {DRAFT}? No.\n</details>\n{FINAL}',
}
CUT = {
    "opened": f"<think>Maybe {DRAFT}? But",
    "gpt-oss": f"<|channel|>analysis<|message|>Maybe {DRAFT}? But",
    "magistral": f"[THINK]Maybe {DRAFT}? But",
}


class Classification(BaseModel):
    is_classification: bool


@pytest.mark.parametrize("text", MARKED.values(), ids=MARKED)
def test_the_answer_after_the_thought_is_read_and_not_the_draft_inside_it(text):
    reply = separate_thought(Reply(text), ("is_classification",))
    assert read_object(reply, Classification) == Classification(is_classification=False)
    assert read_text(reply) == FINAL
    assert DRAFT in reply.thought and reply.raw_text == text
    assert separate_thought(reply, ("is_classification",)) == reply


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_thought_that_was_cut_is_no_answer(text):
    reply = separate_thought(Reply(text, finish_reason="length"))
    assert read_object(reply, Classification) == read_text(reply)
    assert read_text(reply).reason == "cut_in_thought"


def test_a_thought_without_an_answer_says_so():
    rejection = read_text(separate_thought(Reply("<think>I am done.</think>")))
    assert rejection == Rejection("thought_without_answer", "I am done.")


def test_a_cut_reply_of_a_template_that_opens_the_thought_is_all_thought():
    cut = Reply('Maybe {"instances": ["a"]}, but', finish_reason="length")
    assert separate_thought(cut, opened_in_prompt=True).text == ""
    # Only its end tells whether a whole reply of such a teacher is a thought; this one has an answer.
    whole = Reply("Paris.", finish_reason="stop")
    assert separate_thought(whole, opened_in_prompt=True) == whole
    in_a_field = Reply('{"instances": ["a"', finish_reason="length", thought="Maybe.")
    assert separate_thought(in_a_field, opened_in_prompt=True).text == in_a_field.text


@pytest.mark.parametrize(
    "text",
    [
        "The `<think>` tag opens a thought and `</think>` closes it.",
        "Qwen3 writes this:\n\n```\n<think>\nHmm.\n</think>\n\nYes.\n```\n\nIt can be switched off.",
        "Analysis of the figures: sales fell.",
        "I think that the answer is <b>4</b>.",
        "<ol><li>reasoning</li></ol>",
    ],
)
def test_an_answer_about_thoughts_stays_whole(text):
    assert separate_thought(Reply(text)) == Reply(text)


def test_the_parts_that_a_prompt_asks_for_are_no_thought():
    text = "<reasoning>4 is even.</reasoning>\n<output>yes</output>"
    assert split_thought(text, ("reasoning", "output")).answer == text
    thinking = split_thought(f"<think>Hmm.</think>\n{text}", ("reasoning", "output"))
    assert (thinking.thought, thinking.answer) == ("Hmm.", text)


def test_the_tokens_of_a_thought_are_those_of_the_server_or_a_share_by_length():
    text = f"<think>{'a' * 96}</think>abcd"
    assert separate_thought(Reply(text, usage=Usage(10, 0, 50))).usage == Usage(10, 0, 50, 48)
    assert separate_thought(Reply(text, usage=Usage(10, 0, 50, 40))).usage.thought == 40


def test_items_inside_a_thought_are_not_read():
    reply = separate_thought(Reply('<think>["x"] or {"items": [true]}</think>{"items": [false]}'), ("items",))
    items, faults = read_items(reply, "items", Item)
    assert [item.model_dump() for item in items] == [] and faults[0].reason == "malformed_reply"


class Item(BaseModel):
    name: str


PLAIN = st.text(st.characters(exclude_characters="<>[]&◁▷|`~", exclude_categories=("Cs",))).map(str.strip)
MARKERS = [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<thinking>", "</thinking>"), ("◁think▷", "◁/think▷")]


@given(PLAIN.filter(lambda text: not text.lower().startswith(("analysis", "here is my"))))
def test_a_text_without_markup_is_an_answer(text):
    assert separate_thought(Reply(text)) == Reply(text)


@given(PLAIN, PLAIN.filter(lambda text: not text.startswith("Here is my")), st.sampled_from(MARKERS))
def test_a_marked_thought_and_its_answer_come_apart(thought, answer, markers):
    split = split_thought(f"{markers[0]}{thought}{markers[1]}{answer}")
    assert (split.thought, split.answer) == (thought, answer)


PARTS = ["<think>", "</think>", "[THINK]", "[/THINK]", "\n", "`", "a", "<answer>", "</answer>"]


@given(st.lists(st.sampled_from(PARTS)))
def test_any_broken_markup_ends_and_loses_no_letter(parts):
    text = "".join(parts)
    split = split_thought(text)
    assert split.thought.count("a") + split.answer.count("a") >= text.count("a") - text.lower().count("answer")
