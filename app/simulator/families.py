"""Families of tasks: templates of instructions, and the inputs and outputs that follow from them."""

import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from app.simulator.grammar import Pools, Template, Values, read_pool
from app.simulator.solvers import SOLVERS

PARTS = Path(__file__).parent / "parts"
LANGUAGES = ("en", "ko")

Solver = Callable[[Values], Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Family:
    """One kind of task.

    `cases` holds templates of inputs by label, for a classification. `examples` holds pairs of templates
    (input, output), where the input is None if the task needs none.
    """

    name: str
    templates: tuple[Template, ...]
    cases: tuple[tuple[str, tuple[Template, ...]], ...] = ()
    examples: tuple[tuple[Template | None, Template], ...] = ()
    solver: Solver | None = None

    @property
    def is_classification(self) -> bool:
        """Return whether the outputs of the family are labels."""
        return bool(self.cases)

    def generate_instances(self, values: Values, rng: random.Random, max_count: int) -> list[tuple[str, str]]:
        """Return up to `max_count` different pairs (input, output), each label in turn.

        A family without inputs gives one pair, since its output would only be repeated.
        """
        output_by_input: dict[str, str] = {}
        cases = rng.sample(self.cases, len(self.cases))
        # Draws may repeat an input, so there are more attempts than pairs.
        for attempt in range(3 * max_count):
            if cases:
                output, inputs = cases[len(output_by_input) % len(cases)]
                template = rng.choice(inputs)
                input = template.render(template.draw(rng, values))
            else:
                input, output = self._example(values, rng, self.examples[attempt % len(self.examples)])
            output_by_input.setdefault(input, output)
            if len(output_by_input) == max_count or not input:
                break
        return list(output_by_input.items())

    def generate_answer(self, values: Values, rng: random.Random, input: str) -> str:
        """Return the output for an input: that of the case or the example whose template the input matches."""
        if not input:
            return self.generate_instances(values, rng, 1)[0][1]
        for label, templates in self.cases:
            if any(template.parse(input) for template in templates):
                return label
        if self.cases:
            return rng.choice(self.cases)[0]
        for input_template, output_template in self.examples:
            match = input_template.parse(input) if input_template else None
            if match:
                return self._output(output_template, {**match[0], **values}, rng)
        return self._example(values, rng, rng.choice(self.examples))[1]

    def _example(self, values: Values, rng: random.Random, example) -> tuple[str, str]:
        input_template, output_template = example
        if input_template is None:
            return "", self._output(output_template, values, rng)
        input_values = input_template.draw(rng, values)
        return input_template.render(input_values), self._output(output_template, input_values, rng)

    def _output(self, template: Template, values: Values, rng: random.Random) -> str:
        # A solver sees the values of instruction and input together, and its results fill slots of the output.
        if self.solver:
            values = {**values, **{key: (text,) for key, text in self.solver(values).items()}}
        return template.render(template.draw(rng, values))


@dataclass(frozen=True)
class Composition:
    """A composed instruction and the values in its slots. `suffix` is the text that an evolution added to it."""

    family: Family
    values: Values
    text: str
    suffix: str = ""


@dataclass(frozen=True, eq=False)
class Library:
    """All families of a language, and the pools of fillers that they share."""

    language: str
    pools: Pools
    families: tuple[Family, ...]

    def compose(self, rng: random.Random, excluded: frozenset[str] = frozenset()) -> Composition:
        """Return a new instruction of a family outside `excluded`, which holds names of families."""
        # The draw is weighted by the number of templates, so that each template is about equally likely.
        family = rng.choice(_weighted_families(self))
        while family.name in excluded and len(excluded) < len(self.families):
            family = rng.choice(_weighted_families(self))
        template = rng.choice(family.templates)
        values = template.draw(rng, {})
        return Composition(family, values, template.render(values))

    def recognise(self, text: str) -> Composition | None:
        """Return the composition that the text is or begins with, or None."""
        return _find_composition(self.language, text)

    def fill(self, pool: str, rng: random.Random) -> str:
        """Return a line of a pool. Lines may have slots, whose fillers may have slots, too."""
        template = Template("{" + pool + "}", self.pools)
        while template.slots:
            template = Template(template.render(template.draw(rng, {})), self.pools)
        return template.render({})

    def count(self) -> int:
        """Return the number of different instructions that the library can compose."""
        return sum(template.count() for family in self.families for template in family.templates)


@cache
def load_library(language: str) -> Library:
    """Return the library of a language ("en" or "ko"), read once for each process."""
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
def _weighted_families(library: Library) -> tuple[Family, ...]:
    return tuple(family for family in library.families for _ in family.templates)


@cache
def _templates_by_word(language: str) -> tuple[dict[str, list], list]:
    """Return the templates by the first word of their text, and the templates that begin with a slot."""
    # Most templates begin with a fixed word: the index spares the parsing of all others.
    by_word: dict[str, list] = {}
    by_slot: list = []
    for family in load_library(language).families:
        for template in family.templates:
            word, space, _ = template.literal_prefix.partition(" ")
            (by_word.setdefault(word, []) if space else by_slot).append((family, template))
    return by_word, by_slot


# The steps of a method ask for the same instruction several times: its class, its instances, its evolution.
@lru_cache(maxsize=4096)
def _find_composition(language: str, text: str) -> Composition | None:
    text = " ".join(text.split())
    by_word, by_slot = _templates_by_word(language)
    # The longest match wins: a template may be the beginning of another one.
    best: Composition | None = None
    for family, template in [*by_word.get(text.split(" ")[0], ()), *by_slot]:
        match = template.parse(text)
        if match and (best is None or match[1] > len(best.text)):
            values, length = match
            best = Composition(family, values, text[:length], text[length:].strip())
    return best
