"""The library: methods that grow instruction data, pure of web, database, queue and model code.

The outside world comes in as two functions: `ask` (a teacher) and `encode` (an embedder).
"""

from app.synth.formats import FORMS, to_alpaca, to_messages, to_sharegpt, write_jsonl
from app.synth.grow import Growth, grow
from app.synth.methods import METHODS
from app.synth.pool import Pool
from app.synth.seeds import load_seeds, parse_seed
from app.synth.types import (
    Candidate,
    Demonstration,
    Instance,
    Pair,
    Parent,
    Prompt,
    Rejection,
    Reply,
    Source,
    Turn,
    Usage,
)

__all__ = [
    "FORMS",
    "METHODS",
    "Candidate",
    "Demonstration",
    "Growth",
    "Instance",
    "Pair",
    "Parent",
    "Pool",
    "Prompt",
    "Rejection",
    "Reply",
    "Source",
    "Turn",
    "Usage",
    "grow",
    "load_seeds",
    "parse_seed",
    "to_alpaca",
    "to_messages",
    "to_sharegpt",
    "write_jsonl",
]
