"""Instances and answers: correct for instructions that the simulator composed, plausible for any other instruction."""

import random
import re

from app.simulator.families import Library
from app.simulator.grammar import Template

_CLASSIFICATION = re.compile(
    r"\b(classif|categori[sz]|label|sentiment|whether|true or false|yes or no|spam|which (category|class|of the)|"
    r"positive or negative|detect if|determine if|decide if)|^(Is|Are|Does|Do|Did|Was|Were) (this|the|these|it)\b|"
    r"분류하|긍정|부정인|여부|가운데 .*(고르|골라)|중에서 .*(고르|골라)|고르시오|참인지|맞는지|예 또는|판별",
    re.IGNORECASE,
)
_NEEDS_INPUT = re.compile(
    r"\b(following|given|below|provided|this (sentence|text|paragraph|passage|e-?mail|article|review|code|list))\b|"
    r"다음|아래|주어진|제시된",
    re.IGNORECASE,
)
_QUOTED_LABEL = re.compile(r"[\"'“‘]([^\"'“”‘’]{1,30})[\"'”’]")
_LISTED_LABELS = re.compile(r"((?:[\w-]+(?: [\w-]+)?, )*[\w-]+(?: [\w-]+)?,? or [\w-]+)")
_LISTED_LABELS_KOREAN = re.compile(r"((?:[가-힣]+, )+[가-힣]+?)(?:으로|로| 가운데| 중|인지|을|를)")
_FIRST_SENTENCE = re.compile(r"^(.+?)(?:[.!?。:]\s|[.!?。:]?$)", re.DOTALL)
_REQUEST_OPENING = re.compile(
    r"^(please |can you |could you |i want you to |how (do|can|would) (i|you|we) |what (is|are|were|was) |"
    r"why (do|does|is|are) |is there |tell me |give me |(write|create|generate|make|suggest|explain|describe|find|list|"
    r"provide|brainstorm|compose|come up with|design|identify|rewrite|translate|summari[sz]e|classify|determine|answer|"
    r"recommend|name|plan|draft) )+",
    re.IGNORECASE,
)
_KOREAN_REQUEST_ENDING = re.compile(
    r"(\s*\S*(주세요|줘|세요|시오|하라|여라|봐|까요|나요|가요|니까|한다|이야|해|어|아)[.?!]?)$|[.?!]$"
)
# A subject is quoted without its particle, because the template adds the particle that fits.
_PARTICLE = re.compile(r"(?<=[가-힣]{2})(을|를|이|가|은|는|에게|에서|으로|로)$")


def is_classification(library: Library, instruction: str) -> bool:
    """Return whether the instruction asks for one label out of a few."""
    composition = library.recognise(instruction)
    return composition.family.is_classification if composition else bool(_CLASSIFICATION.search(instruction))


def generate_instances(library: Library, instruction: str, rng: random.Random, max_count: int) -> list[tuple[str, str]]:
    """Return up to `max_count` pairs (input, output); a task that needs no input gets one pair with an empty input."""
    composition = library.recognise(instruction)
    if composition:
        pairs = composition.family.generate_instances(composition.values, rng, max_count)
        return [(input, _extend_output(library, output, composition, rng)) for input, output in pairs]
    if _CLASSIFICATION.search(instruction):
        labels = _extract_labels(instruction, library.language)
        # Neighbouring instances get different labels, since a classification with one label is filtered out.
        rng.shuffle(labels)
        return [(library.fill("material", rng), labels[n % len(labels)]) for n in range(max_count)]
    if not _NEEDS_INPUT.search(instruction):
        return [("", _compose_answer(library, instruction, rng))]
    return [(library.fill("material", rng), _compose_answer(library, instruction, rng)) for _ in range(max_count)]


def generate_answer(library: Library, instruction: str, input: str, rng: random.Random) -> str:
    """Return one output for the instruction and the input (may be empty)."""
    composition = library.recognise(instruction)
    if composition:
        return _extend_output(
            library, composition.family.generate_answer(composition.values, rng, input), composition, rng
        )
    if _CLASSIFICATION.search(instruction):
        return rng.choice(_extract_labels(instruction, library.language))
    return _compose_answer(library, instruction, rng)


def _extend_output(library: Library, output: str, composition, rng: random.Random) -> str:
    """Add a passage to the output if an evolution added a requirement to the instruction."""
    if not composition.suffix or composition.family.is_classification:
        return output
    return f"{output}\n\n{library.fill('answer_body', rng)}"


def _compose_answer(library: Library, instruction: str, rng: random.Random) -> str:
    opening = Template(rng.choice(library.pools["answer_opening"])[0], {})
    parts = [opening.render({"subject": (_extract_subject(instruction, library.language),)})]
    parts += [entry[0] for entry in rng.sample(library.pools["answer_body"], rng.randint(1, 2))]
    if rng.random() < 0.6:
        parts.append(library.fill("answer_close", rng))
    return " ".join(parts)


def _extract_labels(instruction: str, language: str) -> list[str]:
    labels = list(dict.fromkeys(_QUOTED_LABEL.findall(instruction)))
    if len(labels) >= 2:
        return labels
    match = (_LISTED_LABELS_KOREAN if language == "ko" else _LISTED_LABELS).search(instruction)
    if match:
        labels = [label.strip() for label in re.split(r",? or |, ", match.group(1))]
        # The words before the first label belong to the sentence: of "is it good or bad", "good" is the label.
        labels[0] = labels[0].split(" ")[-1]
        return labels
    if language == "ko":
        return ["긍정", "부정"] if re.search("감정|긍정|후기|평가", instruction) else ["예", "아니요"]
    return ["positive", "negative"] if re.search("sentiment|review|tone", instruction, re.I) else ["yes", "no"]


def _extract_subject(instruction: str, language: str) -> str:
    """Return what an instruction is about, in at most ten words."""
    match = _FIRST_SENTENCE.match(instruction.strip())
    text = (match.group(1) if match else instruction).strip()
    if language == "ko":
        text = _KOREAN_REQUEST_ENDING.sub("", text)
        return "'" + _PARTICLE.sub("", " ".join(text.split()[-7:])).strip("'\"‘’“” ") + "'"
    text = _REQUEST_OPENING.sub("", text).strip("\"'“”‘’ ")
    words = " ".join(text.split()[:10]).rstrip(",;:-")
    return (words[:1].lower() + words[1:] if words[1:2].islower() else words) or "this"
