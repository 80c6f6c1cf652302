"""Imports stand at the top, only commands and protocols load by name, libraries are used by their public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"app", "workers", "tests", "bench", "migrations"}
# Commands, and the protocols of teachers: nobody loads the client of a protocol that is not in use.
LOAD_BY_NAME = {"app/cli/lazy.py", "app/providers/protocols.py"}
# Public in spite of its name: https://docs.python.org/3/library/os.html#os._exit
PUBLIC = {"os._exit"}


def parse_modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else ["app"]
    return []


def hidden_imports(tree: ast.Module) -> Iterator[str]:
    """The imports of our own inside a function."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                yield from (name for name in imported_modules(node) if name.split(".")[0] in {"app", "workers"})


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names of libraries that begin with an underscore: imported, or reached from an imported module or class."""
    foreign: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {(alias.asname or alias.name).split(".")[0]: alias.name.split(".")[0] for alias in node.names}
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            foreign |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        yield from (name for name in names if name.split(".")[0] not in OURS and _is_private(name))
    for node in ast.walk(tree):
        path = _dotted(node)
        if path and (origin := foreign.get(path[0])) and origin.split(".")[0] not in OURS:
            name = ".".join([origin, *path[1:]])
            if _is_private(".".join(path[1:])) and name not in PUBLIC:
                yield name


def _is_private(path: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in path.split("."))


def _dotted(node: ast.AST) -> list[str]:
    """a.b.c as its parts; nothing for an attribute of anything else than a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) and parts else []


def test_no_function_imports_a_module_of_ours():
    hidden = {path: names for path, tree in parse_modules("app", "workers") if (names := list(hidden_imports(tree)))}
    assert hidden == {}, "import at the top of the module; a command loads by its line in app/cli/main.py"


def test_only_commands_and_protocols_load_by_name():
    callers = {
        path
        for path, tree in parse_modules("app", "workers")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("import_module", "run_module"))
        or (isinstance(node, ast.Name) and node.id in ("import_module", "run_module", "__import__"))
    }
    assert callers == LOAD_BY_NAME


def test_libraries_are_used_by_their_public_names():
    private = {
        path: names
        for path, tree in parse_modules("app", "workers", "tests", "bench", "migrations")
        if (names := list(private_names(tree)))
    }
    assert private == {}


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("def f():\n    from app.client import Seedbed", 1),
        ("async def f():\n    import workers.sweeper", 1),
        ("class A:\n    def f(self):\n        from . import b", 1),
        ("from app import client\ndef f():\n    import torch", 0),
    ],
)
def test_a_hidden_import_is_seen(code, count):
    assert len(list(hidden_imports(ast.parse(code)))) == count


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import torch\ntorch.cpu._is_fast()", ["torch.cpu._is_fast"]),
        ("from typer._click import Command", ["typer._click.Command"]),
        ("import celery._state", ["celery._state"]),
        ("from rich import table as t\nt.Table._x", ["rich.table.Table._x"]),
        ("import os\nos._exit(1)\nself._own\nfrom app.persistence.db import _sessions\ndict.__name__", []),
    ],
)
def test_a_private_name_of_a_library_is_seen(code, names):
    assert list(private_names(ast.parse(code))) == names
