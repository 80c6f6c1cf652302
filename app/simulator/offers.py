"""What the names in a schema mean: the steps of the product, recognised by their properties."""

import random
import re
from typing import Any

from app.simulator import answers, chance, evolving, judging, passages
from app.simulator.families import Library
from app.simulator.reading import Reading
from app.simulator.schemas import NOTHING

_COMMON_COMPOSITIONS = 16
_ANSWERS = ("output", "answer", "response", "completion", "reply")
_REWRITES = ("instruction", "rewritten_instruction", "evolved_instruction", "new_instruction", "rewritten")
_REASONS = ("rationale", "reason", "reasoning", "explanation", "comment", "feedback", "critique")
_QUOTES = ("quote", "span", "evidence", "excerpt", "source")
_TURNS = ("turns", "messages", "conversation", "dialogue", "conversations")
_APPROVALS = re.compile(
    r"faithful|support|relevant|safe|valid|correct|grounded|answerable|acceptable|pass|harmless|declin|polite"
)
_DONE = 0.15
_SENTENCE = re.compile(r"[^.!?。\n]+[.!?。]?")


class Offers:
    """Offers values for the properties of one reply."""

    def __init__(self, reading: Reading, library: Library, rng: random.Random, near_duplicates: float):
        self.reading, self.library, self.rng, self.near_duplicates = reading, library, rng, near_duplicates
        self._families: set[str] = set()

    def offer(self, name: str, schema: dict) -> Any:
        kind = schema.get("type")
        properties = schema.get("properties", {})
        if kind == "object" and {"instruction", "output"} <= set(properties):
            return self._row(properties)
        if kind == "array":
            return self._list(name, schema)
        if kind == "boolean":
            return self._verdict(name)
        if kind in ("integer", "number") and "minimum" in schema and "maximum" in schema:
            return judging.score(self.reading, name, schema["minimum"], schema["maximum"])
        if "enum" in schema and name in ("better", "winner", "preferred", "choice", "best"):
            return judging.better(self.reading, schema["enum"])
        return self._text(name) if kind == "string" and "enum" not in schema else NOTHING

    def sentence(self) -> str:
        return self.library.fill("answer_body", self.rng)

    def instructions(self, wanted: int) -> list[str]:
        """New instructions of different families; some of them only seem new."""
        found: list[str] = []
        shown = set(self.reading.demonstrations)
        for _ in range(4 * wanted):
            if len(found) == wanted:
                break
            text = self._repeated() if self.rng.random() < self.near_duplicates else self._composed().text
            if text not in found and text not in shown:
                found.append(text)
        return found

    def _composed(self):
        created = self.library.compose(self.rng, frozenset(self._families))
        self._families.add(created.family.name)
        return created

    def _repeated(self) -> str:
        if self.reading.demonstrations and self.rng.random() < 0.7:
            known = self.rng.choice(self.reading.demonstrations)
        else:
            common = chance.generator("common", self.rng.randrange(_COMMON_COMPOSITIONS))
            known = self.library.compose(common).text
        return evolving.perturb(known, self.library.language, self.rng)

    def _list(self, name: str, schema: dict) -> Any:
        most, least = schema.get("maxItems"), schema.get("minItems", 0)
        item = schema.get("items", {})
        fields = item.get("properties", {})
        if name == "instructions" and item.get("type") == "string":
            return self.instructions(most or max(least, self.reading.asked_count or 5))
        if {"instruction", "output"} <= set(fields):
            wanted = most or max(least, self.reading.asked_count or 5)
            return [self._row(fields) for _ in range(wanted)]
        if {"question", "quote"} <= set(fields):
            return passages.questions(self.reading, self.library, self.rng, most or 3, list(fields))
        if name == "requests":
            wanted = most or max(least, self.reading.asked_count or 3)
            return list(dict.fromkeys(self.library.fill("harm_request", self.rng) for _ in range(wanted)))
        if name == "instances" and {"input", "output"} <= set(fields):
            return self._instances(list(fields), most or max(least, 1))
        if name in _TURNS:
            return self._turns(item, least, most)
        if name in ("topics", "tags", "keywords") and item.get("type") == "string":
            count = min(3, 3 if most is None else most)
            return [entry[0] for entry in self.rng.sample(self.library.pools["topic"], max(least, count))]
        return NOTHING

    def _row(self, fields: dict) -> dict:
        """A whole row at once: an instruction with its input and output; some only seem new."""
        if self.rng.random() < self.near_duplicates:
            text = self._repeated()
            input, output = answers.instances(self.library, text, self.rng, 1)[0]
            known = {"instruction": text, "input": input, "output": output}
            return {name: known.get(name, self.sentence()) for name in fields}
        created = self._composed()
        input, output = created.family.instances(created.values, self.rng, 1)[0]
        known = {
            "instruction": created.text,
            "input": input,
            "output": output,
            "is_classification": created.family.is_classification,
        }
        return {name: known.get(name, self.sentence()) for name in fields}

    def _instances(self, order: list[str], wanted: int) -> list[dict]:
        pairs = answers.instances(self.library, self.reading.instruction or "", self.rng, wanted)
        return [{name: {"input": input, "output": output}.get(name, "") for name in order} for input, output in pairs]

    def _turns(self, item: dict, least: int, most: int | None) -> list:
        count = max(least, min(4, most or 4))
        texts = [self._said(n) for n in range(count)]
        fields = item.get("properties", {})
        if not fields:
            return texts
        role = next((name for name in fields if name in ("role", "from", "speaker", "author")), None)
        names = [n for n in fields.get(role, {}).get("enum", []) if n != "system"] or ["user", "assistant"]
        names.sort(key=lambda name: name not in ("user", "human", "사용자"))
        return [
            {field: names[n % len(names)] if field == role else text for field in fields}
            for n, text in enumerate(texts)
        ]

    def _said(self, place: int) -> str:
        """A question in even places and an answer in odd ones; the first is what the prompt is about."""
        asked = self.reading.instruction or ""
        if place == 0:
            return asked or self.library.compose(self.rng).text
        if place % 2 == 0:
            return self.library.fill("question", self.rng)
        return answers.answer(self.library, asked or self.reading.user, self.reading.input, self.rng)

    def _verdict(self, name: str) -> Any:
        if name == "is_classification":
            return answers.is_classification(self.library, self.reading.instruction or "")
        if name in ("equal", "is_equal", "same", "equivalent"):
            return judging.equal(self.reading)
        if name == "done":
            return self.rng.random() < _DONE
        return self.rng.random() < 0.95 if _APPROVALS.search(name) else NOTHING

    def _text(self, name: str) -> Any:
        asked = self.reading.instruction
        if name in _ANSWERS:
            return answers.answer(self.library, asked or self.reading.user, self.reading.input, self.rng)
        if name in _REWRITES:
            prompt = f"{self.reading.outside}\n{self.reading.before}"
            return evolving.evolve(self.library, asked, prompt, self.rng) if asked else self._composed().text
        if name == "input" and asked:
            return self.reading.input
        if name == "message":
            return self._message()
        if name in _REASONS:
            return self.library.fill("rationale", self.rng)
        if name == "question":
            return self.library.fill("question", self.rng)
        if name in _QUOTES:
            return self._quote()
        return self.rng.choice(self.library.pools["topic"])[0] if name in ("topic", "tag", "subject") else NOTHING

    def _message(self) -> str:
        """What a user says: an opening on the topic, or a question on what was said last."""
        if self.reading.section("topic"):
            return self._composed().text
        return f"{self.library.fill('question', self.rng)} {self.library.fill('depth', self.rng)}"

    def _quote(self) -> Any:
        text = self.reading.section("document", "text", "passage", "chunk", "context")
        sentences = [found.strip() for found in _SENTENCE.findall(text or "") if found.strip()]
        return self.rng.choice(sentences) if sentences else NOTHING
