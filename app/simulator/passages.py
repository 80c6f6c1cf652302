"""Questions on a passage: each about a stretch of one of its sentences, which is quoted."""

import random
import re

from app.simulator.families import Library
from app.simulator.reading import Reading

_SENTENCE = re.compile(r"[^.!?。\n]+[.!?。]?")
_LEAST_WORDS = 4


def questions(reading: Reading, library: Library, rng: random.Random, wanted: int, fields: list[str]) -> list[dict]:
    """Up to `wanted` items with a question, its answer, and the sentence that both are made of."""
    text = reading.section("passage", "document", "text", "chunk", "context") or reading.user
    sentences = [one.strip() for one in _SENTENCE.findall(text) if len(one.split()) >= _LEAST_WORDS]
    made = []
    for sentence in rng.sample(sentences, min(wanted, len(sentences))):
        words = sentence.rstrip(".!?。").split()
        length = min(len(words), rng.randint(3, 5))
        start = rng.randint(0, len(words) - length)
        said = " ".join(words[start : start + length]).strip("\"'“”‘’,;:()")
        asked = rng.choice(library.pools["passage_question"])[0].replace("{said}", said)
        known = {"question": asked, "answer": sentence, "quote": sentence}
        made.append({name: known.get(name, sentence) for name in fields})
    return made
