"""Rule scores: measures of a row that need no model. Each is 0 to 1, and 1 is good.

A score alone rejects nothing: `minimum_scores` in the options of a method names the scores and the values below which
a row is rejected. Every score takes the row and the BCP-47 tag of the dataset.
"""

import json
import math
from collections.abc import Callable
from typing import Protocol

import regex

from app.synth.quality.format_constraints import FormatConstraints, parse_format_constraints
from app.synth.text import count_words, normalise, tokenise
from app.synth.word_lists import (
    BOILERPLATE_CLOSERS,
    BOILERPLATE_OPENERS,
    HARMFUL_PHRASES,
    KOREAN_REFUSAL,
    REFUSAL_OPENERS,
    contains_word,
    entries_for,
    primary_subtag,
    stop_words,
)

# A refusal opens an answer and an offer of help closes it; inside of a text both may be quoted.
OPENING_CHARACTERS, CLOSING_CHARACTERS = 60, 160
_LIST_LINE = regex.compile(r"^\s*(?:[-*•·‣]|\d+[.)]|[a-zA-Z가-하][.)])\s+\S")
_NUMBERED_LINE = regex.compile(r"^\s*(?:\d+[.)]|[①-⑳])\s*\S")
_TABLE_LINE = regex.compile(r"^\s*\|.*\|\s*$")
_SENTENCE_END = regex.compile(r"[.!?。！？…]+[\"'”’)\]]*(?:\s|$)|\n+")
# Scripts by language; a language that is not listed is written in Latin letters.
_SCRIPTS = {
    "ko": r"\p{Hangul}",
    "ja": r"[\p{Hiragana}\p{Katakana}\p{Han}]",
    "zh": r"\p{Han}",
    "th": r"\p{Thai}",
    "ru": r"\p{Cyrillic}",
    "uk": r"\p{Cyrillic}",
    "ar": r"\p{Arabic}",
    "fa": r"\p{Arabic}",
    "he": r"\p{Hebrew}",
    "hi": r"\p{Devanagari}",
    "el": r"\p{Greek}",
}
# A task that asks for another language shares neither words nor script with its answer.
_OTHER_LANGUAGE = regex.compile(
    r"\b(translate|translation|in (french|german|spanish|korean|english|japanese|chinese|italian|latin|russian))\b|"
    r"번역|로마자|영어로|한국어로|일본어로|중국어로|프랑스어로|독일어로|스페인어로|영작",
    regex.IGNORECASE,
)


class Row(Protocol):
    """What a rule score reads of a row."""

    instruction: str
    input: str
    output: str


def length_fit(row: Row, language: str) -> float:
    """Score the length: 1 when it is the one that the instruction states, or, without one, is not excessive.

    Args:
        row: the row.
        language: unused; all rule scores take it.

    Returns:
        0 to 1; lower with the distance from the requested length.
    """
    word_count = count_words(row.output)
    if word_count == 0:
        return 0.0
    constraints = parse_format_constraints(row.instruction)
    if constraints.words is not None:
        return _score_length(word_count, constraints.words, constraints.at_most)
    if constraints.sentences is not None:
        return _score_length(_count_sentences(row.output), constraints.sentences, constraints.at_most)
    question_words = count_words(row.instruction) + count_words(row.input)
    # An answer of over 400 words that is also fifty times as long as its question has usually lost the subject.
    max_words = max(400, 50 * question_words)
    return 1.0 if word_count <= max_words else max_words / word_count


def _score_length(actual: int, requested: int, at_most: bool) -> float:
    """Return 1 within a fifth of the requested number, or within 1 of a small number; less with the distance."""
    # An upper limit is met by any shorter text.
    low, high = (0 if at_most else requested - max(1, 0.2 * requested)), requested + max(1, 0.2 * requested)
    if low <= actual <= high:
        return 1.0
    return max(0.0, actual / low if actual < low else high / actual)


def _count_sentences(text: str) -> int:
    return len([sentence for sentence in _SENTENCE_END.split(text) if sentence.strip()])


def format_consistency(row: Row, language: str) -> float:
    """Return the mean of the checks of form: the requested constraints, balanced brackets, a complete last sentence."""
    checks = [
        *_check_constraints(parse_format_constraints(row.instruction), row.output),
        _score_balance(row.output),
        _score_ending(row.output),
    ]
    return sum(checks) / len(checks) if row.output.strip() else 0.0


def _check_constraints(constraints: FormatConstraints, output: str) -> list[float]:
    lines = [line for line in output.splitlines() if line.strip()]
    checks = []
    if constraints.json:
        checks.append(_score_json(output))
    if constraints.table:
        checks.append(float(sum(map(bool, map(_TABLE_LINE.match, lines))) >= 2))
    if constraints.numbered:
        checks.append(float(any(map(_NUMBERED_LINE.match, lines))))
    elif constraints.bullets:
        checks.append(float(any(map(_LIST_LINE.match, lines))))
    if constraints.items is not None:
        list_lines = sum(map(bool, map(_LIST_LINE.match, lines)))
        # A short list may stand on one line.
        inline_items = max((len(regex.split(r"[,、;]|\band\b", line)) for line in lines), default=0)
        checks.append(float(constraints.items in (list_lines, inline_items, len(lines))))
    return checks


def _score_json(text: str) -> float:
    # Teachers often wrap JSON in a code fence, which every reader of the row removes.
    body = regex.sub(r"^```\w*\n|\n```\s*$", "", text.strip())
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return 0.0
    return 1.0


def _score_balance(text: str) -> float:
    """Return whether code fences and brackets are paired, apart from list marks such as `a)`."""
    if text.count("```") % 2:
        return 0.0
    # Code may have a bracket in a string, and a list mark has none to open it.
    prose = regex.sub(r"```.*?```", "", text, flags=regex.DOTALL)
    prose = regex.sub(r"(?m)^\s*\w{1,3}\)", "", prose)
    pairs = (("(", ")"), ("[", "]"), ("{", "}"), ("「", "」"), ("“", "”"))
    broken = sum(prose.count(first) != prose.count(second) for first, second in pairs)
    return max(0.0, 1 - broken / 2)


def _score_ending(text: str) -> float:
    """Return 0 when a long last line stops within a sentence. Labels, titles, lists and verses need no full stop."""
    last = text.rstrip().splitlines()[-1] if text.strip() else ""
    prose = count_words(last) >= 12
    return 0.0 if prose and regex.search(r"[\p{L}\p{N},:;]$", last) and not _has_korean_ending(last) else 1.0


def _has_korean_ending(line: str) -> bool:
    return regex.search(r"(다|요|까|죠|음|함|됨|임)$", line) is not None


def relevance(row: Row, language: str) -> float:
    """Return the overlap of content tokens between question and answer: sqrt(2 x overlap coefficient), at most 1.

    1 for a short answer (a label, a number, a name), which cannot share words; for an answer that the instruction
    contains, such as one of its labels; and for a task in another language.
    """
    output = normalise(row.output).casefold()
    if not output:
        return 0.0
    question = normalise(f"{row.instruction} {row.input}").casefold()
    output_tokens = _content_tokens(output, language)
    if len(output_tokens) < 8 or output.strip(".!\"'") in question or _OTHER_LANGUAGE.search(row.instruction):
        return 1.0
    question_tokens = _content_tokens(question, language)
    if not question_tokens:
        return 1.0
    # An overlap of half of the smaller side gives the full score: a good answer adds words of its own.
    overlap = len(question_tokens & output_tokens) / min(len(question_tokens), len(output_tokens))
    return min(1.0, math.sqrt(2 * overlap))


def _content_tokens(text: str, language: str) -> set[str]:
    """Return words without stop words; in Hangul pairs of syllables of a word, since particles change its ending."""
    excluded, tokens = stop_words(language), set()
    for word in regex.findall(r"[\p{L}\p{N}\p{M}]+", text):
        if word in excluded:
            continue
        if regex.fullmatch(r"\p{Hangul}{2,}", word):
            tokens |= {word[n : n + 2] for n in range(len(word) - 1)}
        else:
            # The English plural would hide a match: "tides" answers "tide".
            tokens.add(word[:-1] if len(word) > 3 and word.endswith("s") else word)
    return tokens


def no_refusal(row: Row, language: str) -> float:
    """Return 0 for an answer that opens with a refusal."""
    opening = normalise(row.output).replace("’", "'").casefold()[:OPENING_CHARACTERS]
    refuses = opening.startswith(REFUSAL_OPENERS["en"]) or regex.search(KOREAN_REFUSAL, opening)
    return 0.0 if refuses else 1.0


def no_boilerplate(row: Row, language: str) -> float:
    """Return 1, minus 0.5 for an assistant's opener ("Sure! Here is…") and 0.5 for a closer ("I hope this helps")."""
    text = normalise(row.output).replace("’", "'").casefold()
    has_opener = any(text.startswith(phrase) for phrase in entries_for(BOILERPLATE_OPENERS, language))
    has_closer = any(phrase in text[-CLOSING_CHARACTERS:] for phrase in entries_for(BOILERPLATE_CLOSERS, language))
    return 1.0 - 0.5 * has_opener - 0.5 * has_closer


def no_repetition(row: Row, language: str) -> float:
    """Return the share of distinct 4-grams of tokens, or of distinct lines, whichever is lower."""
    tokens = tokenise(row.output)
    # Few grams or lines repeat by chance, so short outputs keep the full score.
    shares = [1.0]
    grams = [tuple(tokens[n : n + 4]) for n in range(len(tokens) - 3)]
    if len(grams) >= 8:
        shares.append(len(set(grams)) / len(grams))
    lines = [normalise(line) for line in row.output.splitlines() if count_words(line) >= 3]
    if len(lines) >= 3:
        shares.append(len(set(lines)) / len(lines))
    return min(shares)


def language_match(row: Row, language: str) -> float:
    """Return the share of letters in the scripts of the dataset's language; 1 where the task asks for another language.

    1 also for code, numbers and labels of a few letters, which belong to no language. Only the script is measured, so
    languages in Latin letters are not told apart.
    """
    # Code and addresses use Latin letters in every language.
    prose = regex.sub(r"```.*?```|`[^`]*`|https?://\S+", "", row.output, flags=regex.DOTALL)
    letters = regex.findall(r"\p{L}", prose)
    if len(letters) < 12 or _OTHER_LANGUAGE.search(row.instruction) or _looks_like_code(row.output):
        return 1.0
    script = _SCRIPTS.get(primary_subtag(language), r"\p{Latin}")
    in_script = len(regex.findall(script, "".join(letters)))
    # Foreign names and terms occur in every language, so half of the letters gives the full score.
    return min(1.0, 2 * in_script / len(letters))


def _looks_like_code(text: str) -> bool:
    return (
        regex.search(r"```|^\s*(def |class |import |#include|SELECT |function |const |<\w+>)|[{};]\s*$", text, regex.M)
        is not None
    )


def safe_words(row: Row, language: str) -> float:
    """Return 0 when the row contains a harmful phrase, in whole words, of the dataset's language or English."""
    text = f"{row.instruction}\n{row.input}\n{row.output}"
    return 0.0 if any(contains_word(text, phrase) for phrase in entries_for(HARMFUL_PHRASES, language)) else 1.0


RULE_SCORES: dict[str, Callable[[Row, str], float]] = {
    rule.__name__: rule
    for rule in (
        *(length_fit, format_consistency, relevance, no_refusal, no_boilerplate, no_repetition, language_match),
        safe_words,
    )
}


def rule_scores(row: Row, language: str) -> dict[str, float]:
    """Return all rule scores of the row by name, each 0 to 1, rounded to four decimals."""
    return {name: round(rule(row, language), 4) for name, rule in RULE_SCORES.items()}


def only_stop_words(text: str, language: str) -> bool:
    """Return whether a text has only punctuation and stop words.

    This is the third reason of Evol-Instruct to eliminate a child (Xu et al. 2023, section 3.2).
    """
    words = regex.findall(r"[\p{L}\p{N}\p{M}]+(?:'\p{L}+)?", text.replace("’", "'").casefold())
    return all(word in stop_words(language) for word in words)
