"""What a fine-tune leaves behind, and how it becomes visible: all of it at once, by one rename."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from workers.recipes.base_model import Base
from workers.recipes.events import Emit
from workers.recipes.training import Trained

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "safetensors")


@contextmanager
def open_work(output_dir: Path) -> Iterator[Path]:
    """An empty hidden folder beside the artifacts, gone at the end; a killed attempt's leavings go at the start."""
    work = output_dir / ".work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "artifacts").mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def save_base(base: Base, folder: Path) -> None:
    """Keep a base made on the spot, or its adapter could never be used. Called before the adapter is put on."""
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def save(base: Base, trained: Trained, events: list[dict], card: str, folder: Path) -> None:
    """Adapter, tokenizer with its chat template, metrics and model card."""
    config = trained.model.peft_config["default"]
    config.base_model_name_or_path = base.name  # peft puts the path of this machine there
    config.revision = base.revision
    config.target_modules = sorted(config.target_modules)  # a set: its order would change from run to run
    # "auto" would ask the hub whether the vocabulary was resized; it never is here
    trained.model.save_pretrained(folder, save_embedding_layers=False)
    base.tokenizer.save_pretrained(folder)
    lines = [json.dumps(event, ensure_ascii=False) + "\n" for event in events]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def publish(work: Path, output_dir: Path, emit: Emit) -> None:
    """Rename the finished folder to `output_dir/artifacts`, in place of an earlier one, and tell every file."""
    made = work / "artifacts"
    files = sorted(path for path in made.rglob("*") if path.is_file())
    for path in files:
        path.chmod(0o644)  # safetensors writes 0600, and another account may serve them
    told = [
        {"name": path.relative_to(made).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files
    ]
    final = output_dir / "artifacts"
    if final.exists():
        os.replace(final, work / "earlier")
    os.replace(made, final)
    for file in told:
        emit("artifact", **file)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES}
