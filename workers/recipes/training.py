"""LoRA training through TRL's SFTTrainer."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedConfig, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from workers.recipes.base_model import Base
from workers.recipes.events import Emit
from workers.recipes.failures import Failure
from workers.recipes.job import Hyperparameters


@dataclass(frozen=True)
class Trained:
    """model: the base with its adapter. tokens: non-padding tokens trained on, over all epochs. metrics: rows."""

    model: PeftModel
    steps: int
    tokens: int
    metrics: list[dict]


class Metrics(TrainerCallback):
    """Turns the trainer's log rows into metrics events, and stops a run whose loss is no longer a number."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.rows: list[dict] = []

    def on_log(self, args, state, control, logs=None, **_) -> None:
        if "loss" not in (logs or {}):  # the summary at the end
            return
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            raise Failure(
                "diverged",
                f"The loss is no longer a number at step {state.global_step}. Choose a smaller learning rate.",
            )
        row = {
            "step": state.global_step,
            "total_steps": state.max_steps,
            "epoch": round(float(logs["epoch"]), 4),
            "loss": float(logs["loss"]),
            "learning_rate": float(logs["learning_rate"]),
            "grad_norm": float(logs["grad_norm"]),
            "tokens": int(logs["num_tokens"]),
        }
        self.rows.append(row)
        self.emit("metrics", **row)


def train(base: Base, rows: Dataset, asked: Hyperparameters, seed: int, work: Path, emit: Emit) -> Trained:
    """Train an adapter on rows (`input_ids`, `labels`) and emit 20 to 50 metrics events.

    `asked` has no null left in learning_rate and epochs. `work` is a folder the trainer may write into.
    Raises Failure("diverged").
    """
    metrics = Metrics(emit)
    trainer = SFTTrainer(
        model=base.model,
        args=settings(base.model.config, asked, seed, base.model.dtype is torch.bfloat16, work),
        train_dataset=rows,
        processing_class=base.tokenizer,
        peft_config=adapter(asked),
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokens = metrics.rows[-1]["tokens"] if metrics.rows else 0
    return Trained(trainer.model, trainer.state.global_step, tokens, metrics.rows)


def adapter(asked: Hyperparameters) -> LoraConfig:
    """LoRA on every linear layer but the output head (Hu et al. 2021; all layers as in QLoRA, Dettmers et al. 2023)."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=asked.lora_rank,
        lora_alpha=asked.lora_alpha,
        lora_dropout=asked.lora_dropout,
        target_modules="all-linear",
    )


def settings(config: PreTrainedConfig, asked: Hyperparameters, seed: int, bf16: bool, work: Path) -> SFTConfig:
    cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=asked.epochs,
        max_steps=asked.max_steps or -1,
        learning_rate=asked.learning_rate,
        per_device_train_batch_size=asked.batch_size,
        gradient_accumulation_steps=asked.gradient_accumulation,
        max_length=asked.max_length,
        packing=asked.packing,
        # Rows of like length share a batch, which halves the padding; packed rows are of one length anyway.
        train_sampling_strategy="random" if asked.packing else "group_by_length",
        warmup_steps=asked.warmup_ratio,  # below 1 it is a share of all steps
        lr_scheduler_type=asked.scheduler,
        weight_decay=asked.weight_decay,
        seed=seed,
        bf16=bf16,
        use_cpu=not cuda,
        gradient_checkpointing=cuda and needs_checkpointing(config, asked, torch.cuda.mem_get_info()[0]),
        logging_steps=1 / 40,  # a share of all steps
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide a divergence from us
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=cuda,
    )


def needs_checkpointing(config: PreTrainedConfig, asked: Hyperparameters, free_bytes: int) -> bool:
    """Whether a full batch's activations are likely not to fit beside the weights already in memory.

    Per token and layer a Llama-shaped block keeps about 16 vectors of the hidden size and 5 of the inner size
    for the backward pass, two bytes each; recomputing them instead costs a third more time.
    """
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    kept = 2 * text.num_hidden_layers * (16 * text.hidden_size + 5 * inner)
    return asked.batch_size * asked.max_length * kept > 0.7 * free_bytes
