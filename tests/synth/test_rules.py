"""Rules that a caller gives in a run's options: on any field, in every method, and without harm to the worker."""

import asyncio
import json
from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from app import synth
from app.synth.methods.registry import METHODS
from app.synth.quality.filters import RuleSet, check_row, rules_of
from app.synth.quality.options import MethodOptions
from app.synth.quality.re_evaluate import may_be_lifted, re_evaluate
from app.synth.quality.rules import PATTERN_SECONDS, RULES, Rule, compile_pattern, rule_type
from app.synth.types import Candidate
from tests.synth.test_grow_methods import GIVEN, teacher

ROW = Candidate("Name the capital of Peru in one word", "", "Lima, the capital 리마를 of Peru.")
ADAPTER = TypeAdapter(RuleSet)


def rules(*given: dict) -> tuple[Rule, ...]:
    return rules_of(ADAPTER.validate_python(list(given)))


@pytest.mark.parametrize(
    ("given", "reason", "value", "threshold"),
    [
        ({"name": "pattern", "pattern": "Lima", "on": "output"}, "pattern:output", "Lima", "Lima"),
        ({"name": "pattern", "pattern": "Lima", "on": "output", "must": "match"}, None, None, None),
        ({"name": "pattern", "pattern": "^Cusco", "on": "output", "must": "match"}, "pattern:output", "no match", ...),
        ({"name": "pattern", "pattern": r"\p{Hangul}", "on": "output"}, "pattern:output", "리", ...),
        ({"name": "pattern", "pattern": "peru"}, None, None, None),
        ({"name": "pattern", "pattern": "(?i)peru", "label": "no_peru"}, "rule:no_peru", "Peru", ...),
        ({"name": "pattern", "pattern": ".", "on": "input", "must": "match"}, "pattern:input", "no match", "."),
        ({"name": "words", "words": ["lima"], "on": "output"}, "words:output", "lima", None),
        ({"name": "words", "words": ["리마"], "on": "output"}, "words:output", "리마", None),
        ({"name": "words", "words": ["lim"], "on": "output"}, None, None, None),
        ({"name": "words", "words": ["Cusco"], "on": "output", "must": "match"}, "words:output", ..., None),
        ({"name": "length", "min": 5}, None, None, None),
        ({"name": "length", "min": 9}, "length", 8, 9),
        ({"name": "length", "max": 3, "on": "output"}, "length:output", 6, 3),
        ({"name": "length", "max": 20, "on": "output", "unit": "characters"}, "length:output", 30, 20),
        ({"name": "length", "min": 1, "on": "input", "label": "needs_input"}, "rule:needs_input", 0, 1),
        ({"name": "too_long", "parameter": 3, "on": "output"}, "too_long:output", 6, 3),
        ({"name": "too_long", "parameter": 3}, "too_long", 8, 3),
        ({"name": "opens_with_punctuation", "on": "output"}, None, None, None),
    ],
)
def test_a_rule_on_a_field(given, reason, value, threshold):
    broken = check_row(ROW, rules(given))
    assert (broken.reason if broken else None) == reason
    if broken:
        assert value in (broken.value, ...) and threshold in (broken.threshold, ...)
        assert may_be_lifted(broken.reason)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "nope"}, "nope"),
        ({"name": "pattern", "pattern": "(a"}, "missing ) at position 2"),
        ({"name": "pattern", "pattern": "[z-a]"}, "bad character range at position 4"),
        ({"name": "pattern", "pattern": "a" * 501}, "500"),
        ({"name": "pattern", "pattern": ""}, "at least 1"),
        ({"name": "pattern", "pattern": "(?:(?:a{1000}){1000}){1000}"}, "repetitions"),
        ({"name": "pattern", "pattern": "(?R)*"}, "call itself"),
        ({"name": "pattern", "pattern": "(a(?1)?b)"}, "call itself"),
        ({"name": "pattern", "pattern": "a", "must": "perhaps"}, "match"),
        ({"name": "pattern", "pattern": "a", "on": "title"}, "instruction"),
        ({"name": "pattern", "pattern": "a", "label": "Not a label"}, "pattern"),
        ({"name": "words", "words": []}, "at least 1"),
        ({"name": "words", "words": [""]}, "at least 1"),
        ({"name": "length"}, "min, max or both"),
        ({"name": "length", "min": 3, "max": 2}, "over max"),
        ({"name": "length", "min": 3, "unit": "tokens"}, "characters"),
        ({"name": "too_short", "parameter": 0}, "greater than or equal to 1"),
        ({"name": "too_short", "parameter": 3, "pattern": "a"}, "Extra"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_the_place_of_the_fault(given, message):
    with pytest.raises(ValidationError) as caught:
        rules(given)
    assert message in str(caught.value)


def test_a_pattern_that_never_ends_turns_the_row_away_and_the_worker_goes_on():
    (endless,) = rules({"name": "pattern", "pattern": "(a|aa)+$", "on": "output", "label": "endless"})
    broken = endless.check("a" * 60 + "b")
    assert (broken.reason, broken.value, broken.threshold) == ("rule_timeout", "rule:endless", PATTERN_SECONDS)
    assert may_be_lifted("rule_timeout")


def test_a_pattern_is_compiled_once():
    assert compile_pattern("x{3}y") is compile_pattern("x{3}y")


SHORT_OUTPUT = {"rules": [{"name": "length", "max": 0, "on": "output", "label": "silent"}]}


@pytest.mark.parametrize("method", METHODS)
def test_a_rule_on_outputs_turns_rows_away_in_every_method(method):
    given = {"records": [synth.Parent("r1", "Why is tea hot in the morning?")]} | GIVEN.get(method, {})
    options = SHORT_OUTPUT | ({"judge_faithfulness": False} if method == "documents" else {})
    asks = METHODS[method].asks_teacher
    seeds = synth.load_seeds("english")
    grown = synth.grow(method, seeds, teacher() if asks else None, 3, options=options, max_calls=30, **given)
    assert grown.accepted == []
    broken = [row for row in grown.rejected if row.rejection.reason == "rule:silent"]
    assert broken
    digests = METHODS[method].options(**SHORT_OUTPUT).digests()
    assert all(set(digests) <= set(row.templates) for row in grown.rejected)
    assert [digest.partition("@")[0] for digest in digests] == ["rules"]


def test_the_same_rules_have_the_same_digest_and_others_another():
    one, two = {"name": "length", "max": 5, "on": "output"}, {"on": "output", "max": 5, "name": "length"}
    digests = {MethodOptions(rules=[given]).digests() for given in (one, two)}
    assert len(digests) == 1
    assert digests != {MethodOptions(rules=[one | {"max": 6}]).digests()}
    assert MethodOptions(rules="form").digests() == MethodOptions().digests() == ()


def test_rules_on_all_fields_are_asked_again_without_a_teacher():
    options = MethodOptions(rules=[{"name": "length", "min": 50, "on": "output"}])
    assert re_evaluate(ROW, "en", options, None, {}).reason == "length:output"
    assert re_evaluate(ROW, "en", options, (), {}) is None
    unanswered = Candidate("Name the capital of Peru in one word")
    assert re_evaluate(unanswered, "en", options, None, {}) is None


def test_options_stored_before_there_were_rules_on_other_fields_are_read():
    stored = {
        "rules": [{"name": "too_short", "parameter": 3}, {"name": "opens_with_punctuation", "parameter": None}],
        "minimum_scores": {},
        "judging": {"question": False, "answer": True, "aspects": ["clarity"]},
    }
    options = MethodOptions.model_validate(json.loads(json.dumps(stored)))
    assert [rule.reason for rule in options.rules_for("en")] == ["too_short", "opens_with_punctuation"]
    again = MethodOptions.model_validate(options.model_dump(mode="json"))
    assert again == options


def test_a_rule_is_one_class_in_a_registry():
    class Shouting(Rule):
        name: Literal["shouting"] = "shouting"

        def find_fault(self, text):
            return (text[:20], None) if text.isupper() else None

    adapter = TypeAdapter(rule_type({**RULES, "shouting": Shouting}))
    loud = adapter.validate_python({"name": "shouting", "on": "output"})
    assert loud.check("LIMA").reason == "shouting:output" and loud.check("Lima") is None
    assert "shouting" not in RULES


def test_rules_are_part_of_the_schema_of_options():
    schema = METHODS["self_instruct"].options.model_json_schema()
    assert {"Pattern", "Words", "Length", "TooShort"} <= set(schema["$defs"])


def test_the_judge_is_not_paid_for_a_row_that_a_rule_turns_away():
    requests = []

    def counting(messages):
        requests.append(messages)
        return "ANSWER"

    options = {"rules": [{"name": "pattern", "pattern": "ANSWER", "on": "output"}], "judging": {"answer": True}}
    records = [synth.Parent("r1", "Why is tea hot in the morning?")]
    grown = synth.grow("responses", [], counting, 1, records=records, options=options)
    assert [row.rejection.reason for row in grown.rejected] == ["pattern:output"]
    assert len(requests) == 1


def test_a_child_is_not_answered_when_its_input_breaks_a_rule():
    steps = []

    async def answering(prompt):
        steps.append(prompt.step)
        return synth.Reply(json.dumps({"instruction": "Add up the three numbers below", "input": "1, 2, 3"}))

    async def nothing_known(draft):
        return None

    method = METHODS["evol_instruct"]
    options = method.options(rounds=1, rules=[{"name": "pattern", "pattern": r"\d", "on": "input"}])
    batch = synth.types.Batch(options, "en", 1, parents=(synth.Parent("r1", "Add up"),))
    rows = asyncio.run(method.propose(batch, answering, nothing_known)).candidates
    assert [row.rejection.reason for row in rows] == ["pattern:input"] and steps == ["evolve"]
