"""Templates with slots, and their inverse: a text read back into the values that made it.

{topic}      a filler of the pool `topic`; the same filler wherever it stands again
{topic#2}    another filler of that pool
{topic.1}    the filler's first attribute (pools hold lines `filler | attribute | attribute`)
{topic^}     with a capital
을/를        after a Korean filler: the particle that its last sound asks for
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from app.simulator import particles

Entry = tuple[str, ...]
Values = dict[str, Entry]
Pools = Mapping[str, tuple[Entry, ...]]

_SLOT = r"\{([a-z_]+(?:#\d)?)(?:\.(\d))?(\^)?\}"
_PIECE = re.compile(rf"{_SLOT}|({'|'.join(map(re.escape, particles.PAIRS))})")
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:/(\d+))?")


def read_pool(lines: Sequence[str] | str) -> tuple[Entry, ...]:
    """Lines of `filler | attribute`, or a range of numbers such as `20..400/20`."""
    if isinstance(lines, str):
        low, high, step = _RANGE.fullmatch(lines).groups()
        return tuple((str(n),) for n in range(int(low), int(high) + 1, int(step or 1)))
    return tuple(tuple(part.strip("\n ") for part in line.split(" | ")) for line in lines)


class Slot:
    def __init__(self, key: str, attribute: int, capital: bool):
        self.key, self.pool, self.attribute, self.capital = key, key.partition("#")[0], attribute, capital

    def show(self, entry: Entry) -> str:
        text = entry[self.attribute]
        return text[:1].upper() + text[1:] if self.capital else text


class Particle:
    def __init__(self, pair: str):
        self.pair = pair


class Template:
    """One text with slots over `pools`."""

    def __init__(self, text: str, pools: Pools):
        self.text, self.pools = text, pools
        self.pieces = tuple(_split(text))
        self.slots = tuple(piece for piece in self.pieces if isinstance(piece, Slot))

    @property
    def head(self) -> str:
        """The letters that every text of it begins with."""
        return self.pieces[0] if isinstance(self.pieces[0], str) else ""

    def draw(self, rng: random.Random, values: Values) -> Values:
        """`values` with a filler for every slot that has none; two slots of one pool get different ones."""
        drawn = dict(values)
        for slot in self.slots:
            if slot.key not in drawn:
                pool = self.pools[slot.pool]
                taken = {entry[0] for key, entry in drawn.items() if key.partition("#")[0] == slot.pool}
                entry = pool[int(rng.random() * len(pool))]
                while entry[0] in taken and len(taken) < len(pool):
                    entry = pool[int(rng.random() * len(pool))]
                drawn[slot.key] = entry
        return drawn

    def render(self, values: Values) -> str:
        parts: list[str] = []
        for piece in self.pieces:
            if isinstance(piece, Slot):
                parts.append(piece.show(values[piece.key]))
            elif isinstance(piece, Particle):
                parts.append(particles.choose(piece.pair, "".join(parts[-2:])))
            else:
                parts.append(piece)
        return "".join(parts)

    def count(self) -> int:
        """How many different texts it has."""
        total, used = 1, {}
        for key in dict.fromkeys(slot.key for slot in self.slots):
            pool = key.partition("#")[0]
            total *= len(self.pools[pool]) - used.get(pool, 0)
            used[pool] = used.get(pool, 0) + 1
        return total

    def parse(self, text: str) -> tuple[Values, int] | None:
        """The values of the text that `text` begins with, and its length; None if it begins with none."""
        return next(self._match(text, 0, 0, {}), None)

    def _match(self, text: str, place: int, number: int, values: Values) -> Iterator[tuple[Values, int]]:
        if number == len(self.pieces):
            yield values, place
            return
        piece = self.pieces[number]
        if isinstance(piece, Slot):
            for entry, end in self._fillers(piece, text, place, values):
                yield from self._match(text, end, number + 1, {**values, piece.key: entry})
            return
        literal = particles.choose(piece.pair, text[:place]) if isinstance(piece, Particle) else piece
        if text.startswith(literal, place):
            yield from self._match(text, place + len(literal), number + 1, values)

    def _fillers(self, slot: Slot, text: str, place: int, values: Values) -> Iterator[tuple[Entry, int]]:
        if slot.key in values:
            shown = slot.show(values[slot.key])
            if text.startswith(shown, place):
                yield values[slot.key], place + len(shown)
            return
        by_letter = _index(self.pools[slot.pool], slot.attribute, slot.capital)
        for shown, entry in by_letter.get(text[place : place + 1], ()):
            if text.startswith(shown, place):
                yield entry, place + len(shown)


@cache
def _index(pool: tuple[Entry, ...], attribute: int, capital: bool) -> dict[str, list[tuple[str, Entry]]]:
    """Fillers by their first letter, the longest first: "12" is tried after "120"."""
    slot, found = Slot("", attribute, capital), {}
    for entry in sorted(pool, key=lambda entry: -len(entry[attribute])):
        shown = slot.show(entry)
        found.setdefault(shown[:1], []).append((shown, entry))
    return found


def _split(text: str) -> Iterator[str | Slot | Particle]:
    place = 0
    for found in _PIECE.finditer(text):
        if found.start() > place:
            yield text[place : found.start()]
        key, attribute, capital, pair = found.groups()
        yield Particle(pair) if pair else Slot(key, int(attribute or 0), bool(capital))
        place = found.end()
    if place < len(text):
        yield text[place:]
