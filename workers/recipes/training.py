"""LoRA training with TRL's SFTTrainer."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import PreTrainedConfig, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from app.training_jobs.hyperparameters import Hyperparameters
from workers.recipes.base_model import LoadedBase
from workers.recipes.events import Emit
from workers.recipes.failures import Failure


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        model: The base model with its adapter.
        steps: The number of optimizer steps.
        tokens: The number of tokens without padding, over all epochs.
        metrics: The fields of the metrics events, in order.
    """

    model: PeftModel
    steps: int
    tokens: int
    metrics: list[dict]


class MetricsCallback(TrainerCallback):
    """Emits the trainer's logs as metrics events, and stops a training whose loss is no longer a number."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.rows: list[dict] = []

    def on_log(self, args, state, control, logs=None, **_) -> None:
        """Emit one log of the trainer. Raises Failure (diverged) if its loss or its gradient is not finite."""
        # The trainer's last log is a summary without a loss.
        if "loss" not in (logs or {}):
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


def train(
    base: LoadedBase, rows: Dataset, hyperparameters: Hyperparameters, seed: int, work: Path, emit: Emit
) -> TrainingResult:
    """Train an adapter and emit 20 to 50 metrics events.

    Args:
        base: The base model. Its model object receives the adapter.
        rows: Columns `input_ids` and `labels`.
        hyperparameters: Values with a learning_rate and epochs.
        seed: Decides the adapter's first weights and the order of the rows.
        work: A folder that the trainer may write to.
        emit: Receives the metrics events.

    Raises:
        Failure: diverged, if the loss is no longer a number.
    """
    metrics = MetricsCallback(emit)
    trainer = SFTTrainer(
        model=base.model,
        args=trainer_config(base.model.config, hyperparameters, seed, base.model.dtype is torch.bfloat16, work),
        train_dataset=rows,
        processing_class=base.tokenizer,
        peft_config=lora_config(hyperparameters),
        callbacks=[metrics],
    )
    # It prints to stdout, which belongs to the events.
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokens = metrics.rows[-1]["tokens"] if metrics.rows else 0
    return TrainingResult(trainer.model, trainer.state.global_step, tokens, metrics.rows)


def lora_config(hyperparameters: Hyperparameters) -> LoraConfig:
    """Return LoRA on every linear layer but the output head.

    Hu et al. 2021, "LoRA"; all layers instead of attention alone as in Dettmers et al. 2023, "QLoRA", section 4.
    """
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=hyperparameters.lora_rank,
        lora_alpha=hyperparameters.lora_alpha,
        lora_dropout=hyperparameters.lora_dropout,
        target_modules="all-linear",
    )


def trainer_config(
    config: PreTrainedConfig, hyperparameters: Hyperparameters, seed: int, bf16: bool, work: Path
) -> SFTConfig:
    """Return the configuration of TRL's trainer for a model of this configuration."""
    cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=hyperparameters.epochs,
        max_steps=hyperparameters.max_steps or -1,
        learning_rate=hyperparameters.learning_rate,
        per_device_train_batch_size=hyperparameters.batch_size,
        gradient_accumulation_steps=hyperparameters.gradient_accumulation,
        max_length=hyperparameters.max_length,
        packing=hyperparameters.packing,
        # Rows of similar length share a batch, which halves the padding. Packed rows have one length anyway.
        train_sampling_strategy="random" if hyperparameters.packing else "group_by_length",
        # A number below 1 is a share of all steps.
        warmup_steps=hyperparameters.warmup_ratio,
        lr_scheduler_type=hyperparameters.scheduler,
        weight_decay=hyperparameters.weight_decay,
        seed=seed,
        bf16=bf16,
        use_cpu=not cuda,
        gradient_checkpointing=cuda and needs_checkpointing(config, hyperparameters, torch.cuda.mem_get_info()[0]),
        # This is a share of all steps, too: about 40 points are enough for a curve.
        logging_steps=1 / 40,
        logging_first_step=True,
        # The filter would log the mean of the other steps instead of nan, and hide a divergence.
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=cuda,
    )


def needs_checkpointing(config: PreTrainedConfig, hyperparameters: Hyperparameters, free_bytes: int) -> bool:
    """Return whether the activations of a full batch are likely not to fit into `free_bytes`."""
    # For the backward pass a Llama block stores about 16 vectors of the hidden size and 5 of the inner size per token,
    # two bytes a number. Recomputing them (gradient checkpointing) costs a third more time.
    text_config = config.get_text_config()
    inner_size = getattr(text_config, "intermediate_size", None) or 4 * text_config.hidden_size
    bytes_per_token = 2 * text_config.num_hidden_layers * (16 * text_config.hidden_size + 5 * inner_size)
    return hyperparameters.batch_size * hyperparameters.max_length * bytes_per_token > 0.7 * free_bytes
