"""Proposes values for the fields of a reply by their names: each step of Seedbed is recognised by its schema."""

import random
import re
from typing import Any

from app.simulator import answers, evolution, judging, passages, seeded_random
from app.simulator.families import Library
from app.simulator.prompt_parser import PromptParser
from app.simulator.schema_filler import NO_PROPOSAL

# Real teachers favour a few instructions and repeat them over many replies.
_COMMON_INSTRUCTION_COUNT = 16
_ANSWER_NAMES = ("output", "answer", "response", "completion", "reply")
_REWRITE_NAMES = ("instruction", "rewritten_instruction", "evolved_instruction", "new_instruction", "rewritten")
_REASON_NAMES = ("rationale", "reason", "reasoning", "explanation", "comment", "feedback", "critique")
_QUOTE_NAMES = ("quote", "span", "evidence", "excerpt", "source")
_TURN_NAMES = ("turns", "messages", "conversation", "dialogue", "conversations")
_APPROVAL_NAME = re.compile(
    r"faithful|support|relevant|safe|valid|correct|grounded|answerable|acceptable|pass|harmless|declin|polite"
)
# How often a simulated user has no further question, so that dialogues have different lengths.
_DONE_PROBABILITY = 0.15
_SENTENCE = re.compile(r"[^.!?。\n]+[.!?。]?")


class ResponseFields:
    """Proposes values for the properties of one reply.

    One object serves one reply, so that the instructions of a reply come from different families.
    """

    def __init__(self, prompt: PromptParser, library: Library, rng: random.Random, near_duplicates: float):
        self.prompt, self.library, self.rng, self.near_duplicates = prompt, library, rng, near_duplicates
        self._used_families: set[str] = set()

    def propose(self, name: str, schema: dict) -> Any:
        """Return a value for a property of this name and schema, or NO_PROPOSAL."""
        type_name = schema.get("type")
        properties = schema.get("properties", {})
        if type_name == "object" and {"instruction", "output"} <= set(properties):
            return self._task_row(properties)
        if type_name == "array":
            return self._array(name, schema)
        if type_name == "boolean":
            return self._boolean(name)
        if type_name in ("integer", "number") and "minimum" in schema and "maximum" in schema:
            return judging.score_answer(self.prompt, name, schema["minimum"], schema["maximum"])
        # Any other enum is filled at random by the caller.
        if "enum" in schema and name in ("better", "winner", "preferred", "choice", "best"):
            return judging.choose_better(self.prompt, schema["enum"])
        return self._string(name) if type_name == "string" and "enum" not in schema else NO_PROPOSAL

    def random_sentence(self) -> str:
        """Return a sentence for a string that has no particular meaning."""
        return self.library.fill("answer_body", self.rng)

    def new_instructions(self, count: int) -> list[str]:
        """Return up to `count` instructions of different families; a share of them are near-duplicates."""
        texts: list[str] = []
        demonstrations = set(self.prompt.demonstrations)
        # Some attempts repeat a text, so there are more attempts than texts; a reply may still be short.
        for _ in range(4 * count):
            if len(texts) == count:
                break
            text = (
                self._near_duplicate() if self.rng.random() < self.near_duplicates else self._compose_instruction().text
            )
            if text not in texts and text not in demonstrations:
                texts.append(text)
        return texts

    def _compose_instruction(self):
        created = self.library.compose(self.rng, frozenset(self._used_families))
        self._used_families.add(created.family.name)
        return created

    def _near_duplicate(self) -> str:
        if self.prompt.demonstrations and self.rng.random() < 0.7:
            original = self.rng.choice(self.prompt.demonstrations)
        else:
            # These come from a few fixed instructions, so that near-duplicates of each other appear in many replies.
            rng = seeded_random.make_generator("common", self.rng.randrange(_COMMON_INSTRUCTION_COUNT))
            original = self.library.compose(rng).text
        return evolution.perturb(original, self.library.language, self.rng)

    def _array(self, name: str, schema: dict) -> Any:
        max_items, min_items = schema.get("maxItems"), schema.get("minItems", 0)
        item = schema.get("items", {})
        fields = item.get("properties", {})
        if name == "instructions" and item.get("type") == "string":
            return self.new_instructions(max_items or max(min_items, self.prompt.requested_count or 5))
        if name == "instructions" and "is_classification" in fields:
            count = max_items or max(min_items, self.prompt.requested_count or 5)
            return self._classified_instructions(count, list(fields))
        if {"instruction", "output"} <= set(fields):
            count = max_items or max(min_items, self.prompt.requested_count or 5)
            return [self._task_row(fields) for _ in range(count)]
        if {"question", "quote"} <= set(fields):
            return passages.generate_questions(self.prompt, self.library, self.rng, max_items or 3, list(fields))
        if {"number", "score"} <= set(fields):
            return self._verdicts(fields)
        if name == "answers":
            return self._answers(list(fields), max_items or max(min_items, self.prompt.requested_count or 3))
        if name == "requests":
            count = max_items or max(min_items, self.prompt.requested_count or 3)
            return list(dict.fromkeys(self.library.fill("harm_request", self.rng) for _ in range(count)))
        if name == "instances" and {"number", "input", "output"} <= set(fields):
            return self._instances_of_tasks(list(fields), max_items)
        if name == "instances" and {"input", "output"} <= set(fields):
            return self._instance_rows(list(fields), max_items or max(min_items, 1))
        if name in _TURN_NAMES:
            return self._dialogue_turns(item, min_items, max_items)
        if name in ("topics", "tags", "keywords") and item.get("type") == "string":
            count = min(3, 3 if max_items is None else max_items)
            return [entry[0] for entry in self.rng.sample(self.library.pools["topic"], max(min_items, count))]
        return NO_PROPOSAL

    def _task_row(self, fields: dict) -> dict:
        """Return an instruction with its input and output; a share of the instructions are near-duplicates."""
        if self.rng.random() < self.near_duplicates:
            text = self._near_duplicate()
            input, output = answers.generate_instances(self.library, text, self.rng, 1)[0]
            values = {"instruction": text, "input": input, "output": output}
            return {name: values.get(name, self.random_sentence()) for name in fields}
        created = self._compose_instruction()
        input, output = created.family.generate_instances(created.values, self.rng, 1)[0]
        values = {
            "instruction": created.text,
            "input": input,
            "output": output,
            "is_classification": created.family.is_classification,
        }
        return {name: values.get(name, self.random_sentence()) for name in fields}

    def _classified_instructions(self, count: int, fields: list[str]) -> list[dict]:
        """Return new instructions, each with whether it is a classification task."""
        items = []
        for text in self.new_instructions(count):
            values = {
                "instruction": text,
                "is_classification": answers.is_classification(self.library, text),
            }
            items.append({name: values.get(name, self.random_sentence()) for name in fields})
        return items

    def _instances_of_tasks(self, fields: list[str], max_items: int | None) -> list[dict]:
        """Return the same number of instances for each numbered task of the prompt, as many as the schema allows."""
        tasks = self.prompt.demonstrations
        count = max(1, (max_items or len(tasks)) // max(1, len(tasks)))
        rows = []
        for number, task in enumerate(tasks, 1):
            label = answers.is_classification(self.library, task)
            for input, output in answers.generate_instances(self.library, task, self.rng, count):
                values = {"number": number, "label": output if label else "", "input": input, "output": output}
                rows.append({name: values.get(name, "") for name in fields})
        return rows

    def _instance_rows(self, fields: list[str], max_count: int) -> list[dict]:
        pairs = answers.generate_instances(self.library, self.prompt.instruction or "", self.rng, max_count)
        return [{name: {"input": input, "output": output}.get(name, "") for name in fields} for input, output in pairs]

    def _answers(self, fields: list[str], count: int) -> list:
        instruction = self.prompt.instruction or self.prompt.user_message
        texts = [answers.generate_answer(self.library, instruction, self.prompt.input, self.rng) for _ in range(count)]
        if not fields:
            return texts
        return [{name: text if name in _ANSWER_NAMES else self.random_sentence() for name in fields} for text in texts]

    def _verdicts(self, fields: dict[str, dict]) -> list[dict]:
        """Return a verdict on each numbered answer of the prompt."""
        verdicts = []
        for number, text in judging.numbered_answers(self.prompt):
            verdict: dict = {"number": number}
            for name, schema in fields.items():
                if name != "number":
                    verdict[name] = self._verdict_field(name, schema, text)
            verdicts.append({name: verdict[name] for name in fields})
        return verdicts

    def _verdict_field(self, name: str, schema: dict, text: str) -> Any:
        if schema.get("type") == "boolean":
            passes = self._boolean(name)
            return self.rng.random() < 0.5 if passes is NO_PROPOSAL else passes
        if schema.get("type") in ("integer", "number"):
            return judging.score_text(text, name, schema.get("minimum", 1), schema.get("maximum", 5))
        value = self._string(name)
        return self.random_sentence() if value is NO_PROPOSAL else value

    def _dialogue_turns(self, item: dict, min_items: int, max_items: int | None) -> list:
        count = max(min_items, min(4, max_items or 4))
        texts = [self._turn_text(n) for n in range(count)]
        fields = item.get("properties", {})
        if not fields:
            return texts
        role = next((name for name in fields if name in ("role", "from", "speaker", "author")), None)
        names = [n for n in fields.get(role, {}).get("enum", []) if n != "system"] or ["user", "assistant"]
        # The user speaks first, whatever the order of the names in the schema.
        names.sort(key=lambda name: name not in ("user", "human", "사용자"))
        return [
            {field: names[n % len(names)] if field == role else text for field in fields}
            for n, text in enumerate(texts)
        ]

    def _turn_text(self, index: int) -> str:
        """Return the text of a turn: questions at even indexes, answers at odd ones, the prompt's instruction first."""
        instruction = self.prompt.instruction or ""
        if index == 0:
            return instruction or self.library.compose(self.rng).text
        if index % 2 == 0:
            return self.library.fill("question", self.rng)
        return answers.generate_answer(
            self.library, instruction or self.prompt.user_message, self.prompt.input, self.rng
        )

    def _boolean(self, name: str) -> Any:
        if name == "is_classification":
            return answers.is_classification(self.library, self.prompt.instruction or "")
        if name in ("equal", "is_equal", "same", "equivalent"):
            return judging.are_equal(self.prompt)
        if name == "done":
            return self.rng.random() < _DONE_PROBABILITY
        # Most checks pass, and some fail, so that both branches of a method are exercised.
        return self.rng.random() < 0.95 if _APPROVAL_NAME.search(name) else NO_PROPOSAL

    def _string(self, name: str) -> Any:
        instruction = self.prompt.instruction
        if name in _ANSWER_NAMES:
            return answers.generate_answer(
                self.library, instruction or self.prompt.user_message, self.prompt.input, self.rng
            )
        if name in _REWRITE_NAMES:
            request = f"{self.prompt.untagged_text}\n{self.prompt.preceding_text}"
            return (
                evolution.evolve(self.library, instruction, request, self.rng)
                if instruction
                else self._compose_instruction().text
            )
        # An evolved row keeps its input.
        if name == "input" and instruction:
            return self.prompt.input
        if name == "message":
            return self._user_message()
        if name in _REASON_NAMES:
            return self.library.fill("rationale", self.rng)
        if name == "question":
            return self.library.fill("question", self.rng)
        if name in _QUOTE_NAMES:
            return self._quote()
        return self.rng.choice(self.library.pools["topic"])[0] if name in ("topic", "tag", "subject") else NO_PROPOSAL

    def _user_message(self) -> str:
        """Return a user's message: an opening on the topic, or a question on the last answer."""
        if self.prompt.last_section("topic"):
            return self._compose_instruction().text
        return f"{self.library.fill('question', self.rng)} {self.library.fill('depth', self.rng)}"

    def _quote(self) -> Any:
        text = self.prompt.last_section("document", "text", "passage", "chunk", "context")
        sentences = [match.strip() for match in _SENTENCE.findall(text or "") if match.strip()]
        return self.rng.choice(sentences) if sentences else NO_PROPOSAL
