"""docs/methods.md names every method with all of its options."""

import json
import re
from pathlib import Path

import pytest

from app import synth
from app.synth.methods.operations import OPERATIONS
from app.synth.methods.registry import METHODS
from app.synth.quality.options import ASPECTS, MethodOptions
from app.synth.quality.rules import RULES
from app.synth.quality.scores import RULE_SCORES
from tests.synth.test_grow_methods import teacher

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "methods.md").read_text("utf-8")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_its_paragraph_options_source_and_cost(method):
    section = re.split(r"^#+ ", DOCUMENT.split(f"## {method}\n")[1], flags=re.MULTILINE)[0]
    listed = re.findall(r"`(\w+)`", section.split("\nOptions: ")[1])
    own = [name for name in METHODS[method].options.model_fields if name not in MethodOptions.model_fields]
    assert sorted(listed) == sorted(own)
    assert f"| {method}" in DOCUMENT
    assert "Cost" in section or method == "evol_instruct"


def test_operations_scores_and_stages_are_named():
    for name in (*OPERATIONS, *RULE_SCORES, *MethodOptions.model_fields):
        assert f"`{name}`" in DOCUMENT
    assert all(aspect.replace("_", "-") in DOCUMENT for aspect in ASPECTS)


EXAMPLES = re.findall(r"Options of `(\w+)`:\n\n```json\n(.*?)\n```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize(
    ("method", "options"), EXAMPLES, ids=[f"{n}-{method}" for n, (method, _) in enumerate(EXAMPLES)]
)
def test_an_example_of_what_a_caller_may_bring_in_runs(method, options):
    options = json.loads(options)
    records = {"responses": [synth.Parent("r1", "Why is tea hot in the morning?")]}.get(method)
    seeds = synth.load_seeds("english")
    grown = synth.grow(method, seeds, teacher(), 1, records=records, options=options, max_calls=60)
    assert len(grown.accepted) == 1, grown.reasons()
    lineage = " ".join(name for row in (*grown.accepted, *grown.rejected) for name in row.templates)
    sign = {"rules": "rules@", "judging": "+rubric@", "prompts": "custom:", "custom_operations": "+operation:"}
    assert all(sign[name] in lineage for name in options if name in sign)


def test_there_is_an_example_of_each_extension_and_every_prompt_is_named():
    shown = {name for _, options in EXAMPLES for name in json.loads(options)}
    assert {"custom_operations", "rules", "judging", "prompts"} <= shown
    for method in METHODS.values():
        assert all(f"`{name}`" in DOCUMENT for name in method.options.all_prompt_names())
    assert all(f"`{name}`" in DOCUMENT for name in RULES)
