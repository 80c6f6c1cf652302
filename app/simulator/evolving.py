"""Rewrites of an instruction in the manner of Evol-Instruct, and near-duplicates of it."""

import random
import re

from app.simulator.families import Library

# The operation is recognised by the word of it that comes first in the prompt.
_OPERATIONS = {
    "breadth": r"rarer|breadth|brand[- ]new|long[- ]tailed|드문|희귀|새로운 과제",
    "constraint": r"constraint|requirement|제약|조건",
    "depth": r"depth|deepen|deeper|깊이|깊게|심화",
    "concrete": r"concret|specific|구체",
    "reasoning": r"reasoning|multi[- ]step|추론|여러 단계",
    "complicate": r"complicat|structured|input data|복잡|자료를 넣",
}
_SWAPS = {
    "en": (
        *(("explain", "describe"), ("short", "brief"), ("write", "compose"), ("give", "provide")),
        *(("suggest", "propose"), ("clear", "plain")),
        *(("find", "look for"), ("keep", "hold"), ("plan", "prepare"), ("important", "essential"), ("make", "create")),
        *(("the following", "this"), ("below", "that follows"), ("use", "employ"), ("list", "name")),
        *(("best", "finest"), ("simple", "easy")),
    ),
    "ko": (
        *(("설명", "풀이"), ("짧은", "간단한"), ("써 주세요", "작성해 주세요"), ("알려", "말해"), ("아래", "다음")),
        *(("문장", "글"), ("예를", "보기를"), ("만들어", "지어"), ("고르세요", "골라 보세요"), ("까닭", "이유")),
    ),
}


def evolve(library: Library, instruction: str, prompt: str, rng: random.Random) -> str:
    """Longer and harder, by the operation that `prompt` names; in breadth: another one."""
    operation = _operation(prompt)
    if operation == "breadth":
        known = library.recognise(instruction)
        created = library.compose(rng, frozenset([known.family.name] if known else []))
        return f"{created.text} {library.fill('depth', rng)}"
    for _ in range(6):
        added = library.fill(operation, rng)
        if added[:20] not in instruction:
            break
    text = instruction.strip().rstrip(":：").rstrip()
    return f"{text}{'' if text[-1:] in '.?!。' else '.'} {added}"


def _operation(prompt: str) -> str:
    found = {name: re.search(words, prompt, re.IGNORECASE) for name, words in _OPERATIONS.items()}
    if found["breadth"]:
        return "breadth"
    return (
        min((match.start(), name) for name, match in {**found, "depth": found["depth"]}.items() if match)[1]
        if any(found.values())
        else "depth"
    )


def perturb(text: str, language: str, rng: random.Random) -> str:
    """The same instruction but for a word, a courtesy or a stop; never the very same text."""
    changes = [_swap_word, _add_courtesy, _change_stop]
    rng.shuffle(changes)
    for change in changes:
        changed = change(text, language, rng)
        if changed != text:
            return changed
    return text + "!"


def _swap_word(text: str, language: str, rng: random.Random) -> str:
    pairs = list(_SWAPS[language])
    rng.shuffle(pairs)
    for pair in pairs:
        for old, new in (pair, pair[::-1]):
            found = re.search(rf"\b{re.escape(old)}" + (r"\b" if language == "en" else ""), text, re.IGNORECASE)
            if found:
                word = new[:1].upper() + new[1:] if found.group()[:1].isupper() else new
                return text[: found.start()] + word + text[found.end() :]
    return text


def _add_courtesy(text: str, language: str, _: random.Random) -> str:
    if language == "ko":
        return text if text.startswith("부탁") else f"부탁합니다. {text}"
    # Only an order takes a "please" in front; a question keeps its capital.
    if text.lower().startswith("please") or text.rstrip().endswith("?"):
        return text
    return f"Please {text[:1].lower()}{text[1:]}" if text[1:2].islower() and text[:2] != "I " else f"Please: {text}"


def _change_stop(text: str, _: str, rng: random.Random) -> str:
    bare = text.rstrip(".?!")
    return rng.choice([bare, bare + "!"]) if bare != text else text + "."
