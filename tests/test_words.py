"""Names and phrases that say nothing to a new reader stay out: an ast check of all code, a search in all texts."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("app", "workers", "bench", "tests") for path in (ROOT / folder).rglob("*.py"))
TEXTS = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md"))]

# Participles and adjectives do not say what a value is: `match`, `existing_rows` or `requested_count` do.
PARTICIPLES = {
    *("asked", "found", "given", "kept", "known", "left", "looked", "made", "seen", "shown", "taken", "told", "wished"),
    *("least", "most", "one", "ones", "some", "place", "places"),
}
# Names that were riddles, each with the term of the field that took its place.
REPLACED = {
    "alone": "with_single_operation",
    "as_far_as_paid": "gather_until_budget",
    "bell": "notify",
    "books": "LedgerWriter",
    "choosing": "selection",
    "climbing": "slow start",
    "cover": "facility_location",
    "crowded": "BudgetContention",
    "desk": "TeacherServer",
    "doorbell": "notify",
    "focus": "conditioning",
    "gathering": "MicroBatcher",
    "guard": "watchdog",
    "heat": "temperature",
    "home": "state_dir",
    "launch": "entry",
    "look": "precheck",
    "looking": "PoolPrefilter",
    "offers": "ResponseFields",
    "particles": "korean_particles",
    "patiently": "retry_until_database_is_back",
    "pilot_for": "preview_target",
    "quiet": "back_off",
    "reading": "PromptParser",
    "recheck": "re_evaluate",
    "rechecking": "re_evaluate",
    "ring": "notify",
    "seq": "pool_position",
    "sight": "attempt",
    "stopping": "pending_stop_reason",
    "supply": "material",
    "surplus": "over_target",
    "tally": "UsageCounter",
    "tell": "log",
    "ticket": "reservation",
    "tickets": "reservations",
    "tidy": "postprocess",
    "together": "gather_all",
    "walk": "run",
    "wish": "server_delay",
    "wishes": "format_constraints",
    "within_reach": "clamp_max_length",
}
# Files that still have such names, with their number. Lower a number when you replace some; add none.
REMAINING = tomllib.loads((ROOT / "tests" / "names_to_replace.toml").read_text("utf-8"))
FORBIDDEN_NAMES = PARTICIPLES | set(REPLACED)
FORBIDDEN_PHRASES = {
    r"\bturn(s|ed|ing)? away\b": "reject",
    r"\b(says?|said|told|written|error|fault|reason|answer)s? in words\b": "with a message",
    r"\bby heart\b": "from memory",
    r"[\"']in words[\"']": "a message",
    r"\b(asks?|asked) for leave\b": "a permit",
}


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, line) of every name that the code defines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.alias(asname=str()):
                yield node.asname, node.lineno
            case ast.ExceptHandler(name=str()) | ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
                yield node.name, node.lineno


def forbidden_names(code: str) -> list[tuple[str, int]]:
    """(name, line) of the forbidden names that the code defines, in any case and with any underscores around."""
    return [(name, line) for name, line in defined_names(ast.parse(code)) if name.strip("_").lower() in FORBIDDEN_NAMES]


def forbidden_phrases(text: str) -> list[tuple[str, int]]:
    """(phrase, line) of the forbidden phrases in a file, also where a line breaks inside of one."""
    text = re.sub(r"[ \t]*\n[ \t]*(#[ \t]*)?", lambda match: "\n", text)
    return [
        (match.group(), text.count("\n", 0, match.start()) + 1)
        for phrase in FORBIDDEN_PHRASES
        for match in re.finditer(phrase.replace(" ", r"\s"), text, re.IGNORECASE)
    ]


def in_repository(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_names_say_what_they_hold():
    names = {in_repository(path): forbidden_names(path.read_text("utf-8")) for path in FILES}
    new = {path: listed for path, listed in names.items() if len(listed) > REMAINING.get(path, 0)}
    assert new == {}, "Name what each holds. (name, line) of all forbidden names of these files"


def test_only_existing_files_have_names_to_replace():
    assert set(REMAINING) <= {in_repository(path) for path in FILES}


def test_texts_are_plain():
    texts = {in_repository(path): forbidden_phrases(path.read_text("utf-8")) for path in (*FILES, *TEXTS)}
    assert {path for path, phrases in texts.items() if phrases} == {in_repository(Path(__file__))}


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "def found(): ...",
        "async def made(): ...",
        "class Tally: ...",
        "def f(asked): ...",
        "def f(*, given=1): ...",
        "def f(**shown): ...",
        "f = lambda known: 1",
        "[1 for one in ()]",
        "for place, _ in (): ...",
        "self._seen = 1",
        "with open() as left: ...",
        "a, (*taken, c) = x",
        "PLACES: int = 1",
        "(kept := 1)",
        "import json as told",
        "try: ...\nexcept OSError as most: ...",
        "match x:\n    case [1, *some]: ...",
        "match x:\n    case {'a': least}: ...",
    ],
)
def test_a_forbidden_name_is_seen_wherever_it_is_defined(code):
    assert len(forbidden_names(code)) == 1


@pytest.mark.parametrize("code", ["found()", "x = found", "x.made", "f(asked=1)", "found_rows = 1", "'found'"])
def test_the_use_of_a_name_is_no_definition(code):
    assert forbidden_names(code) == []


@pytest.mark.parametrize(
    "text",
    [
        "# It was turned away.",
        "# It was turned\n    # away.",
        '"""Turned\n    away."""',
        "The error in words.",
        "Nobody knows it by heart.",
        "It asks for leave.",
    ],
)
def test_a_forbidden_phrase_is_seen_also_across_lines(text):
    assert len(forbidden_phrases(text)) == 1


def test_a_length_in_words_is_no_forbidden_phrase():
    assert forbidden_phrases("A length in words or in characters, and one that is turned around.") == []
