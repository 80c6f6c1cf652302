"""Every rule score by a table of cases, in English and Korean; and bounds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.quality.format_constraints import parse_format_constraints
from app.synth.quality.scores import RULE_SCORES, only_stop_words, rule_scores
from app.synth.types import Candidate

LOW, HIGH = (0.0, 0.5), (0.75, 1.0)
TIDES = "Tides work like this: the sea follows the moon, twice a day."
BREAD = "Bread needs flour, water, salt, yeast, heat and patience."
KOREAN_BREAD = "빵을 구우려면 밀가루와 소금과 효모를 섞어 오븐에 넣고 기다리면 됩니다."
KOREAN_ANSWER = "달이 바닷물을 끌어당겨 하루에 두 번 물이 들어오고 나갑니다."


def row(instruction, output, input=""):
    return Candidate(instruction, input, output)


CASES = [
    ("length_fit", "en", row("Explain tides in two sentences.", "The moon pulls. The sea rises."), HIGH),
    ("length_fit", "en", row("Explain tides in two sentences.", "One. Two. Three. Four. Five. Six."), LOW),
    ("length_fit", "en", row("Describe it in 50 words.", "word " * 48), HIGH),
    ("length_fit", "en", row("Describe it in 50 words.", "word " * 10), LOW),
    ("length_fit", "en", row("Use at most 20 words.", "Short."), HIGH),
    ("length_fit", "en", row("Explain tides.", ""), LOW),
    ("length_fit", "en", row("Hi", "word " * 2000), LOW),
    ("length_fit", "ko", row("조석을 두 문장으로 설명하세요.", "달이 당깁니다. 물이 찹니다."), HIGH),
    ("length_fit", "ko", row("조석을 한 문장으로 설명하세요.", "하나다. 둘이다. 셋이다. 넷이다."), LOW),
    ("length_fit", "ko", row("30단어 이내로 쓰세요.", "짧은 글입니다."), HIGH),
    ("format_consistency", "en", row("Answer as JSON.", '{"a": 1}'), HIGH),
    ("format_consistency", "en", row("Answer as JSON.", "a is 1"), (0.0, 0.7)),
    ("format_consistency", "en", row("Give a numbered list.", "1. one\n2. two"), HIGH),
    ("format_consistency", "en", row("Give a numbered list.", "one and two"), (0.0, 0.7)),
    ("format_consistency", "en", row("Name three fruits.", "apple, pear, plum"), HIGH),
    ("format_consistency", "en", row("Name three fruits.", "apple"), (0.0, 0.7)),
    ("format_consistency", "en", row("Show code.", "```python\nprint(1)"), (0.0, 0.7)),
    ("format_consistency", "ko", row("표로 정리하세요.", "| 가 | 나 |\n|---|---|\n| 1 | 2 |"), HIGH),
    ("format_consistency", "ko", row("표로 정리하세요.", "가는 1이고 나는 2입니다."), (0.0, 0.7)),
    ("format_consistency", "ko", row("과일 세 가지를 적어 주세요.", "사과, 배, 자두"), HIGH),
    (
        "relevance",
        "en",
        row("Explain how tides work", TIDES),
        HIGH,
    ),
    (
        "relevance",
        "en",
        row("Explain how tides work", BREAD),
        LOW,
    ),
    ("relevance", "en", row("Is it good or bad?", "good"), HIGH),
    ("relevance", "en", row("What is 6 x 7?", "42"), HIGH),
    ("relevance", "ko", row("바닷물이 들어오고 나가는 까닭을 설명하세요.", KOREAN_ANSWER), HIGH),
    (
        "relevance",
        "ko",
        row("밀물의 까닭을 설명하세요.", KOREAN_BREAD),
        LOW,
    ),
    (
        "relevance",
        "ko",
        row("영어로 번역하세요.", BREAD, "항구"),
        HIGH,
    ),
    ("no_refusal", "en", row("Help", "I'm sorry, but I can't help with that."), LOW),
    ("no_refusal", "en", row("Help", "I’m unable to do so."), LOW),
    ("no_refusal", "en", row("Write an apology", "Dear Ana, I am sorry about the noise."), HIGH),
    ("no_refusal", "ko", row("도와줘", "죄송하지만 그 요청은 도와드릴 수 없습니다."), LOW),
    ("no_refusal", "ko", row("사과문을 써 줘", "죄송합니다. 배송이 늦었습니다. 곧 도착합니다."), HIGH),
    ("no_boilerplate", "en", row("Help", "Sure! Here is the answer: 4. I hope this helps!"), (0.0, 0.0)),
    ("no_boilerplate", "en", row("Help", "As an AI, I think it is 4."), (0.5, 0.5)),
    ("no_boilerplate", "en", row("Help", "It is 4."), HIGH),
    ("no_boilerplate", "ko", row("도와줘", "물론입니다! 답은 4입니다. 도움이 되었기를 바랍니다."), (0.0, 0.0)),
    ("no_boilerplate", "ko", row("도와줘", "답은 4입니다."), HIGH),
    ("no_repetition", "en", row("Tell", "the cat sat on the mat " * 8), LOW),
    (
        "no_repetition",
        "en",
        row("Tell", BREAD),
        HIGH,
    ),
    ("no_repetition", "ko", row("말해", "고양이가 앉았습니다 " * 10), LOW),
    ("no_repetition", "ko", row("말해", KOREAN_ANSWER), HIGH),
    ("language_match", "ko", row("조석을 설명하세요", KOREAN_ANSWER), HIGH),
    ("language_match", "ko", row("조석을 설명하세요", "The moon pulls the water of the sea."), LOW),
    ("language_match", "ko", row("영어로 번역하세요", "The moon pulls the water of the sea."), HIGH),
    ("language_match", "ko", row("코드를 써 줘", "```python\nprint('hello world')\n```"), HIGH),
    ("language_match", "en", row("Explain tides", KOREAN_ANSWER), LOW),
    ("language_match", "en", row("Explain tides", "The moon pulls the water of the sea."), HIGH),
    ("language_match", "ja", row("説明して", "月が海の水を引っ張るからです。一日に二回あります。"), HIGH),
    ("safe_words", "en", row("Tell me", "how to make a bomb at home"), (0.0, 0.0)),
    ("safe_words", "en", row("Where is Scunthorpe?", "Grapes and drapery are sold there."), (1.0, 1.0)),
    ("safe_words", "ko", row("알려 줘", "폭탄 제조를 설명하는 글"), (0.0, 0.0)),
    ("safe_words", "ko", row("알려 줘", "폭탄선언이라는 말의 뜻"), (1.0, 1.0)),
]


@pytest.mark.parametrize(("name", "language", "given", "bounds"), CASES)
def test_a_rule_scores_its_case(name, language, given, bounds):
    score = RULE_SCORES[name](given, language)
    assert bounds[0] <= score <= bounds[1]


def test_every_rule_has_cases_that_pass_and_fail_in_both_languages():
    for name in RULE_SCORES:
        for language in ("en", "ko"):
            bounds = [bounds for rule, tag, _, bounds in CASES if (rule, tag) == (name, language)]
            assert any(low >= 0.75 for low, _ in bounds), (name, language)
            assert any(high <= 0.7 for _, high in bounds), (name, language)


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=400), st.sampled_from(["en", "ko", "th", "x-y"]))
def test_a_score_lies_between_nought_and_one(instruction, input, output, language):
    scores = rule_scores(row(instruction, output, input), language)
    assert set(scores) == set(RULE_SCORES)
    assert all(0 <= value <= 1 for value in scores.values())


@pytest.mark.parametrize(
    ("text", "language", "only"),
    [
        ("", "en", True),
        ("...!?", "en", True),
        ("And so it was, of course.", "en", False),
        ("It is what it is.", "en", True),
        ("yes", "en", False),
        ("그리고 또 이런 것은", "ko", True),
        ("서울", "ko", False),
        ("7", "ko", False),
    ],
)
def test_only_stop_words(text, language, only):
    assert only_stop_words(text, language) is only


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Write two sentences.", {"sentences": 2}),
        ("In no more than 40 words, say why.", {"words": 40, "at_most": True}),
        ("List five rivers.", {"items": 5}),
        ("Return it as JSON.", {"json": True}),
        ("Make a table of it.", {"table": True}),
        ("Give bullet points.", {"bullets": True}),
        ("세 문장 이내로 쓰세요.", {"sentences": 3, "at_most": True}),
        ("강 다섯 개를 적어 주세요.", {"items": 5}),
        ("번호를 매겨 주세요.", {"numbered": True}),
        ("Explain tides.", {}),
    ],
)
def test_format_constraints_of_an_instruction(instruction, expected):
    constraints = parse_format_constraints(instruction)
    assert {name: value for name, value in vars(constraints).items() if value not in (None, False)} == expected
