"""The model card: what the adapter is, what it was made from, and what it is not."""

from dataclasses import asdict
from pathlib import Path

from workers.recipes.artifacts import sha256, versions
from workers.recipes.base_model import Base
from workers.recipes.evaluate import Evaluation
from workers.recipes.job import Hyperparameters

SIMULATED = "**The data came from a simulated teacher: it teaches a model nothing.**"


def model_card(
    base: Base,
    files: dict[str, tuple[Path, int]],
    asked: Hyperparameters,
    seed: int,
    losses: dict[str, tuple[Evaluation, Evaluation]],
    simulated: bool,
) -> str:
    """Markdown with the front matter that model hubs read.

    files: split -> (file, rows in it). losses: split -> (before, after).
    """
    parts = [
        _front_matter(base),
        "# LoRA adapter\n",
        SIMULATED + "\n" if simulated else "",
        f"Base model: `{base.name}`, {base.weights:,} weights, {base.note}.\n",
        *(["The base is kept beside the adapter, in `base/`.\n"] if base.made_on_the_spot else []),
        "## Data\n",
        _table(("split", "file", "rows", "sha256"), [(s, p.name, n, sha256(p)) for s, (p, n) in files.items()]),
        "## Loss\n",
        "Cross-entropy per token of the assistant's turns, in nats.\n",
        _table(
            ("split", "rows", "before", "after", "perplexity before", "perplexity after"),
            [
                (s, b.rows, f"{b.loss:.4f}", f"{a.loss:.4f}", f"{b.perplexity:.2f}", f"{a.perplexity:.2f}")
                for s, (b, a) in losses.items()
            ],
        ),
        "## Hyperparameters\n",
        _table(("name", "value"), [*((k, "-" if v is None else v) for k, v in asdict(asked).items()), ("seed", seed)]),
        "## Made with\n",
        _table(("library", "version"), list(versions().items())),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(base: Base) -> str:
    hub = [] if base.made_on_the_spot else [f"base_model: {base.name}"]
    return "\n".join(["---", "library_name: peft", *hub, "tags: [lora, sft, seedbed]", "---\n"])


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
