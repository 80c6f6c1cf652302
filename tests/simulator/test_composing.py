"""The instructions that the simulated teacher composes: their number, their variety, and their consistent answers."""

import json
import random

import pytest
from rapidfuzz.distance import Indel

from app.simulator.families import load_library
from app.synth.novelty.pool import Pool
from app.synth.quality.filters import check_instance, check_instruction, instruction_rules
from app.synth.text import tokenise

LANGUAGES = ("en", "ko")


def compose_many(language: str, count: int) -> list:
    rng = random.Random(7)
    return [load_library(language).compose(rng) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_50_000_instructions_and_random_ones_rarely_repeat(language):
    assert load_library(language).count() >= 50_000
    texts = [composition.text for composition in compose_many(language, 3000)]
    assert len(set(texts)) > 2900


@pytest.mark.parametrize("language", LANGUAGES)
def test_most_instructions_are_new_to_a_pool_of_the_others(language):
    pool, accepted_count = Pool(), 0
    for n, composition in enumerate(compose_many(language, 400)):
        if pool.check_lexical(composition.text) is None:
            pool.add(str(n), composition.text, None)
            accepted_count += 1
    assert accepted_count >= 0.75 * 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_instructions_pass_the_rules_of_self_instruct(language):
    results = [
        check_instruction(composition.text, instruction_rules(language)) for composition in compose_many(language, 1500)
    ]
    violations = [violation for violation in results if violation is not None]
    assert len(violations) <= 0.02 * len(results), violations[:5]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_instruction_is_recognised_and_gets_complete_instances(language):
    rng = random.Random(3)
    for composition in compose_many(language, 400):
        recognised = load_library(language).recognise(composition.text)
        assert recognised is not None and recognised.family.name == composition.family.name, composition.text
        for input, output in composition.family.generate_instances(composition.values, rng, 2):
            assert check_instance(input, output) is None, (composition.text, input, output)


@pytest.mark.parametrize("language", LANGUAGES)
def test_classification_has_different_labels(language):
    rng = random.Random(5)
    classified = [composition for composition in compose_many(language, 600) if composition.family.is_classification]
    assert 0.05 <= len(classified) / 600 <= 0.5
    for composition in classified:
        labels = [output for _, output in composition.family.generate_instances(composition.values, rng, 2)]
        assert len(set(labels)) == len(labels) == 2


def test_korean_is_korean():
    for composition in compose_many("ko", 300):
        letters = [c for c in composition.text if c.isalpha()]
        assert sum("가" <= c <= "힣" for c in letters) > 0.5 * len(letters), composition.text


def test_arithmetic_is_right():
    """Each person's share of a bill, times the number of people, is the bill and the tip."""
    import re

    rng, checked_count = random.Random(1), 0
    for composition in compose_many("en", 6000):
        bill = re.search(r"the bill is (\d+) euros. With (\d+) per cent .* among (\d+)", composition.text)
        if bill:
            total, tip, people = map(int, bill.groups())
            ((_, output),) = composition.family.generate_instances(composition.values, rng, 1)
            each = float(re.search(r"each pays ([\d.]+) euros", output).group(1))
            assert each == pytest.approx(total * (1 + tip / 100) / people, abs=0.01)
            checked_count += 1
    assert checked_count > 5


def test_near_duplicates_come_at_the_rate_of_the_option(serve):
    import openai

    client = openai.OpenAI(base_url=serve("--near-duplicates", "0.5"), api_key="any")
    demonstrations = [composition.text for composition in compose_many("en", 8)]
    numbered_list = "\n".join(f"{n}. {text}" for n, text in enumerate(demonstrations, 1))
    prompt = f"<demonstrations>\n{numbered_list}\n</demonstrations>\nWrite 8 new tasks."
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
        instructions = json.loads(answer.choices[0].message.content)["instructions"]
        total += len(instructions)
        for text in instructions:
            tokens = tokenise(text)
            near += any(
                Indel.normalized_similarity(tokens, tokenise(demonstration)) > 0.7 for demonstration in demonstrations
            )
    assert 0.2 <= near / total <= 0.7, near / total
