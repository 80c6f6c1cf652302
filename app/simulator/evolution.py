"""Rewrites of an instruction as in Evol-Instruct (Xu et al. 2023), and near-duplicates of an instruction."""

import random
import re

from app.simulator.families import Library

# The operation is the one whose keyword comes first in the prompt.
_OPERATIONS = {
    "breadth": r"rarer|breadth|brand[- ]new|long[- ]tailed|드문|희귀|새로운 과제",
    "constraint": r"constraint|requirement|제약|조건",
    "depth": r"depth|deepen|deeper|깊이|깊게|심화",
    "concrete": r"concret|specific|구체",
    "reasoning": r"reasoning|multi[- ]step|추론|여러 단계",
    "complicate": r"complicat|structured|input data|복잡|자료를 넣",
}
_SYNONYMS = {
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
    """Return a harder instruction by the operation that `prompt` names; in breadth, return a new instruction."""
    operation = _detect_operation(prompt)
    if operation == "breadth":
        composition = library.recognise(instruction)
        created = library.compose(rng, frozenset([composition.family.name] if composition else []))
        # The new instruction is as hard as the old one, as Evol-Instruct requires, so it gets a requirement, too.
        return f"{created.text} {library.fill('depth', rng)}"
    for _ in range(6):
        addition = library.fill(operation, rng)
        # An instruction is evolved several times, and a repeated addition would look like a failed evolution.
        if addition[:20] not in instruction:
            break
    # A colon announces the input; with a sentence after it the instruction would break off.
    text = instruction.strip().rstrip(":：").rstrip()
    return f"{text}{'' if text[-1:] in '.?!。' else '.'} {addition}"


def _detect_operation(prompt: str) -> str:
    matches = {name: re.search(pattern, prompt, re.IGNORECASE) for name, pattern in _OPERATIONS.items()}
    if matches["breadth"]:
        return "breadth"
    return (
        min((match.start(), name) for name, match in {**matches, "depth": matches["depth"]}.items() if match)[1]
        if any(matches.values())
        else "depth"
    )


def perturb(text: str, language: str, rng: random.Random) -> str:
    """Return a near-duplicate: the text with another word, a courtesy or other punctuation, never the same text."""
    # A change may not apply to a text, so all three are tried in random order.
    changes = [_swap_synonym, _add_courtesy, _change_final_punctuation]
    rng.shuffle(changes)
    for change in changes:
        changed = change(text, language, rng)
        if changed != text:
            return changed
    return text + "!"


def _swap_synonym(text: str, language: str, rng: random.Random) -> str:
    pairs = list(_SYNONYMS[language])
    rng.shuffle(pairs)
    for pair in pairs:
        for old, new in (pair, pair[::-1]):
            match = re.search(rf"\b{re.escape(old)}" + (r"\b" if language == "en" else ""), text, re.IGNORECASE)
            if match:
                word = new[:1].upper() + new[1:] if match.group()[:1].isupper() else new
                return text[: match.start()] + word + text[match.end() :]
    return text


def _add_courtesy(text: str, language: str, _: random.Random) -> str:
    if language == "ko":
        return text if text.startswith("부탁") else f"부탁합니다. {text}"
    # Only an order takes a "please" in front; a question with one would not be English.
    if text.lower().startswith("please") or text.rstrip().endswith("?"):
        return text
    return f"Please {text[:1].lower()}{text[1:]}" if text[1:2].islower() and text[:2] != "I " else f"Please: {text}"


def _change_final_punctuation(text: str, _: str, rng: random.Random) -> str:
    bare = text.rstrip(".?!")
    return rng.choice([bare, bare + "!"]) if bare != text else text + "."
