"""stub"""

from dataclasses import dataclass
from types import SimpleNamespace

FAMILIES = ("sentiment",)


@dataclass(frozen=True)
class Rendered:
    instruction: str
    input: str
    output: str


def family(t):
    return SimpleNamespace(
        name=t, summary="s", fields={"text": "t", "label": "l"}, classification=True, phrasings={"en": (1,) * 8}
    )


def choose(task, language, rng, inverse_share):
    return SimpleNamespace(name=f"{task}/{language}/{rng.randrange(8)}", inverse=False)


def render(p, row):
    return Rendered(f"Is it good or bad, way {p.name[-1]}?", row["text"], row["label"])


def with_demonstrations(r, shown, language):
    return r


def check_fields(task, row):
    if set(row) != {"text", "label"}:
        raise ValueError("fields text, label")
