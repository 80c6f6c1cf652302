"""A method is one object: nobody else names it, or asks which options it has."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.synth.methods.registry import DEFAULT_METHOD, METHODS

ROOT = Path(__file__).parent.parent.parent
APP = ROOT / "app"
MODULES = {method.options.__module__ for method in METHODS.values()}
# A method may have more than one file; they begin with its module's name.
OWN = {path for module in MODULES for path in APP.glob(f"synth/**/{module.rpartition('.')[2]}*.py")}
SOURCES = sorted(path for path in APP.rglob("*.py") if path not in OWN and APP / "simulator" not in path.parents)

# Words of the language that some methods are named by. Everywhere here they mean something else.
OTHER_MEANINGS = {
    ("app/client.py", "documents"): "a kind of import",
    ("app/datasets/import_rows.py", "documents"): "a kind of import",
    ("app/datasets/endpoints.py", "documents"): "a kind of import",
    ("app/datasets/service.py", "templates"): "a field of the lineage: the prompts of a row",
    ("app/datasets/admission.py", "templates"): "a field of the lineage: the prompts of a row",
    ("app/synth/types.py", "documents"): "a kind of import",
    ("app/synth/teacher_faults.py", "safety"): "the code of a teacher that declines a prompt",
}
# Names that mean nothing else, in a text for people.
HELP = {"app/cli/runs.py": "the help says which method a run has when none is named; the service decides it"}


def literals(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_method_is_named_outside_its_module():
    named = {(name_of(path), text) for path in SOURCES for text in literals(path) if text in METHODS}
    assert named - set(OTHER_MEANINGS) == set()


def test_no_text_names_a_method_but_the_help():
    unmistakable = [name for name in METHODS if "_" in name]
    naming = {
        name_of(path) for path in SOURCES for text in literals(path) if any(name in text for name in unmistakable)
    }
    assert naming == set(HELP)


def asked_types(path: Path) -> Iterator[str]:
    """The names of the classes that `isinstance` and `match` ask for."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "type"):
            yield from (part for arg in node.args[1:] for part in ast.unparse(arg).replace("(", " ").split())
        if isinstance(node, ast.MatchClass):
            yield ast.unparse(node.cls)


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=name_of)
def test_nobody_asks_which_options_a_method_has(path):
    option_types = {item.strip(",)").rpartition(".")[2] for item in asked_types(path)}
    assert not option_types & {"Options", "MethodOptions"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{item.name}" for item in node.names)
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)


OTHER_ROOMS = [path for path in SOURCES if APP / "synth" not in path.parents]


@pytest.mark.parametrize("path", OTHER_ROOMS, ids=name_of)
def test_no_room_but_the_library_imports_the_module_of_a_method(path):
    assert MODULES.isdisjoint(imported(path))


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_answers_what_it_is_asked(method):
    options = method.options()
    assert method.draws_from(options) in ("seeds", "records", "labelled", "passages", "nothing")
    assert method.batch_size(options) >= 1 and method.candidates(options) >= 1
    assert (method.min_steps(options) == 0) == (not method.asks_teacher)
    assert method.share_of(options) is None
    assert all(isinstance(variant, method.options) for variant in method.variants(options))
    if method.draws_from(options) == "nothing":
        assert method.conditioning(options, 3, 7)


def test_topics_and_categories_go_round():
    dialogue, safety = METHODS["dialogue"], METHODS["safety"]
    options = dialogue.options(topics=("a", "b", "c"))
    assert [dialogue.conditioning(options, 2, number)["topics"] for number in range(3)] == [
        ["a", "b"],
        ["c", "a"],
        ["b", "c"],
    ]
    options = safety.options(categories=("fraud", "theft"))
    assert [safety.conditioning(options, 4, number)["category"] for number in range(3)] == ["fraud", "theft", "fraud"]


def test_the_default_is_a_method():
    assert DEFAULT_METHOD in METHODS
