"""Templates with slots, and the inverse: parsing a text into the values of the slots.

{topic}      a filler of the pool `topic`; the slot has the same filler wherever it appears in a text
{topic#2}    another filler of that pool
{topic.1}    the filler's first attribute (pools hold lines `filler | attribute | attribute`)
{topic^}     the filler with a capital letter
을/를        after a Korean filler: the form of the particle that its last syllable requires
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from app.simulator import korean_particles

Entry = tuple[str, ...]
Values = dict[str, Entry]
Pools = Mapping[str, tuple[Entry, ...]]

_SLOT = r"\{([a-z_]+(?:#\d)?)(?:\.(\d))?(\^)?\}"
_PIECE = re.compile(rf"{_SLOT}|({'|'.join(map(re.escape, korean_particles.PAIRS))})")
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:/(\d+))?")


def read_pool(lines: Sequence[str] | str) -> tuple[Entry, ...]:
    """Return the entries of lines `filler | attribute`, or of a range of numbers such as `20..400/20`."""
    # Ranges keep the files of parts short: 20..400/20 stands for twenty lines.
    if isinstance(lines, str):
        low, high, step = _RANGE.fullmatch(lines).groups()
        return tuple((str(n),) for n in range(int(low), int(high) + 1, int(step or 1)))
    return tuple(tuple(part.strip("\n ") for part in line.split(" | ")) for line in lines)


class Slot:
    """A place for a filler in a template. Slots with the same key have the same filler."""

    def __init__(self, key: str, attribute: int, capital: bool):
        self.key, self.pool, self.attribute, self.capital = key, key.partition("#")[0], attribute, capital

    def format(self, entry: Entry) -> str:
        """Return the text of an entry in this slot: the filler or one of its attributes, with a capital if required."""
        text = entry[self.attribute]
        return text[:1].upper() + text[1:] if self.capital else text


class Particle:
    """A Korean particle in a template, as its pair of forms."""

    def __init__(self, pair: str):
        self.pair = pair


class Template:
    """A text with slots whose fillers come from `pools`."""

    def __init__(self, text: str, pools: Pools):
        self.text, self.pools = text, pools
        self.pieces = tuple(_split(text))
        self.slots = tuple(piece for piece in self.pieces if isinstance(piece, Slot))

    @property
    def literal_prefix(self) -> str:
        """Return the text before the first slot, with which every rendered text begins."""
        return self.pieces[0] if isinstance(self.pieces[0], str) else ""

    def draw(self, rng: random.Random, values: Values) -> Values:
        """Return `values` with a random filler for each empty slot; two slots of one pool get different fillers."""
        filled_values = dict(values)
        for slot in self.slots:
            if slot.key not in filled_values:
                pool = self.pools[slot.pool]
                used_texts = {entry[0] for key, entry in filled_values.items() if key.partition("#")[0] == slot.pool}
                entry = pool[int(rng.random() * len(pool))]
                while entry[0] in used_texts and len(used_texts) < len(pool):
                    entry = pool[int(rng.random() * len(pool))]
                filled_values[slot.key] = entry
        return filled_values

    def render(self, values: Values) -> str:
        """Return the text with the fillers of `values` in its slots."""
        parts: list[str] = []
        for piece in self.pieces:
            if isinstance(piece, Slot):
                parts.append(piece.format(values[piece.key]))
            elif isinstance(piece, Particle):
                parts.append(korean_particles.choose_particle(piece.pair, "".join(parts[-2:])))
            else:
                parts.append(piece)
        return "".join(parts)

    def count(self) -> int:
        """Return the number of different texts that the template can render."""
        total, used_count = 1, {}
        # A slot that repeats a key adds no choice, and a second slot of a pool has one filler fewer.
        for key in dict.fromkeys(slot.key for slot in self.slots):
            pool = key.partition("#")[0]
            total *= len(self.pools[pool]) - used_count.get(pool, 0)
            used_count[pool] = used_count.get(pool, 0) + 1
        return total

    def parse(self, text: str) -> tuple[Values, int] | None:
        """Return the values and the length of the rendered text that `text` begins with, or None.

        Backtracks over the pieces, since a filler may be the beginning of another filler.
        """
        return next(self._match_from(text, 0, 0, {}), None)

    def _match_from(self, text: str, position: int, piece_index: int, values: Values) -> Iterator[tuple[Values, int]]:
        if piece_index == len(self.pieces):
            yield values, position
            return
        piece = self.pieces[piece_index]
        if isinstance(piece, Slot):
            for entry, end in self._match_slot(piece, text, position, values):
                yield from self._match_from(text, end, piece_index + 1, {**values, piece.key: entry})
            return
        literal = (
            korean_particles.choose_particle(piece.pair, text[:position]) if isinstance(piece, Particle) else piece
        )
        if text.startswith(literal, position):
            yield from self._match_from(text, position + len(literal), piece_index + 1, values)

    def _match_slot(self, slot: Slot, text: str, position: int, values: Values) -> Iterator[tuple[Entry, int]]:
        if slot.key in values:
            shown_text = slot.format(values[slot.key])
            if text.startswith(shown_text, position):
                yield values[slot.key], position + len(shown_text)
            return
        by_letter = _index_by_first_letter(self.pools[slot.pool], slot.attribute, slot.capital)
        for shown_text, entry in by_letter.get(text[position : position + 1], ()):
            if text.startswith(shown_text, position):
                yield entry, position + len(shown_text)


@cache
def _index_by_first_letter(
    pool: tuple[Entry, ...], attribute: int, capital: bool
) -> dict[str, list[tuple[str, Entry]]]:
    """Return the fillers by their first letter, the longest first: "120" is tried before "12"."""
    slot, by_letter = Slot("", attribute, capital), {}
    for entry in sorted(pool, key=lambda entry: -len(entry[attribute])):
        text = slot.format(entry)
        by_letter.setdefault(text[:1], []).append((text, entry))
    return by_letter


def _split(text: str) -> Iterator[str | Slot | Particle]:
    position = 0
    for match in _PIECE.finditer(text):
        if match.start() > position:
            yield text[position : match.start()]
        key, attribute, capital, pair = match.groups()
        yield Particle(pair) if pair else Slot(key, int(attribute or 0), bool(capital))
        position = match.end()
    if position < len(text):
        yield text[position:]
