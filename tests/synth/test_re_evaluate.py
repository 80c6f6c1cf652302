"""A finished row's form and scores, asked again."""

import pytest

from app.synth.quality.filters import PRESETS
from app.synth.quality.options import Judging, MethodOptions
from app.synth.quality.re_evaluate import may_be_lifted, re_evaluate
from app.synth.types import Candidate

ROW = Candidate("Draw a picture of the sea", "", "~~~", scores={"rule.length_fit": 0.4, "judge.overall": 3.0})


@pytest.mark.parametrize(
    ("rules", "least", "options", "reason"),
    [
        (None, {}, MethodOptions(), "blocked_word"),
        (PRESETS["form"], {}, MethodOptions(), None),
        (PRESETS["form"], {"length_fit": 0.4}, MethodOptions(), None),
        (PRESETS["form"], {"length_fit": 0.5}, MethodOptions(), "low_length_fit"),
        (PRESETS["form"], {"rule.length_fit": 0.5}, MethodOptions(), "low_length_fit"),
        (PRESETS["form"], {"judge.overall": 3.5}, MethodOptions(), "low_judge_score"),
        (PRESETS["form"], {"judge.clarity": 5}, MethodOptions(), None),
        (PRESETS["form"], {}, MethodOptions(minimum_scores={"length_fit": 0.5}), "low_length_fit"),
        (PRESETS["form"], {"length_fit": 0}, MethodOptions(minimum_scores={"length_fit": 0.5}), None),
        (PRESETS["form"], {}, MethodOptions(judging=Judging(answer=True)), "low_judge_score"),
        (PRESETS["form"], {"judge.overall": 2}, MethodOptions(judging=Judging(answer=True)), None),
    ],
)
def test_what_is_given_takes_the_place_of_the_methods_own(rules, least, options, reason):
    rejection = re_evaluate(ROW, "en", options, rules, least)
    assert (rejection.reason if rejection else None) == reason
    assert reason is None or may_be_lifted(reason)


def test_no_instruction_is_a_fault_whatever_the_rules():
    assert re_evaluate(Candidate(" "), "en", MethodOptions(), (), {}).reason == "empty_instruction"
