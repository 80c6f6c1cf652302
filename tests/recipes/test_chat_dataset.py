"""Which tokens of a row are labelled."""

import json

import pytest

from workers.recipes.chat_dataset import (
    CHAT_TEMPLATE,
    IGNORED_LABEL,
    encode_dialogues,
    parse_dialogue,
    read_messages,
    render_dialogue,
    use_chat_template,
)
from workers.recipes.failures import Failure
from workers.recipes.tiny_model import END, train_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As reasoning models do: what stands before </think> is kept in the last turn only.
HISTORY_STRIPPING = CHATML.replace(
    "{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1] }}"
)


def turns(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    return ([{"role": "system", "content": system}] if system else []) + messages


@pytest.fixture
def tokenizer():
    tokenizer = train_tokenizer(["What is the capital of France? Paris.", "프랑스의 수도는 파리입니다."] * 3, 512)
    use_chat_template(tokenizer)
    return tokenizer


def labelled_texts(row: dict, tokenizer) -> list[str]:
    """Return the labelled spans of a row as text."""
    texts, current = [], []
    for token, label in zip([*row["input_ids"], 0], [*row["labels"], IGNORED_LABEL], strict=True):
        if label != IGNORED_LABEL:
            assert label == token
            current.append(token)
        elif current:
            texts.append(tokenizer.decode(current))
            current = []
    return texts


@pytest.mark.parametrize(
    ("dialogue", "template", "expected"),
    [
        (turns("What is it?", "Paris."), CHAT_TEMPLATE, ["Paris." + END]),
        (turns("무엇입니까?", " 파리입니다.\n"), CHAT_TEMPLATE, ["파리입니다." + END]),
        (turns("A?", "B.", "C?", "D.", system="Be brief."), CHAT_TEMPLATE, ["B." + END, "D." + END]),
        (turns("A?", "B.", "C?", "D."), CHATML, ["B.<|im_end|>\n", "D.<|im_end|>\n"]),
        (turns("A?", "hm</think>B.", "C?", "hm</think>D."), HISTORY_STRIPPING, ["hm</think>D.<|im_end|>\n"]),
        (turns("A?", "B."), CHATML.replace("assistant\n{% e", "assistant\n<think>{% e"), ["B.<|im_end|>\n"]),
    ],
    ids=["english", "korean", "all turns", "own template", "template that rewrites history", "prompt that differs"],
)
def test_only_the_assistants_turns_are_labelled(dialogue, template, expected, tokenizer):
    tokenizer.chat_template = template
    (row,) = encode_dialogues([dialogue], tokenizer, 512).rows
    assert labelled_texts(row, tokenizer) == expected


def test_all_tokens_are_labelled_without_assistant_only(tokenizer):
    (row,) = encode_dialogues([turns("A?", "B.")], tokenizer, 512, assistant_only=False).rows
    assert row["labels"] == row["input_ids"]


def test_end_token_spelt_out_in_a_text_stays_text(tokenizer):
    (row,) = encode_dialogues([turns(f"Say {END}", f"Here: {END}!")], tokenizer, 512).rows
    assert row["input_ids"].count(tokenizer.eos_token_id) == 1
    assert labelled_texts(row, tokenizer) == [f"Here: {END}!{END}"]


def test_long_rows_are_cut_and_counted_and_dropped_when_no_answer_is_left(tokenizer):
    short, long_answer, long_prompt = turns("A?", "B."), turns("A?", "word " * 200), turns("word " * 200, "B.")
    encoded = encode_dialogues([short, long_answer, long_prompt], tokenizer, 64)
    assert (encoded.truncated, encoded.dropped, len(encoded.rows)) == (2, 1, 2)
    assert [len(row["input_ids"]) <= 64 for row in encoded.rows] == [True, True]
    assert len(encoded.rows[1]["labels"]) == 64 and encoded.rows[1]["labels"][-1] != IGNORED_LABEL


def test_row_that_the_template_rejects_is_reported(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(Failure, match="System role not supported") as error_info:
        encode_dialogues([turns("A?", "B.", system="Be brief.")], tokenizer, 64)
    assert error_info.value.kind == "invalid_job"


def test_dialogue_ends_with_its_last_answer_and_other_keys_are_ignored(tmp_path):
    file = tmp_path / "train.messages.jsonl"
    file.write_text(json.dumps({"id": 1, "messages": turns("A?", "B.", "C?")}) + "\n\n", encoding="utf-8")
    assert read_messages(file) == [turns("A?", "B.")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting"),
        ("[]", "no list of messages"),
        ('{"messages": [{"role": "robot", "content": ""}]}', "role"),
        ('{"messages": [{"role": "user", "content": null}]}', "content"),
        ('{"messages": [{"role": "user", "content": "A?"}]}', "no assistant"),
        ('{"messages": [{"role": "assistant", "content": "B."}]}', "cannot come first"),
    ],
)
def test_bad_line_is_rejected_with_its_file_and_line(line, message, tmp_path):
    file = tmp_path / "train.messages.jsonl"
    file.write_text(json.dumps({"messages": turns("A?", "B.")}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(Failure, match=r"train\.messages\.jsonl, line 2.*" + message):
        read_messages(file)


def test_a_thought_reaches_the_chat_template_of_a_reasoning_model(tokenizer):
    turns = [{"role": "user", "content": "Is 4 even?"}]
    turns.append({"role": "assistant", "content": "Yes.", "reasoning_content": "4 = 2 * 2."})
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.reasoning_content is string %}<think>{{ m.reasoning_content }}</think>"
        "{% endif %}{{ m.content }}\n{% endfor %}"
    )
    rendered = tokenizer.decode(render_dialogue(parse_dialogue({"messages": turns}), tokenizer))
    assert "4 = 2 * 2." in rendered
