"""All personalities by name, and how they are selected: `thinking_tags`, `code_fence:0.3`, several joined by `+`."""

from dataclasses import dataclass

from app.simulator import seeded_random
from app.simulator.personalities import json_habits, messages, refusals, thoughts, transport, usage
from app.simulator.personalities.personality import Call, Personality

PERSONALITIES: dict[str, Personality] = {
    personality.name: personality
    for module in (thoughts, json_habits, messages, usage, refusals, transport)
    for personality in module.PERSONALITIES
}


@dataclass(frozen=True)
class Selection:
    """A personality at a rate: the share of requests that it changes, from 0 to 1."""

    personality: Personality
    rate: float = 1.0

    def applies_to(self, call: Call, seed: int) -> bool:
        """Return whether the personality changes this call: always the same for the same request."""
        attempt = call.attempt if self.personality.by_attempt else 0
        return (
            seeded_random.draw_uniform("personality", self.personality.name, seed, call.request_hash, attempt)
            < self.rate
        )


def parse_selection(text: str) -> Selection:
    """Return the selection of `name` or `name:rate`.

    Raises:
        ValueError: There is no personality of this name, or the rate is not between 0 and 1.
    """
    name, colon, rate = text.partition(":")
    if name not in PERSONALITIES:
        raise ValueError(f"there is no personality {name!r}; there are {', '.join(PERSONALITIES)}")
    try:
        number = float(rate) if colon else 1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"the rate of {name} is {rate!r}, not a number between 0 and 1")
    return Selection(PERSONALITIES[name], number)


def selections_of_model(model: str) -> tuple[Selection, ...]:
    """Return the personalities that the name of a model selects: `seedbed-simulated+think+code_fence:0.3`.

    Raises:
        ValueError: See parse_selection.
    """
    return tuple(parse_selection(text) for text in model.split("+")[1:])
