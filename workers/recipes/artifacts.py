"""The files of a fine-tune. They become visible together, by one rename."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from workers.recipes.base_model import LoadedBase
from workers.recipes.events import Emit
from workers.recipes.training import TrainingResult

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "safetensors")


@contextmanager
def open_work_folder(output_dir: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside the artifacts, and delete it at the end.

    Files that a killed attempt left in it are deleted first.
    """
    work = output_dir / ".work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "artifacts").mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def save_base_model(base: LoadedBase, folder: Path) -> None:
    """Save a base model that this fine-tune made, since its adapter could not be used without it.

    Call it before training: afterwards the model contains the adapter.
    """
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def save_artifacts(base: LoadedBase, training: TrainingResult, events: list[dict], card: str, folder: Path) -> None:
    """Save the adapter, the tokenizer with its chat template, the metrics and the model card.

    Args:
        base: The base model.
        training: The result of the training.
        events: The rows of metrics.jsonl.
        card: The model card in Markdown.
        folder: An existing folder.
    """
    config = training.model.peft_config["default"]
    # PEFT puts the path of this machine there, which means nothing elsewhere.
    config.base_model_name_or_path = base.name
    config.revision = base.revision
    # PEFT keeps a set, whose order would differ from run to run and change the digest.
    config.target_modules = sorted(config.target_modules)
    # The default, "auto", would ask the hub whether the vocabulary was resized. It never is here.
    training.model.save_pretrained(folder, save_embedding_layers=False)
    base.tokenizer.save_pretrained(folder)
    lines = [json.dumps(event, ensure_ascii=False) + "\n" for event in events]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def publish_artifacts(work: Path, output_dir: Path, emit: Emit) -> None:
    """Rename the finished folder to `output_dir/artifacts`, and emit an artifact event for each file.

    An earlier folder of that name is replaced.
    """
    finished = work / "artifacts"
    files = sorted(path for path in finished.rglob("*") if path.is_file())
    for path in files:
        # safetensors writes 0600, but the API that serves the files may run under another account.
        path.chmod(0o644)
    entries = [
        {"name": path.relative_to(finished).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files
    ]
    final = output_dir / "artifacts"
    if final.exists():
        os.replace(final, work / "earlier")
    os.replace(finished, final)
    for file in entries:
        emit("artifact", **file)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that shape a result."""
    return {library: version(library) for library in LIBRARIES}
