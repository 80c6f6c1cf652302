"""The hyperparameters of a fine-tune: names, defaults and bounds, stated once."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# What a null stands for. The tiny model's adapter starts from a model that has barely learned to read, so it takes
# a far larger step; 2e-4 is the usual rate for LoRA on a pretrained model, three epochs are Alpaca's.
DEFAULTS = {
    "tiny": {"learning_rate": 1e-2, "epochs": 3.0},
    "pretrained": {"learning_rate": 2e-4, "epochs": 3.0},
}

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Hyperparameters(BaseModel):
    """What a caller may set; what is left out has the recipe's default for the base model.

    Lengths in tokens, batches in rows. `max_steps`, where given, decides instead of `epochs`.
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
        """The same with every null that has a default filled in, by the kind of base model."""
        defaults = DEFAULTS["tiny" if kind == "tiny" else "pretrained"]
        return self.model_copy(update={name: value for name, value in defaults.items() if getattr(self, name) is None})
