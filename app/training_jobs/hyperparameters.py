"""The hyperparameters of a fine-tune: their names, defaults and bounds, defined once for all processes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# The values for a null. The tiny model has learned little, so its adapter needs a far higher learning rate. 2e-4 is the
# usual rate of LoRA on a pretrained model (Dettmers et al. 2023, "QLoRA"), and Alpaca was trained for three epochs.
DEFAULTS = {
    "tiny": {"learning_rate": 1e-2, "epochs": 3.0},
    "pretrained": {"learning_rate": 2e-4, "epochs": 3.0},
}

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Hyperparameters(BaseModel):
    """The hyperparameters that a caller can set. A null stands for the default of the base model (`resolve`).

    Attributes:
        epochs: The passes over the train split.
        max_steps: The number of optimizer steps. It replaces `epochs`.
        learning_rate: The highest learning rate of the schedule.
        batch_size: The rows of a forward pass.
        gradient_accumulation: The forward passes of an optimizer step.
        max_length: The most tokens of a row. Longer rows are truncated.
        warmup_ratio: The share of the steps in which the learning rate rises from 0.
        scheduler: How the learning rate changes after the warm-up.
        weight_decay: The weight decay of AdamW.
        lora_rank: The rank of the adapter's matrices.
        lora_alpha: The adapter's output is scaled by lora_alpha / lora_rank.
        lora_dropout: The dropout of the adapter's input.
        packing: Whether several rows share a block of max_length tokens.
        assistant_only_loss: Whether only the tokens of the assistant's turns are trained on.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    epochs: float | None = Field(default=None, gt=0, le=100)
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    batch_size: int = Field(default=8, ge=1, le=512)
    gradient_accumulation: int = Field(default=1, ge=1, le=1024)
    max_length: int = Field(default=512, ge=16, le=32_768)
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    lora_rank: int = Field(default=8, ge=1, le=512)
    lora_alpha: float = Field(default=16.0, gt=0, lt=4096)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    packing: bool = False
    assistant_only_loss: bool = True

    def resolve(self, kind: str) -> "Hyperparameters":
        """Return a copy in which each null that has a default is replaced by it.

        `kind` is the kind of the base model: tiny, path or hub.
        """
        defaults = DEFAULTS["tiny" if kind == "tiny" else "pretrained"]
        return self.model_copy(update={name: value for name, value in defaults.items() if getattr(self, name) is None})
