"""Rules by a table of cases."""

import pytest

from app.synth.quality.filters import check_instance, check_instruction, instruction_rules


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("en", "Summarise the plot of a novel you like.", "blocked_word"),
        ("en", "Summarise the plotline of a novel you like.", None),
        ("en", "Describe this Image in two words please", "blocked_word"),
        ("en", "Go to the shop and buy milk", "blocked_word"),
        ("en", "Explain tides", "too_short"),
        ("en", " ".join(["word"] * 151), "too_long"),
        ("en", "Write a program that sorts numbers", "blocked_opening"),
        ("en", "- List four kinds of cheese", "opens_with_punctuation"),
        ("en", '"Carpe diem" means what in plain English?', None),
        ("en", "", "empty_instruction"),
        ("en-GB", "Explain tides", "too_short"),
        ("ko", "서울의 날씨를 요약하세요", None),
        ("ko", "요약하세요", "too_short"),
        ("ko", "〈흥부전〉의 줄거리를 다섯 문장으로 쓰세요", None),
        ("en", "(a) Name the four cardinal points", "opens_with_punctuation"),
        ("ko", "다음 사진을 설명해 주세요", "blocked_word"),
        ("en", "서울의 날씨를 요약해서 세 줄로 쓰세요", None),
        ("ja", "天気予報を短く要約してください", None),
        ("th", "อธิบายน้ำขึ้นน้ำลงให้เด็กฟัง", None),
        ("ar", "اشرح ظاهرة المد والجزر لطفل", None),
    ],
)
def test_instruction_rules(language, text, reason):
    rejection = check_instruction(text, instruction_rules(language))
    assert (rejection.reason if rejection else None) == reason


@pytest.mark.parametrize(
    ("input", "output", "reason"),
    [
        ("", "An answer.", None),
        ("A question?", "An answer.", None),
        ("same  text", "same text", "output_equals_input"),
        ("x", "   ", "empty_output"),
        ("x", "The list is:", "ends_with_colon"),
        ("The list is:", "one", "ends_with_colon"),
        ("목록은：", "하나", "ends_with_colon"),
    ],
)
def test_instance_rules(input, output, reason):
    rejection = check_instance(input, output)
    assert (rejection.reason if rejection else None) == reason


def test_a_rejection_carries_value_and_threshold():
    rejection = check_instruction("Explain tides", instruction_rules("en"))
    assert (rejection.value, rejection.threshold) == (2, 4)
