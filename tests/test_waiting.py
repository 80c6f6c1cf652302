"""No test depends on how fast the machine is: an ast check over all tests, and the waiting helper itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until

TESTS = Path(__file__).parent
OURS = ("app", "workers", "bench")
CLOCKS = {"monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns"}
FILES = sorted(path for path in TESTS.rglob("*.py") if path.name != "sitecustomize.py")


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Lines that sleep. asyncio.sleep(0) only gives way to other tasks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            yield from (node.lineno for alias in node.names if alias.name == "sleep")
        if _calls(node, {"time", "asyncio"}, {"sleep"}) and ast.unparse(node) != "asyncio.sleep(0)":
            yield node.lineno


def patches(tree: ast.Module) -> Iterator[int]:
    """Lines that put something else in the place of an attribute of ours: by a tool, or by assignment."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "unittest.mock":
            yield from (node.lineno for alias in node.names if alias.name not in ("ANY", "call"))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("monkeypatch.setattr", "monkeypatch.setitem"):
            yield node.lineno
        if isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Attribute)]
            stored = [part for part in targets if isinstance(part.ctx, ast.Store)]
            yield from (part.lineno for part in stored if ast.unparse(part.value) in modules)


def timed_asserts(tree: ast.Module) -> Iterator[int]:
    """Lines of asserts on a clock, or on a name that got its value from one."""
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        times = {
            target.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and any(_calls(part, {"time"}, CLOCKS) for part in ast.walk(node.value))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.Assert) and any(
                _calls(part, {"time"}, CLOCKS) or (isinstance(part, ast.Name) and part.id in times)
                for part in ast.walk(node.test)
            ):
                yield node.lineno


def hasty_requests(tree: ast.Module) -> Iterator[int]:
    """Lines of httpx requests with httpx's own timeout of five seconds."""
    verbs = {"get", "post", "request", "stream", "Client", "AsyncClient"}
    for node in ast.walk(tree):
        if _calls(node, {"httpx"}, verbs) and not any(word.arg in ("timeout", "transport") for word in node.keywords):
            yield node.lineno


def _calls(node: ast.AST, modules: set[str], names: set[str]) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return ast.unparse(node.func.value) in modules and node.func.attr in names


@pytest.mark.parametrize(
    ("check", "allowed"),
    [
        (sleeps, ("waiting.py", "fakes.py")),
        (patches, ()),
        (timed_asserts, ()),
        (hasty_requests, ()),
    ],
)
def test_no_test_depends_on_how_fast_the_machine_is(check, allowed):
    lines = [
        f"{path.relative_to(TESTS.parent)}:{line}"
        for path in FILES
        if path.name not in allowed
        for line in check(ast.parse(path.read_text("utf-8")))
    ]
    assert lines == [], check.__doc__


def test_only_the_fault_trials_let_time_pass():
    users = {path.parent.name for path in FILES if "let_pass" in path.read_text("utf-8")}
    assert users == {"faults", "tests"}


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (sleeps, "import time\ntime.sleep(1)"),
        (sleeps, "import asyncio\nasync def f():\n    await asyncio.sleep(0.1)"),
        (sleeps, "from time import sleep"),
        (patches, "def test(monkeypatch):\n    monkeypatch.setattr(app, 'X', 1)"),
        (patches, "from unittest.mock import patch"),
        (patches, "from app.runs.worker import batch\nbatch.admit = None"),
        (timed_asserts, "def test():\n    began = time.monotonic()\n    assert time.monotonic() - began < 5"),
        (timed_asserts, "def test():\n    took = time.perf_counter() - 1\n    assert took < 5"),
        (hasty_requests, "httpx.get('http://x')"),
    ],
)
def test_each_check_sees_what_it_is_for(check, code):
    assert list(check(ast.parse(code)))


def test_waiting_gives_the_first_true_value_and_says_why_it_gave_up():
    values = iter([None, 0, "third", "fourth"])
    assert until(lambda: next(values), every=0) == "third"
    with pytest.raises(AssertionError, match=r"still None\. the queue is empty"):
        until(lambda: None, seconds=0, message=lambda: "the queue is empty")
