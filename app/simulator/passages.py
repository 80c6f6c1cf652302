"""Questions on a passage. Each question is about a few words of one sentence, and the answer quotes that sentence."""

import random
import re

from app.simulator.families import Library
from app.simulator.prompt_parser import PromptParser

_SENTENCE = re.compile(r"[^.!?。\n]+[.!?。]?")
_MIN_WORDS = 4  # shorter sentences are mostly headings, about which no sensible question can be built


def generate_questions(
    prompt: PromptParser, library: Library, rng: random.Random, max_count: int, fields: list[str]
) -> list[dict]:
    """Return up to `max_count` items with a question, its answer, and the sentence that both are built from."""
    text = prompt.last_section("passage", "document", "text", "chunk", "context") or prompt.user_message
    sentences = [candidate.strip() for candidate in _SENTENCE.findall(text) if len(candidate.split()) >= _MIN_WORDS]
    items = []
    for sentence in rng.sample(sentences, min(max_count, len(sentences))):
        words = sentence.rstrip(".!?。").split()
        length = min(len(words), rng.randint(3, 5))
        # The question is about a few words, so that it differs for each sentence and can be checked against the text.
        start = rng.randint(0, len(words) - length)
        excerpt = " ".join(words[start : start + length]).strip("\"'“”‘’,;:()")
        question = rng.choice(library.pools["passage_question"])[0].replace("{said}", excerpt)
        values = {"question": question, "answer": sentence, "quote": sentence}
        items.append({name: values.get(name, sentence) for name in fields})
    return items
