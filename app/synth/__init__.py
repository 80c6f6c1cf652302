"""The library: methods that grow instruction data, pure of web, database, queue and model code.

The outside world comes in as two functions: `ask` (a teacher) and `encode` (an embedder).
"""

from app.synth.formats import FORMS, to_alpaca, to_messages, to_sharegpt, write_jsonl
from app.synth.grow import Growth, grow
from app.synth.pool import Pool
from app.synth.seeds import load_seeds, parse_seed
from app.synth.types import Candidate, Demonstration, Instance, Prompt, Rejection, Reply, Usage

__all__ = [
    "FORMS",
    "Candidate",
    "Demonstration",
    "Growth",
    "Instance",
    "Pool",
    "Prompt",
    "Rejection",
    "Reply",
    "Usage",
    "grow",
    "load_seeds",
    "parse_seed",
    "to_alpaca",
    "to_messages",
    "to_sharegpt",
    "write_jsonl",
]
