"""The way of one fine-tune, from top to bottom."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import datasets
from transformers.utils import logging as transformers_logging

from workers.recipes import tiny_model
from workers.recipes.artifacts import open_work, publish, save, save_base
from workers.recipes.base_model import Base, load_base, use_threads
from workers.recipes.chat_dataset import Encoded, Messages, encode, read_messages, use_chat_template
from workers.recipes.evaluate import Evaluation, evaluate
from workers.recipes.events import Emit
from workers.recipes.failures import Failure
from workers.recipes.job import SPLITS, Hyperparameters, Job
from workers.recipes.model_card import model_card
from workers.recipes.score_job import ScoreJob
from workers.recipes.training import Trained, train

TRAIN_ROWS_MEASURED = 200  # where nothing is held out

Losses = dict[str, Evaluation]  # by split


def fine_tune(job: Job, emit: Emit) -> None:
    """Base model, loss before, training, loss after, artifacts; everything is told through `emit`.

    Raises Failure for what the person asking can mend.
    """
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    with open_work(job.output_dir) as work:
        walk(job, work, emit)


def walk(job: Job, work: Path, emit: Emit) -> None:
    started = time.monotonic()
    asked = job.hyperparameters.resolved(job.base_model.kind)
    dialogues = load(job, emit)
    base = open_base(job, asked, dialogues["train"], emit)
    if base.made_on_the_spot:
        save_base(base, work / "artifacts" / "base")
    asked = within_reach(asked, base)
    encoded = encode_splits(dialogues, base, asked)
    measured = measured_splits(encoded)

    before = evaluate_splits("before", base.model, base, measured, emit)
    tell_training(job.hyperparameters, asked, encoded["train"], emit)
    trained = train(base, encoded["train"].rows, asked, job.seed, work / "trainer", emit)
    after = evaluate_splits("after", trained.model, base, measured, emit)

    emit("stage", stage="save", message="Saving the adapter and its model card.")
    losses = {split: (before[split], after[split]) for split in measured}
    files = {split: (job.files[split], len(rows)) for split, rows in dialogues.items() if rows}
    card = model_card(base, files, asked, job.seed, losses, job.simulated)
    save(base, trained, history(trained, before, after), card, work / "artifacts")
    publish(work, job.output_dir, emit)
    tell_end(encoded, trained, losses, time.monotonic() - started, emit)


def load(job: Job, emit: Emit) -> dict[str, list[Messages]]:
    """The dialogues of every split; a split that is missing or empty has none. Raises Failure("empty_train")."""
    emit("stage", stage="load", message="Reading the snapshot's files.")
    if not job.files["train"].is_file():
        raise Failure("invalid_job", f"The train file {job.files['train'].name!r} does not exist.")
    dialogues = {
        split: read_messages(job.files[split]) if split in job.files and job.files[split].is_file() else []
        for split in SPLITS
    }
    if not dialogues["train"]:
        raise Failure("empty_train", "The train split has no rows. Export a snapshot with some.")
    return dialogues


def open_base(job: Job | ScoreJob, asked: Hyperparameters, dialogues: list[Messages], emit: Emit) -> Base:
    """Make or load the base model, give it a chat template if it has none, and tell what it is."""
    tiny = job.base_model.kind == "tiny"
    use_threads(most=4 if tiny else None)  # on matrices this small more only get in each other's way
    if tiny:
        emit("stage", stage="base_model", message="No base model is configured: making a small one from the data.")
        model, tokenizer = tiny_model.make_tiny(dialogues, job.seed, asked.max_length, emit)
        base = Base(model, tokenizer, "base", model.num_parameters(), None, True, tiny_model.NOTE)
    else:
        emit("stage", stage="base_model", message=f"Loading the base model {job.base_model.shown}.")
        base = load_base(job.base_model, asked.packing)
    if use_chat_template(base.tokenizer) and not tiny:
        base = replace(base, note=base.note + "; it has no chat template, so a plain one (User: / Assistant:) is used")
    emit("base_model", name=base.name, weights=base.weights, made_on_the_spot=tiny, note=base.note)
    return base


def within_reach(asked: Hyperparameters, base: Base) -> Hyperparameters:
    """max_length cut to the positions the model has; beyond them some models fail, the others were never trained."""
    reach = getattr(base.model.config.get_text_config(), "max_position_embeddings", None) or asked.max_length
    return replace(asked, max_length=min(asked.max_length, reach))


def encode_splits(dialogues: dict[str, list[Messages]], base: Base, asked: Hyperparameters) -> dict[str, Encoded]:
    """Tokens and labels. Held-out rows are always measured on the assistant's tokens, so that losses compare."""
    encoded = {
        split: encode(rows, base.tokenizer, asked.max_length, asked.assistant_only_loss or split != "train")
        for split, rows in dialogues.items()
    }
    if not len(encoded["train"].rows):
        raise Failure(
            "empty_train",
            f"No row of the train split has an answer within {asked.max_length} tokens. Choose a larger max_length.",
        )
    return encoded


def measured_splits(encoded: dict[str, Encoded]) -> dict[str, Encoded]:
    """The held-out splits that have rows; where there is none, the first of the train rows."""
    held_out = {split: rows for split, rows in encoded.items() if split != "train" and len(rows.rows)}
    if held_out:
        return held_out
    train_rows = encoded["train"].rows
    first = train_rows.select(range(min(TRAIN_ROWS_MEASURED, len(train_rows))))
    return {"train": replace(encoded["train"], rows=first)}


def evaluate_splits(when: str, model, base: Base, measured: dict[str, Encoded], emit: Emit) -> Losses:
    """The loss on every measured split. The train split's is no evaluation, so only the done event tells it."""
    emit("stage", stage=f"evaluate_{when}", message=f"Measuring the loss on {' and '.join(measured)} rows.")
    found = {}
    for split, encoded in measured.items():
        found[split] = evaluate(model, base.tokenizer.pad_token_id, encoded.rows)
        if split != "train":
            emit("evaluation", split=split, when=when, **asdict(found[split]))
    return found


def tell_training(given: Hyperparameters, asked: Hyperparameters, rows: Encoded, emit: Emit) -> None:
    filled = [key for key, value in asdict(given).items() if value != getattr(asked, key)]
    message = f"Training an adapter of rank {asked.lora_rank} on {len(rows.rows)} rows."
    if rows.truncated:
        message += f" {rows.truncated} longer than {asked.max_length} tokens were cut, {rows.dropped} of them left out."
    if filled:
        message += " Chosen for this base model: " + ", ".join(f"{key} {getattr(asked, key)}" for key in filled) + "."
    emit("stage", stage="train", message=message, hyperparameters=asdict(asked))


def history(trained: Trained, before: Losses, after: Losses) -> list[dict]:
    """The rows of metrics.jsonl: evaluations around the training's metrics, in the events' own form."""

    def told(when: str, losses: Losses) -> list[dict]:
        return [{"event": "evaluation", "split": s, "when": when, **asdict(found)} for s, found in losses.items()]

    metrics = [{"event": "metrics", **row} for row in trained.metrics]
    return told("before", before) + metrics + told("after", after)


def tell_end(
    encoded: dict[str, Encoded],
    trained: Trained,
    losses: dict[str, tuple[Evaluation, Evaluation]],
    seconds: float,
    emit: Emit,
) -> None:
    """The done event; its losses are the validation split's, else the test split's, else the train split's."""
    split = next(split for split in ("validation", "test", "train") if split in losses)
    before, after = losses[split]
    emit(
        "done",
        loss_before=before.loss,
        loss_after=after.loss,
        split=split,
        train_rows=len(encoded["train"].rows),
        steps=trained.steps,
        tokens=trained.tokens,
        seconds=round(seconds, 2),
        truncated_rows=encoded["train"].truncated,
        dropped_rows=encoded["train"].dropped,
    )
