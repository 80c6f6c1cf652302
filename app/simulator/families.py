"""Families of tasks: how their instructions read, and how their inputs and outputs follow from them."""

import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from app.simulator.figures import SOLVERS
from app.simulator.grammar import Pools, Template, Values, read_pool

PARTS = Path(__file__).parent / "parts"
LANGUAGES = ("en", "ko")

Solver = Callable[[Values], Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Family:
    """`cases`: inputs by label, where the output is a label. `examples`: (input, output), the input often None."""

    name: str
    templates: tuple[Template, ...]
    cases: tuple[tuple[str, tuple[Template, ...]], ...] = ()
    examples: tuple[tuple[Template | None, Template], ...] = ()
    solver: Solver | None = None

    @property
    def is_classification(self) -> bool:
        return bool(self.cases)

    def instances(self, values: Values, rng: random.Random, wanted: int) -> list[tuple[str, str]]:
        """Up to `wanted` different (input, output); one where there is no input, each label in turn."""
        found: dict[str, str] = {}
        cases = rng.sample(self.cases, len(self.cases))
        for attempt in range(3 * wanted):
            if cases:
                output, inputs = cases[len(found) % len(cases)]
                template = rng.choice(inputs)
                input = template.render(template.draw(rng, values))
            else:
                input, output = self._example(values, rng, self.examples[attempt % len(self.examples)])
            found.setdefault(input, output)
            if len(found) == wanted or not input:
                break
        return list(found.items())

    def answer(self, values: Values, rng: random.Random, input: str) -> str:
        """The output for a given input: that of the case or the example that the input reads like."""
        if not input:
            return self.instances(values, rng, 1)[0][1]
        for label, templates in self.cases:
            if any(template.parse(input) for template in templates):
                return label
        if self.cases:
            return rng.choice(self.cases)[0]
        for asked, answered in self.examples:
            parsed = asked.parse(input) if asked else None
            if parsed:
                return self._output(answered, {**parsed[0], **values}, rng)
        return self._example(values, rng, rng.choice(self.examples))[1]

    def _example(self, values: Values, rng: random.Random, example) -> tuple[str, str]:
        asked, answered = example
        if asked is None:
            return "", self._output(answered, values, rng)
        drawn = asked.draw(rng, values)
        return asked.render(drawn), self._output(answered, drawn, rng)

    def _output(self, template: Template, values: Values, rng: random.Random) -> str:
        if self.solver:
            values = {**values, **{key: (text,) for key, text in self.solver(values).items()}}
        return template.render(template.draw(rng, values))


@dataclass(frozen=True)
class Composition:
    """An instruction of ours with the values it was composed of. `rest`: what was added behind it."""

    family: Family
    values: Values
    text: str
    rest: str = ""


@dataclass(frozen=True, eq=False)
class Library:
    """All families of a language, and the shared pools for whatever else is written in it."""

    language: str
    pools: Pools
    families: tuple[Family, ...]

    def compose(self, rng: random.Random, taken: frozenset[str] = frozenset()) -> Composition:
        """A new instruction, of a family that is not among `taken`. Families with more forms are drawn more."""
        family = rng.choice(_by_forms(self))
        while family.name in taken and len(taken) < len(self.families):
            family = rng.choice(_by_forms(self))
        template = rng.choice(family.templates)
        values = template.draw(rng, {})
        return Composition(family, values, template.render(values))

    def recognise(self, text: str) -> Composition | None:
        """The composition that the text is, or that it begins with."""
        return _recognise(self.language, text)

    def fill(self, pool: str, rng: random.Random) -> str:
        """A line of a pool whose lines may have slots themselves, and these again."""
        template = Template("{" + pool + "}", self.pools)
        while template.slots:
            template = Template(template.render(template.draw(rng, {})), self.pools)
        return template.render({})

    def count(self) -> int:
        return sum(template.count() for family in self.families for template in family.templates)


@cache
def library(language: str) -> Library:
    pools = {name: read_pool(lines) for name, lines in _load(f"{language}_pools.toml").items()}
    tables = [_load(path.name) for path in sorted(PARTS.glob(f"{language}_families_*.toml"))]
    families = [_family(name, spec, pools) for table in tables for name, spec in table.items()]
    return Library(language, pools, tuple(families))


def _load(name: str) -> dict:
    return tomllib.loads((PARTS / name).read_text(encoding="utf-8"))


def _family(name: str, spec: dict, shared: Pools) -> Family:
    pools = {**shared, **{slot: read_pool(lines) for slot, lines in spec.get("slots", {}).items()}}

    def templates(texts: list[str]) -> tuple[Template, ...]:
        return tuple(Template(text.strip(), pools) for text in texts)

    examples = [(None, output) for output in templates(spec.get("outputs", []))]
    examples += [templates(pair) for pair in spec.get("examples", [])]
    cases = tuple((label, templates(inputs)) for label, inputs in spec.get("cases", {}).items())
    solver = SOLVERS[spec["solver"]] if "solver" in spec else None
    return Family(name, templates(spec["templates"]), cases, tuple(examples), solver)


@cache
def _by_forms(known: Library) -> tuple[Family, ...]:
    return tuple(family for family in known.families for _ in family.templates)


@cache
def _by_word(language: str) -> tuple[dict[str, list], list]:
    """Templates by the first word of their text, and those that begin with a slot."""
    by_word: dict[str, list] = {}
    by_slot: list = []
    for family in library(language).families:
        for template in family.templates:
            word, space, _ = template.head.partition(" ")
            (by_word.setdefault(word, []) if space else by_slot).append((family, template))
    return by_word, by_slot


@lru_cache(maxsize=4096)
def _recognise(language: str, text: str) -> Composition | None:
    text = " ".join(text.split())
    by_word, by_slot = _by_word(language)
    best: Composition | None = None
    for family, template in [*by_word.get(text.split(" ")[0], ()), *by_slot]:
        parsed = template.parse(text)
        if parsed and (best is None or parsed[1] > len(best.text)):
            values, length = parsed
            best = Composition(family, values, text[:length], text[length:].strip())
    return best
