"""Every type of prompt gets a plausible reply, and every schema a value that is valid."""

import json

import openai
import pytest
from pydantic import BaseModel, Field, create_model

MODEL = "seedbed-simulated"


@pytest.fixture(scope="module")
def client(serve) -> openai.OpenAI:
    return openai.OpenAI(base_url=serve("--near-duplicates", "0"), api_key="any")


def request_reply(client, prompt: str, schema: dict, **options) -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, response_format=form, seed=1, **options)
    return json.loads(answer.choices[0].message.content)


def properties(**schemas) -> dict:
    return {"type": "object", "properties": schemas, "required": list(schemas)}


@pytest.mark.parametrize(
    ("instruction", "is_classification"),
    [
        ("Is the following review positive or negative?", True),
        ("다음 문장을 긍정 또는 부정으로 분류하세요.", True),
        ("Write a short poem about the sea.", False),
        ("바다에 관한 짧은 시를 써 주세요.", False),
    ],
)
def test_classification(client, instruction, is_classification):
    reply = request_reply(
        client, f"<instruction>{instruction}</instruction>", properties(is_classification={"type": "boolean"})
    )
    assert reply == {"is_classification": is_classification}


def test_new_instructions_come_with_their_classification(client):
    item = {**properties(instruction={"type": "string"}, is_classification={"type": "boolean"})}
    schema = properties(instructions={"type": "array", "items": item, "minItems": 1, "maxItems": 20})
    reply = request_reply(client, "<demonstrations>\n1. Name a river\n</demonstrations>\n\nWrite 20 tasks.", schema)
    flags = [item["is_classification"] for item in reply["instructions"]]
    assert len(flags) == 20 and True in flags and False in flags
    assert len({item["instruction"] for item in reply["instructions"]}) == 20


def test_instances_of_several_tasks_carry_the_number_of_their_task(client):
    item = properties(number={"type": "integer"}, **{name: {"type": "string"} for name in ("label", "input", "output")})
    schema = properties(instances={"type": "array", "items": item, "minItems": 1, "maxItems": 2})
    tasks = "<tasks>\n1. Is this review positive or negative?\n   is_classification: true\n2. Explain tides\n</tasks>"
    classified, composed = request_reply(client, tasks, schema)["instances"]
    assert (classified["number"], composed["number"]) == (1, 2)
    assert classified["label"] == classified["output"] in ("positive", "negative")
    assert composed["label"] == "" and "tides" in composed["output"]


def test_several_answers_and_verdicts_on_each_of_them(client):
    answers = properties(answers={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3})
    written = request_reply(client, "Write 3 different answers.\n\n<instruction>Explain tides</instruction>", answers)
    assert len(set(written["answers"])) == 3 and all("tides" in text for text in written["answers"])
    score = properties(number={"type": "integer"}, score={"type": "integer", "minimum": 1, "maximum": 10})
    schema = properties(scores={"type": "array", "items": score, "minItems": 1, "maxItems": 2})
    template = "<answer_1>{}</answer_1>\n<answer_2>{}</answer_2>"
    texts = "I'm sorry, but I can't.", written["answers"][0]
    first, second = request_reply(client, template.format(*texts), schema)["scores"]
    assert (first["number"], second["number"]) == (1, 2) and first["score"] < second["score"]
    # The score follows the text and not its position.
    swapped = request_reply(client, template.format(*reversed(texts)), schema)["scores"]
    assert [item["score"] for item in swapped] == [second["score"], first["score"]]


def test_instances_of_an_unknown_instruction_mention_its_subject(client):
    item = properties(input={"type": "string"}, output={"type": "string"})
    schema = properties(instances={"type": "array", "items": item, "maxItems": 2})
    reply = request_reply(client, "<instruction>Describe the life of a lighthouse keeper.</instruction>", schema)
    assert any("lighthouse" in item["output"].lower() for item in reply["instances"])


def test_an_answer_in_korean(client):
    prompt = "<instruction>등대지기의 하루를 설명하세요.</instruction>"
    reply = request_reply(client, prompt, properties(output={"type": "string"}))
    assert any("가" <= c <= "힣" for c in reply["output"])


@pytest.mark.parametrize("operation", ["add one more constraint", "increase the depth", "make it more concrete"])
def test_evolution_gives_a_longer_instruction(client, operation):
    text = "Explain how a heat pump works."
    prompt = f"Rewrite the instruction: {operation}.\n<instruction>{text}</instruction>"
    reply = request_reply(client, prompt, properties(instruction={"type": "string"}))
    assert len(reply["instruction"]) > len(text)
    assert reply["instruction"] != text


def test_judging_stays_inside_the_scale(client):
    score = {"type": "integer", "minimum": 1, "maximum": 5}
    schema = properties(scores=properties(correctness=score, clarity=score), rationale={"type": "string"})
    prompt = "Judge.\n<instruction>Name a fruit.</instruction>\n<output>An apple.</output>"
    reply = request_reply(client, prompt, schema)
    assert all(1 <= value <= 5 for value in reply["scores"].values())
    assert reply["rationale"]
    assert request_reply(client, prompt, properties(equal={"type": "boolean"}))["equal"] in (True, False)
    assert request_reply(client, prompt, properties(better={"enum": ["A", "B"]}))["better"] in ("A", "B")


class Turn(BaseModel):
    role: str
    content: str = Field(min_length=1)


class Nested(BaseModel):
    turns: list[Turn] = Field(min_length=2, max_length=4)
    weight: float = Field(ge=0, le=1)
    tags: list[str] = Field(max_length=3)
    level: int = Field(ge=3, le=3)


@pytest.mark.parametrize("model", [Turn, Nested, create_model("One", one=(Nested, ...), other=(Turn | None, None))])
def test_any_schema_is_filled_with_a_value_that_fits(client, model):
    reply = request_reply(client, "Do as the schema says.", model.model_json_schema())
    model.model_validate(reply)


def test_plain_text_and_json_by_the_keys_of_an_example(client):
    def reply_text(content, **options):
        messages = [{"role": "user", "content": content}]
        answer = client.chat.completions.create(model=MODEL, messages=messages, seed=1, **options)
        return answer.choices[0].message.content

    assert reply_text("Why is the sea salty?")
    demonstrations = "<demonstrations>\n1. Name a fruit.\n</demonstrations>\nWrite 3 new tasks."
    assert len([line for line in reply_text(demonstrations).splitlines() if line.strip()]) >= 3
    prompt_with_example = f'{demonstrations}\nReply with JSON like {{"instructions": ["…"]}}.'
    assert json.loads(reply_text(prompt_with_example, response_format={"type": "json_object"}))["instructions"]
