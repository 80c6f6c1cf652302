"""Instances and answers: consistent for instructions of our own, sensible for everybody else's."""

import random
import re

from app.simulator.families import Library
from app.simulator.grammar import Template

_CLASSIFIES = re.compile(
    r"\b(classif|categori[sz]|label|sentiment|whether|true or false|yes or no|spam|which (category|class|of the)|"
    r"positive or negative|detect if|determine if|decide if)|^(Is|Are|Does|Do|Did|Was|Were) (this|the|these|it)\b|"
    r"분류하|긍정|부정인|여부|가운데 .*(고르|골라)|중에서 .*(고르|골라)|고르시오|참인지|맞는지|예 또는|판별",
    re.IGNORECASE,
)
_NEEDS_MATERIAL = re.compile(
    r"\b(following|given|below|provided|this (sentence|text|paragraph|passage|e-?mail|article|review|code|list))\b|"
    r"다음|아래|주어진|제시된",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"'“‘]([^\"'“”‘’]{1,30})[\"'”’]")
_LISTED = re.compile(r"((?:[\w-]+(?: [\w-]+)?, )*[\w-]+(?: [\w-]+)?,? or [\w-]+)")
_LISTED_KOREAN = re.compile(r"((?:[가-힣]+, )+[가-힣]+?)(?:으로|로| 가운데| 중|인지|을|를)")
_FIRST_SENTENCE = re.compile(r"^(.+?)(?:[.!?。:]\s|[.!?。:]?$)", re.DOTALL)
_OPENING = re.compile(
    r"^(please |can you |could you |i want you to |how (do|can|would) (i|you|we) |what (is|are|were|was) |"
    r"why (do|does|is|are) |is there |tell me |give me |(write|create|generate|make|suggest|explain|describe|find|list|"
    r"provide|brainstorm|compose|come up with|design|identify|rewrite|translate|summari[sz]e|classify|determine|answer|"
    r"recommend|name|plan|draft) )+",
    re.IGNORECASE,
)
_KOREAN_CLOSING = re.compile(
    r"(\s*\S*(주세요|줘|세요|시오|하라|여라|봐|까요|나요|가요|니까|한다|이야|해|어|아)[.?!]?)$|[.?!]$"
)
_PARTICLE = re.compile(r"(?<=[가-힣]{2})(을|를|이|가|은|는|에게|에서|으로|로)$")


def is_classification(library: Library, instruction: str) -> bool:
    known = library.recognise(instruction)
    return known.family.is_classification if known else bool(_CLASSIFIES.search(instruction))


def instances(library: Library, instruction: str, rng: random.Random, wanted: int) -> list[tuple[str, str]]:
    """Up to `wanted` pairs; one with an empty input where the task needs none."""
    known = library.recognise(instruction)
    if known:
        pairs = known.family.instances(known.values, rng, wanted)
        return [(input, _extended(library, output, known, rng)) for input, output in pairs]
    if _CLASSIFIES.search(instruction):
        labels = _labels(instruction, library.language)
        rng.shuffle(labels)
        return [(library.fill("material", rng), labels[n % len(labels)]) for n in range(wanted)]
    if not _NEEDS_MATERIAL.search(instruction):
        return [("", _composed(library, instruction, rng))]
    return [(library.fill("material", rng), _composed(library, instruction, rng)) for _ in range(wanted)]


def answer(library: Library, instruction: str, input: str, rng: random.Random) -> str:
    known = library.recognise(instruction)
    if known:
        return _extended(library, known.family.answer(known.values, rng, input), known, rng)
    if _CLASSIFIES.search(instruction):
        return rng.choice(_labels(instruction, library.language))
    return _composed(library, instruction, rng)


def _extended(library: Library, output: str, known, rng: random.Random) -> str:
    """What was added to an instruction of ours asks for something more than its family's output."""
    if not known.rest or known.family.is_classification:
        return output
    return f"{output}\n\n{library.fill('answer_body', rng)}"


def _composed(library: Library, instruction: str, rng: random.Random) -> str:
    opening = Template(rng.choice(library.pools["answer_opening"])[0], {})
    parts = [opening.render({"subject": (_subject(instruction, library.language),)})]
    parts += [entry[0] for entry in rng.sample(library.pools["answer_body"], rng.randint(1, 2))]
    if rng.random() < 0.6:
        parts.append(library.fill("answer_close", rng))
    return " ".join(parts)


def _labels(instruction: str, language: str) -> list[str]:
    quoted = list(dict.fromkeys(_QUOTED.findall(instruction)))
    if len(quoted) >= 2:
        return quoted
    listed = (_LISTED_KOREAN if language == "ko" else _LISTED).search(instruction)
    if listed:
        words = [word.strip() for word in re.split(r",? or |, ", listed.group(1))]
        # The words before the first label belong to the sentence: "is it good or bad".
        words[0] = words[0].split(" ")[-1]
        return words
    if language == "ko":
        return ["긍정", "부정"] if re.search("감정|긍정|후기|평가", instruction) else ["예", "아니요"]
    return ["positive", "negative"] if re.search("sentiment|review|tone", instruction, re.I) else ["yes", "no"]


def _subject(instruction: str, language: str) -> str:
    """The thing an instruction is about, in at most ten words."""
    first = _FIRST_SENTENCE.match(instruction.strip())
    text = (first.group(1) if first else instruction).strip()
    if language == "ko":
        text = _KOREAN_CLOSING.sub("", text)
        return "'" + _PARTICLE.sub("", " ".join(text.split()[-7:])).strip("'\"‘’“” ") + "'"
    text = _OPENING.sub("", text).strip("\"'“”‘’ ")
    words = " ".join(text.split()[:10]).rstrip(",;:-")
    return (words[:1].lower() + words[1:] if words[1:2].islower() else words) or "this"
