"""docs/methods.md names every method with all of its options."""

import re
from pathlib import Path

import pytest

from app.synth.methods import METHODS
from app.synth.operations import OPERATIONS
from app.synth.options import ASPECTS, MethodOptions
from app.synth.scores import RULE_SCORES

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
