"""What the README promises, run as it stands there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def block(marker: str) -> str:
    """The first code block that contains the marker."""
    blocks = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
    return next(item for item in blocks if marker in item)


def test_the_notebook_example_is_15_lines_and_runs(tmp_path, monkeypatch, capsys):
    code = block("from app import synth")
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(ast.parse(code), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.startswith("20 {")
    rows = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 20


def test_the_curl_calls_are_four_and_name_real_operations():
    from app.main import create_app

    calls = re.findall(r"curl .*?\$SEEDBED_URL(/v1/[\w/{}$-]*)", block("curl"), re.DOTALL)
    assert calls == ["/v1/datasets", "/v1/runs", "/v1/snapshots", "/v1/fine-tunes"]
    paths = create_app().openapi()["paths"]
    assert all("post" in paths[call] for call in calls)


def drawn_paths() -> set[str]:
    """The paths of the tree in the README; the indentation of a line says in which folder its path lies."""
    paths, folders = set(), {}
    for line in block("the API process").splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders[depth] = f"{folders[depth - 1] if depth else ''}{name}"
        paths.add(folders[depth])
    return paths


def test_the_tree_is_true():
    drawn = drawn_paths()
    assert {path for path in drawn if not (ROOT / path).exists()} == set()
    rooms = {path.parent for path in ROOT.glob("app/*/__init__.py")} | set(ROOT.glob("app/*.py"))
    names = {path.relative_to(ROOT).as_posix() + ("/" if path.is_dir() else "") for path in rooms}
    assert names - drawn == {"app/__init__.py"}
