"""The library: methods that grow instruction data, pure of web, database, queue and model code.

The outside world comes in as two functions: `ask` (a teacher) and `encode` (an embedder).
"""

from app.synth.export.formats import FORMS, to_alpaca, to_dpo, to_messages, to_sharegpt, write_jsonl
from app.synth.export.selection import facility_location, quality_complexity, top_k
from app.synth.methods.registry import METHODS
from app.synth.notebook.grow import grow
from app.synth.notebook.growing import Growth
from app.synth.novelty.pool import Pool, Thresholds
from app.synth.prices import Prices
from app.synth.quality.report import quality_report
from app.synth.quality.scores import RULE_SCORES, rule_scores
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
    "RULE_SCORES",
    "Candidate",
    "Demonstration",
    "Growth",
    "Instance",
    "Pair",
    "Parent",
    "Pool",
    "Prices",
    "Prompt",
    "Rejection",
    "Reply",
    "Source",
    "Thresholds",
    "Turn",
    "Usage",
    "facility_location",
    "grow",
    "load_seeds",
    "parse_seed",
    "quality_complexity",
    "quality_report",
    "rule_scores",
    "to_alpaca",
    "to_dpo",
    "to_messages",
    "to_sharegpt",
    "top_k",
    "write_jsonl",
]
