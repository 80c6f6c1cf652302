"""What the simulated teacher composes: enough of it, unlike each other, and answered consistently."""

import json
import random

import pytest
from rapidfuzz.distance import Indel

from app.simulator.families import library
from app.synth.filters import check_instance, check_instruction, instruction_rules
from app.synth.pool import Pool
from app.synth.text import tokenise

LANGUAGES = ("en", "ko")


def drawn(language: str, count: int) -> list:
    rng = random.Random(7)
    return [library(language).compose(rng) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_50_000_instructions_and_drawing_rarely_repeats(language):
    assert library(language).count() >= 50_000
    texts = [one.text for one in drawn(language, 3000)]
    assert len(set(texts)) > 2900


@pytest.mark.parametrize("language", LANGUAGES)
def test_most_are_new_to_a_pool_of_the_others(language):
    pool, kept = Pool(), 0
    for n, one in enumerate(drawn(language, 400)):
        if pool.screen(one.text) is None:
            pool.add(str(n), one.text, None)
            kept += 1
    assert kept >= 0.75 * 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_they_pass_the_rules_of_self_instruct(language):
    found = [check_instruction(one.text, instruction_rules(language)) for one in drawn(language, 1500)]
    broken = [one for one in found if one is not None]
    assert len(broken) <= 0.02 * len(found), broken[:5]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_is_recognised_and_answered_with_whole_instances(language):
    rng = random.Random(3)
    for one in drawn(language, 400):
        again = library(language).recognise(one.text)
        assert again is not None and again.family.name == one.family.name, one.text
        for input, output in one.family.instances(one.values, rng, 2):
            assert check_instance(input, output) is None, (one.text, input, output)


@pytest.mark.parametrize("language", LANGUAGES)
def test_classification_has_different_labels(language):
    rng = random.Random(5)
    classified = [one for one in drawn(language, 600) if one.family.is_classification]
    assert 0.05 <= len(classified) / 600 <= 0.5
    for one in classified:
        labels = [output for _, output in one.family.instances(one.values, rng, 2)]
        assert len(set(labels)) == len(labels) == 2


def test_korean_is_korean():
    for one in drawn("ko", 300):
        letters = [c for c in one.text if c.isalpha()]
        assert sum("가" <= c <= "힣" for c in letters) > 0.5 * len(letters), one.text


def test_arithmetic_is_right():
    """Every bill that is shared: the sum of the parts is the bill and the tip."""
    import re

    rng, checked = random.Random(1), 0
    for one in drawn("en", 6000):
        bill = re.search(r"the bill is (\d+) euros. With (\d+) per cent .* among (\d+)", one.text)
        if bill:
            total, tip, people = map(int, bill.groups())
            ((_, output),) = one.family.instances(one.values, rng, 1)
            each = float(re.search(r"each pays ([\d.]+) euros", output).group(1))
            assert each == pytest.approx(total * (1 + tip / 100) / people, abs=0.01)
            checked += 1
    assert checked > 5


def test_near_duplicates_come_at_the_rate_that_is_asked_for(serve):
    import openai

    client = openai.OpenAI(base_url=serve("--near-duplicates", "0.5"), api_key="any")
    shown = [one.text for one in drawn("en", 8)]
    listed = "\n".join(f"{n}. {text}" for n, text in enumerate(shown, 1))
    prompt = f"<demonstrations>\n{listed}\n</demonstrations>\nWrite 8 new tasks."
    items = {"type": "array", "items": {"type": "string"}, "minItems": 8, "maxItems": 8}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"instructions": items}}}}
    near = total = 0
    for seed in range(25):
        answer = client.chat.completions.create(
            model="seedbed-simulated",
            messages=[{"role": "user", "content": prompt}],
            response_format=form,
            seed=seed,
        )
        made = json.loads(answer.choices[0].message.content)["instructions"]
        total += len(made)
        for text in made:
            tokens = tokenise(text)
            near += any(Indel.normalized_similarity(tokens, tokenise(one)) > 0.7 for one in shown)
    assert 0.2 <= near / total <= 0.7, near / total
