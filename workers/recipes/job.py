"""The job: what one fine-tune is asked to do, read once from job.json and checked before anything slow starts."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from workers.recipes.failures import Failure

SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup")
SPLITS = ("train", "validation", "test")

# What a null stands for. The tiny model's adapter starts from a model that has barely learned to read, so it takes
# a far larger step; 2e-4 is the usual rate for LoRA on a pretrained model, three epochs are Alpaca's.
DEFAULTS = {
    "tiny": {"learning_rate": 1e-2, "epochs": 3},
    "pretrained": {"learning_rate": 2e-4, "epochs": 3},
}


@dataclass(frozen=True)
class BaseModel:
    """kind tiny (made on the spot), path (a folder of this machine) or hub (a name with a pinned revision)."""

    kind: str
    path: Path | None = None
    name: str | None = None
    revision: str | None = None

    @property
    def shown(self) -> str:
        """The name to publish: never a path of this machine."""
        return self.name or (self.path.name if self.path else "base")


@dataclass(frozen=True)
class Hyperparameters:
    """Lengths in tokens, batches in rows. `max_steps`, where given, decides instead of `epochs`."""

    epochs: float | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int = 512
    warmup_ratio: float = 0.03
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    lora_rank: int = 8
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    packing: bool = False
    assistant_only_loss: bool = True

    def resolved(self, kind: str) -> "Hyperparameters":
        """The same with every null that has a default filled in, by the kind of base model."""
        defaults = DEFAULTS["tiny" if kind == "tiny" else "pretrained"]
        return replace(self, **{key: value for key, value in defaults.items() if getattr(self, key) is None})


@dataclass(frozen=True)
class Job:
    output_dir: Path
    files: dict[str, Path]
    base_model: BaseModel
    hyperparameters: Hyperparameters
    seed: int
    simulated: bool


def read_job(path: Path) -> Job:
    """The job in a file. Raises Failure("invalid_job") that names the field and says what it should be."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure("invalid_job", f"The job file cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise Failure("invalid_job", f"The job file is not JSON: {error}.") from error
    return parse_job(raw)


def parse_job(raw: Any) -> Job:
    """The job in a decoded JSON object. Unknown keys are refused: a misspelt one would be ignored in silence."""
    wanted = ("output_dir", "files", "base_model", "method", "hyperparameters", "seed", "simulated")
    required = ("output_dir", "files", "base_model", "simulated")
    parse_object(raw, "the job", wanted, required)
    if raw.get("method", "lora") != "lora":
        raise _wrong("method", "lora", raw["method"])
    if not isinstance(raw["simulated"], bool):
        raise _wrong("simulated", "true or false", raw["simulated"])
    return Job(
        output_dir=parse_absolute(raw["output_dir"], "output_dir"),
        files=_files(raw["files"]),
        base_model=parse_base_model(raw["base_model"]),
        hyperparameters=_hyperparameters(raw.get("hyperparameters", {})),
        seed=parse_whole(raw.get("seed", 0), "seed", 0, 2**32 - 1),
        simulated=raw["simulated"],
    )


def _files(raw: Any) -> dict[str, Path]:
    parse_object(raw, "files", SPLITS, ("train",))
    return {split: parse_absolute(path, f"files.{split}") for split, path in raw.items() if path is not None}


def parse_base_model(raw: Any) -> BaseModel:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind == "tiny":
        parse_object(raw, "base_model", ("kind",), ("kind",))
        return BaseModel("tiny")
    if kind == "path":
        parse_object(raw, "base_model", ("kind", "path"), ("kind", "path"))
        return BaseModel("path", path=parse_absolute(raw["path"], "base_model.path"))
    if kind == "hub":
        parse_object(raw, "base_model", ("kind", "name", "revision"), ("kind", "name"))
        name, revision = raw["name"], raw.get("revision")
        if not isinstance(name, str) or not name or name.startswith(("/", ".")):
            raise _wrong("base_model.name", "a name on the hub, like org/model", name)
        if not (revision is None or (isinstance(revision, str) and revision)):
            raise _wrong("base_model.revision", "a commit, or null", revision)
        return BaseModel("hub", name=name, revision=revision)
    raise _wrong("base_model.kind", "tiny, path or hub", kind)


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(above: float, below: float) -> Callable[[Any], bool]:
    # nan compares false with everything, so it is refused here too
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and above < value < below


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _share(value: Any) -> bool:
    return not isinstance(value, bool) and (value == 0 or _number(0, 1)(value))


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_or_null(_number(0, 1001)), "a number above 0 and at most 1000, or null"),
    "max_steps": (_or_null(_whole(1, 10_000_000)), "a whole number of at least 1, or null"),
    "learning_rate": (_or_null(_number(0, 1)), "a number between 0 and 1, or null"),
    "batch_size": (_whole(1, 1024), "a whole number from 1 to 1024"),
    "gradient_accumulation": (_whole(1, 1024), "a whole number from 1 to 1024"),
    "max_length": (_whole(16, 131_072), "a whole number of tokens from 16 to 131072"),
    "warmup_ratio": (_share, "a number from 0 to below 1"),
    "scheduler": (lambda value: value in SCHEDULERS, "one of " + ", ".join(SCHEDULERS)),
    "weight_decay": (_share, "a number from 0 to below 1"),
    "lora_rank": (_whole(1, 512), "a whole number from 1 to 512"),
    "lora_alpha": (_number(0, 4096), "a number above 0"),
    "lora_dropout": (_share, "a number from 0 to below 1"),
    "packing": (_flag, "true or false"),
    "assistant_only_loss": (_flag, "true or false"),
}


def _hyperparameters(raw: Any) -> Hyperparameters:
    known = tuple(field.name for field in fields(Hyperparameters))
    parse_object(raw, "hyperparameters", known, ())
    for key, value in raw.items():
        check, words = RULES[key]
        if not check(value):
            raise _wrong(f"hyperparameters.{key}", words, value)
    return Hyperparameters(**raw)


def parse_absolute(value: Any, field: str) -> Path:
    if not isinstance(value, str) or not Path(value).is_absolute() or "\0" in value:
        raise _wrong(field, "an absolute path", value)
    return Path(value)


def parse_object(raw: Any, name: str, wanted: tuple[str, ...], required: tuple[str, ...]) -> None:
    if not isinstance(raw, dict):
        raise _wrong(name, "an object", raw)
    unknown = sorted(set(raw) - set(wanted))
    if unknown:
        raise Failure("invalid_job", f"Unknown field {unknown[0]!r} in {name}; it knows {', '.join(wanted)}.")
    missing = [key for key in required if key not in raw]
    if missing:
        raise Failure("invalid_job", f"The field {missing[0]!r} is missing in {name}.")


def parse_whole(value: Any, field: str, low: int, high: int) -> int:
    if not _whole(low, high)(value):
        raise _wrong(field, f"a whole number from {low} to {high}", value)
    return value


def _wrong(field: str, words: str, value: Any) -> Failure:
    return Failure("invalid_job", f"{field} must be {words}; it is {json.dumps(value)[:80]}.")
