"""docs/teachers.md, whose table is that of the cases. `python -m tests.teachers.document` writes the table anew."""

import re
from pathlib import Path

from app.simulator.personalities.registry import PERSONALITIES
from tests.teachers.case import Case
from tests.teachers.cases import CONTENTS, JSON_HABITS, REFUSALS, THINKING, TRANSPORT, USAGE

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "teachers.md"
SECTIONS = {
    "Models that think": THINKING,
    "Habits in JSON": JSON_HABITS,
    "Contents and finish reasons": CONTENTS,
    "Usage": USAGE,
    "Errors": REFUSALS,
    "Responses": TRANSPORT,
}
_TABLES = re.compile(r"(?<=<!-- cases -->\n).*(?=<!-- end of the cases -->)", re.DOTALL)


def tables() -> str:
    """The cases as tables of Markdown, one for each section."""
    return "".join(f"\n### {title}\n\n{_table(cases)}\n" for title, cases in SECTIONS.items())


def _table(cases: tuple[Case, ...]) -> str:
    lines = ["| personality | servers and models that do so | what Seedbed does |", "|---|---|---|"]
    lines += [f"| {_title(case)} | {_servers(case)} | {case.seedbed} |" for case in cases]
    return "\n".join(lines)


def _title(case: Case) -> str:
    method = "" if case.method == "self_instruct" else f", {case.method}"
    replies = "" if case.replies == "auto" else f", {case.replies}"
    return f"`{case.personalities}`{method}{replies}"


def _servers(case: Case) -> str:
    names = [part.partition(":")[0] for part in case.personalities.split("+")]
    return "; ".join(PERSONALITIES[name].servers for name in names)


def with_tables(text: str) -> str:
    """Return the text of the document with the tables of the cases."""
    return _TABLES.sub(lambda match: tables() + "\n", text)


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text("utf-8")), "utf-8")
