"""The table of teachers in the documentation is the table of the tests."""

from app.simulator.personalities.registry import PERSONALITIES
from tests.teachers.cases import CASES
from tests.teachers.document import DOCUMENT, with_tables


def test_the_document_lists_the_cases():
    text = DOCUMENT.read_text("utf-8")
    assert text == with_tables(text), "Run `python -m tests.teachers.document`"


def test_every_personality_has_a_case():
    names = {part.partition(":")[0] for case in CASES for part in case.personalities.split("+")}
    assert names == set(PERSONALITIES)


def test_every_case_has_a_teacher_of_its_own():
    assert len({case.teacher for case in CASES}) == len({case.model for case in CASES}) == len(CASES) >= 60
