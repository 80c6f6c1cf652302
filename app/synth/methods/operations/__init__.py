"""The operations of Evol-Instruct (Xu et al. 2023, section 3.2): five in depth, and breadth in three modes.

An operation is a paragraph in `en.toml` and `ko.toml`, which is filled into the prompt for depth or for breadth. To add
an operation, add a line to OPERATIONS and its paragraphs.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Literal

OperationKind = Literal["depth", "breadth"]

OPERATIONS: dict[str, OperationKind] = {
    "constraints": "depth",
    "deepening": "depth",
    "concretising": "depth",
    "reasoning": "depth",
    "complicating": "depth",
    "mutation": "breadth",
    "topic": "breadth",
    "technique": "breadth",
}

# Equal shares for the five in depth and for breadth as a whole, as in the paper; breadth's goes to its three modes.
# Listed by name: a new operation has no weight here, and changes no run that does not ask for it.
WEIGHTS: dict[str, float] = {
    "constraints": 1.0,
    "deepening": 1.0,
    "concretising": 1.0,
    "reasoning": 1.0,
    "complicating": 1.0,
    "mutation": 1 / 3,
    "topic": 1 / 3,
    "technique": 1 / 3,
}


@cache
def _wording(language: str) -> dict[str, dict[str, str]]:
    # A language without a file of its own gets the English paragraphs, as it gets the English prompts.
    folder = resources.files(__name__)
    path = folder / f"{language.split('-')[0].lower()}.toml"
    return tomllib.loads((path if path.is_file() else folder / "en.toml").read_text("utf-8"))


def wording(operation: str, language: str) -> str:
    """Return the paragraph that asks the teacher for this operation.

    Args:
        operation: a name from OPERATIONS.
        language: a BCP-47 tag; a language without a file of its own gets English.

    Raises:
        KeyError: the operation is unknown.
    """
    return _wording(language)["operations"][operation].strip()


def leaks(language: str) -> tuple[str, ...]:
    """Return phrases of the prompts that an evolved instruction may not have.

    Such a leak is the paper's fourth reason to eliminate a child. Prompts in another language quote English, too.
    """
    return tuple(dict.fromkeys([*_wording(language)["leaks"], *_wording("en")["leaks"]]))
