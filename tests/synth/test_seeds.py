"""The bundled seed tasks: enough of them, whole, unlike each other, and good by our own rules."""

import json
import unicodedata

import pytest
from pydantic import ValidationError

from app.synth.novelty.lexical import LexicalIndex
from app.synth.quality.filters import check_instance, check_instruction, instruction_rules
from app.synth.seeds import BUNDLED, bundled_tasks, load_seeds, parse_seed

LEAST = {"english": 175, "korean": 60}


@pytest.mark.parametrize("name", BUNDLED)
def test_there_are_enough_of_every_kind(name):
    tasks = bundled_tasks(name)
    assert len(tasks) >= LEAST[name]
    classification = [task for task in tasks if task.is_classification]
    assert 0.1 <= len(classification) / len(tasks) <= 0.35
    without_input = [task for task in tasks if not task.instances[0].input]
    assert 0.2 <= len(without_input) / len(tasks) <= 0.7
    assert len({task.name for task in tasks}) == len({task.id for task in tasks}) == len(tasks)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_task_passes_the_rules_that_candidates_pass(name):
    rules = instruction_rules(BUNDLED[name])
    for task in bundled_tasks(name):
        assert check_instruction(task.instruction, rules) is None, task
        assert task.instances, task
        for instance in task.instances:
            assert check_instance(instance.input, instance.output) is None, task


@pytest.mark.parametrize("name", BUNDLED)
def test_classification_tasks_show_different_labels(name):
    for task in bundled_tasks(name):
        if task.is_classification:
            labels = {instance.output for instance in task.instances}
            assert len(labels) >= 2, task
            assert all(len(label) <= 40 for label in labels), task


@pytest.mark.parametrize("name", BUNDLED)
def test_no_two_are_alike(name):
    index, texts = LexicalIndex(threshold=0.65), []
    for task in bundled_tasks(name):
        nearest = index.nearest(task.instruction)
        assert nearest is None, (task.instruction, texts[nearest.position])
        index.add(task.instruction)
        texts.append(task.instruction)


def test_lengths_vary():
    lengths = sorted(len(task.instruction.split()) for task in bundled_tasks("english"))
    assert lengths[len(lengths) // 10] <= 10
    assert lengths[-len(lengths) // 10] >= 20


def test_korean_is_korean_and_composed():
    for task in bundled_tasks("korean"):
        assert any("가" <= character <= "힣" for character in task.instruction)
        text = json.dumps(task.model_dump(), ensure_ascii=False)
        assert unicodedata.is_normalized("NFC", text)


def test_as_demonstrations():
    first = load_seeds("korean")[0]
    assert (first.id, bool(first.instances)) == ("ko_001", True)
    with pytest.raises(KeyError, match="english, korean"):
        load_seeds("klingon")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"instruction": ""}, ("instruction",)),
        ({"instruction": "x", "outputs": []}, ("outputs",)),
        ({"instruction": "x", "instances": [{"input": "a"}]}, ("instances", 0, "output")),
        ({"instruction": 5}, ("instruction",)),
    ],
)
def test_a_bad_task_says_where(value, place):
    with pytest.raises(ValidationError) as raised:
        parse_seed(value)
    assert raised.value.errors()[0]["loc"] == place
