"""The model card of an adapter: its base model, its data, its losses and its hyperparameters."""

from pathlib import Path

from app.training_jobs.hyperparameters import Hyperparameters
from workers.recipes.artifacts import file_sha256, library_versions
from workers.recipes.base_model import LoadedBase
from workers.recipes.evaluate import Evaluation

SIMULATED = "**The data came from a simulated teacher: it teaches a model nothing.**"


def model_card(
    base: LoadedBase,
    files: dict[str, tuple[Path, int]],
    hyperparameters: Hyperparameters,
    seed: int,
    losses: dict[str, tuple[Evaluation, Evaluation]],
    simulated: bool,
) -> str:
    """Return the model card in Markdown, with the front matter that model hubs read.

    Args:
        base: The base model.
        files: The file and the number of its rows, by split.
        hyperparameters: The values that the training used.
        seed: The seed of the job.
        losses: The evaluations before and after the training, by split.
        simulated: Whether a simulated teacher wrote the data.
    """
    parts = [
        _front_matter(base),
        "# LoRA adapter\n",
        SIMULATED + "\n" if simulated else "",
        f"Base model: `{base.name}`, {base.parameter_count:,} weights, {base.note}.\n",
        *(["The base is kept beside the adapter, in `base/`.\n"] if base.made_on_the_spot else []),
        "## Data\n",
        _table(
            ("split", "file", "rows", "sha256"),
            [(split, path.name, n, file_sha256(path)) for split, (path, n) in files.items()],
        ),
        "## Loss\n",
        "Cross-entropy per token of the assistant's turns, in nats.\n",
        _loss_table(losses),
        "## Hyperparameters\n",
        _table(
            ("name", "value"),
            [*((k, "-" if v is None else v) for k, v in hyperparameters.model_dump().items()), ("seed", seed)],
        ),
        "## Made with\n",
        _table(("library", "version"), list(library_versions().items())),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(base: LoadedBase) -> str:
    # Hubs link `base_model` to a page, and a model that this fine-tune made has none.
    hub = [] if base.made_on_the_spot else [f"base_model: {base.name}"]
    return "\n".join(["---", "library_name: peft", *hub, "tags: [lora, sft, seedbed]", "---\n"])


def _loss_table(losses: dict[str, tuple[Evaluation, Evaluation]]) -> str:
    header = ("split", "rows", "before", "after", "perplexity before", "perplexity after")
    rows = []
    for split, (before, after) in losses.items():
        values = (f"{before.loss:.4f}", f"{after.loss:.4f}", f"{before.perplexity:.2f}", f"{after.perplexity:.2f}")
        rows.append((split, before.rows, *values))
    return _table(header, rows)


def _table(header: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
