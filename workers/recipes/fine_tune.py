"""One fine-tune from its job to its artifacts."""

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import datasets
from transformers.utils import logging as transformers_logging

from app.training_jobs.hyperparameters import Hyperparameters
from app.training_jobs.jobs import SPLITS, FineTuneJob, ScoreJob
from workers.recipes import tiny_model
from workers.recipes.artifacts import open_work_folder, publish_artifacts, save_artifacts, save_base_model
from workers.recipes.base_model import LoadedBase, load_base_model, set_thread_count
from workers.recipes.chat_dataset import Dialogue, EncodedRows, encode_dialogues, read_messages, use_chat_template
from workers.recipes.evaluate import Evaluation, evaluate
from workers.recipes.events import Emit
from workers.recipes.failures import Failure
from workers.recipes.model_card import model_card
from workers.recipes.process import run_recipe
from workers.recipes.training import TrainingResult, train

# Without held-out rows the loss is measured on the first train rows; more of them would only take longer.
MAX_TRAIN_ROWS_EVALUATED = 200

# Evaluations by split.
Losses = dict[str, Evaluation]


def fine_tune(job: FineTuneJob, emit: Emit) -> None:
    """Fine-tune a model and report each step through `emit`.

    Raises:
        Failure: The job, its files or the machine do not allow the fine-tune.
    """
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    with open_work_folder(job.output_dir) as work:
        run_fine_tune(job, work, emit)


def run_fine_tune(job: FineTuneJob, work: Path, emit: Emit) -> None:
    """Load, evaluate, train, evaluate again and save. `work` is an empty folder on the disk of the output folder."""
    started = time.monotonic()
    hyperparameters = job.hyperparameters.resolve(job.base_model.kind)
    dialogues = load_dialogues(job, emit)
    base = prepare_base_model(job, hyperparameters, dialogues["train"], emit)
    if base.made_on_the_spot:
        save_base_model(base, work / "artifacts" / "base")
    hyperparameters = clamp_max_length(hyperparameters, base)
    encoded = encode_splits(dialogues, base, hyperparameters)
    evaluation_splits = choose_evaluation_splits(encoded)

    before = evaluate_splits("before", base.model, base, evaluation_splits, emit)
    log_training(job.hyperparameters, hyperparameters, encoded["train"], emit)
    training = train(base, encoded["train"].rows, hyperparameters, job.seed, work / "trainer", emit)
    after = evaluate_splits("after", training.model, base, evaluation_splits, emit)

    emit("stage", stage="save", message="Saving the adapter and its model card.")
    losses = {split: (before[split], after[split]) for split in evaluation_splits}
    files = {split: (path, len(dialogues[split])) for split, path in job.files.by_split().items() if dialogues[split]}
    card = model_card(base, files, hyperparameters, job.seed, losses, job.simulated)
    save_artifacts(base, training, metrics_rows(training, before, after), card, work / "artifacts")
    publish_artifacts(work, job.output_dir, emit)
    log_done(encoded, training, losses, time.monotonic() - started, emit)


def load_dialogues(job: FineTuneJob, emit: Emit) -> dict[str, list[Dialogue]]:
    """Return the dialogues by split. A split without a file has none.

    Raises:
        Failure: invalid_job without a train file, empty_train without a row in it.
    """
    emit("stage", stage="load", message="Reading the snapshot's files.")
    if not job.files.train.is_file():
        raise Failure("invalid_job", f"The train file {job.files.train.name!r} does not exist.")
    files = job.files.by_split()
    dialogues = {
        split: read_messages(files[split]) if split in files and files[split].is_file() else [] for split in SPLITS
    }
    if not dialogues["train"]:
        raise Failure("empty_train", "The train split has no rows. Export a snapshot with some.")
    return dialogues


def prepare_base_model(
    job: FineTuneJob | ScoreJob, hyperparameters: Hyperparameters, dialogues: list[Dialogue], emit: Emit
) -> LoadedBase:
    """Make or load the base model, give it a chat template if it has none, and emit the event base_model."""
    tiny = job.base_model.kind == "tiny"
    # The tiny model's matrices are so small that more threads would only wait for each other.
    set_thread_count(max_threads=4 if tiny else None)
    if tiny:
        emit("stage", stage="base_model", message="No base model is configured, so a small one is made from the data.")
        model, tokenizer = tiny_model.make_tiny_model(dialogues, job.seed, hyperparameters.max_length, emit)
        base = LoadedBase(model, tokenizer, "base", model.num_parameters(), None, True, tiny_model.NOTE)
    else:
        emit("stage", stage="base_model", message=f"Loading the base model {job.base_model.shown}.")
        base = load_base_model(job.base_model, hyperparameters.packing)
    if use_chat_template(base.tokenizer) and not tiny:
        base = replace(base, note=base.note + "; it has no chat template, so a plain one (User: / Assistant:) is used")
    emit("base_model", name=base.name, weights=base.parameter_count, made_on_the_spot=tiny, note=base.note)
    return base


def clamp_max_length(hyperparameters: Hyperparameters, base: LoadedBase) -> Hyperparameters:
    """Return the hyperparameters with max_length reduced to the number of positions that the model has."""
    # Beyond its positions a model fails, or gives results that it was never trained for.
    max_positions = (
        getattr(base.model.config.get_text_config(), "max_position_embeddings", None) or hyperparameters.max_length
    )
    return hyperparameters.model_copy(update={"max_length": min(hyperparameters.max_length, max_positions)})


def encode_splits(
    dialogues: dict[str, list[Dialogue]], base: LoadedBase, hyperparameters: Hyperparameters
) -> dict[str, EncodedRows]:
    """Return the tokens and labels of each split.

    Raises:
        Failure: empty_train, if no train row has an answer within max_length.
    """
    # Held-out rows are labelled on the assistant's tokens in any case, so that losses of different jobs compare.
    encoded = {
        split: encode_dialogues(
            rows, base.tokenizer, hyperparameters.max_length, hyperparameters.assistant_only_loss or split != "train"
        )
        for split, rows in dialogues.items()
    }
    if not len(encoded["train"].rows):
        raise Failure(
            "empty_train",
            f"No row of the train split has an answer within {hyperparameters.max_length} tokens. "
            "Choose a larger max_length.",
        )
    return encoded


def choose_evaluation_splits(encoded: dict[str, EncodedRows]) -> dict[str, EncodedRows]:
    """Return the held-out splits that have rows; if there are none, the first train rows."""
    held_out = {split: rows for split, rows in encoded.items() if split != "train" and len(rows.rows)}
    if held_out:
        return held_out
    train_rows = encoded["train"].rows
    first_rows = train_rows.select(range(min(MAX_TRAIN_ROWS_EVALUATED, len(train_rows))))
    return {"train": replace(encoded["train"], rows=first_rows)}


def evaluate_splits(
    when: str, model, base: LoadedBase, evaluation_splits: dict[str, EncodedRows], emit: Emit
) -> Losses:
    """Return the evaluation of each split, and emit those of held-out splits.

    `when` is "before" or "after" the training.
    """
    emit("stage", stage=f"evaluate_{when}", message=f"Measuring the loss on {' and '.join(evaluation_splits)} rows.")
    evaluations = {}
    for split, encoded in evaluation_splits.items():
        evaluations[split] = evaluate(model, base.tokenizer.pad_token_id, encoded.rows)
        # The loss on train rows says nothing about new rows, so only the event done has it.
        if split != "train":
            emit("evaluation", split=split, when=when, **asdict(evaluations[split]))
    return evaluations


def log_training(requested: Hyperparameters, hyperparameters: Hyperparameters, rows: EncodedRows, emit: Emit) -> None:
    """Emit the stage train, with the truncated rows and the values that were chosen for a null."""
    changed_keys = [key for key, value in requested.model_dump().items() if value != getattr(hyperparameters, key)]
    message = f"Training an adapter of rank {hyperparameters.lora_rank} on {len(rows.rows)} rows."
    if rows.truncated:
        message += f" {rows.truncated} are longer than {hyperparameters.max_length} tokens and were truncated,"
        message += f" and {rows.dropped} of these were dropped."
    if changed_keys:
        message += (
            " Values chosen for this base model: "
            + ", ".join(f"{key} {getattr(hyperparameters, key)}" for key in changed_keys)
            + "."
        )
    emit("stage", stage="train", message=message, hyperparameters=hyperparameters.model_dump())


def metrics_rows(training: TrainingResult, before: Losses, after: Losses) -> list[dict]:
    """Return the rows of metrics.jsonl: the training's metrics between the evaluations, in the form of events."""

    def evaluation_rows(when: str, losses: Losses) -> list[dict]:
        return [
            {"event": "evaluation", "split": split, "when": when, **asdict(evaluation)}
            for split, evaluation in losses.items()
        ]

    metrics = [{"event": "metrics", **row} for row in training.metrics]
    return evaluation_rows("before", before) + metrics + evaluation_rows("after", after)


def log_done(
    encoded: dict[str, EncodedRows],
    training: TrainingResult,
    losses: dict[str, tuple[Evaluation, Evaluation]],
    seconds: float,
    emit: Emit,
) -> None:
    """Emit the event done, with the losses of the validation split, else of the test split, else of the train split."""
    split = next(split for split in ("validation", "test", "train") if split in losses)
    before, after = losses[split]
    emit(
        "done",
        loss_before=before.loss,
        loss_after=after.loss,
        split=split,
        train_rows=len(encoded["train"].rows),
        steps=training.steps,
        tokens=training.tokens,
        seconds=round(seconds, 2),
        truncated_rows=encoded["train"].truncated,
        dropped_rows=encoded["train"].dropped,
    )


if __name__ == "__main__":
    sys.exit(run_recipe(sys.argv[1:], FineTuneJob, fine_tune))
