"""The quality report of a run: a checklist in numbers, and distributions that a page can draw.

The checklist: a clear instruction, an output that follows it, a consistent form, no harm, diversity, and a spread of
difficulty. All figures come from the texts and scores of the rows; no teacher is called.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import regex

from app.synth.text import count_words, tokenise
from app.synth.types import UNKNOWN_VERDICTS

# A row is good from the middle of the scale of rule scores on, and from 4 of 5 on by a judge, who is rarely strict.
MIN_GOOD_SHARE, MIN_GOOD_GRADE = 0.5, 4.0
SIMILARITY_BINS, MAX_PAIRS, MAX_VALUES_LISTED = 20, 200_000, 50
# The stored scores that answer each question. Rule scores are 0 to 1, a judge's 1 to 5.
CHECKLIST: dict[str, tuple[str, ...]] = {
    "clear_instruction": ("judge.question_clarity", "judge.clarity"),
    "output_follows_instruction": ("judge.instruction_following", "judge.faithfulness", "rule.relevance"),
    "consistent_form": ("rule.format_consistency", "rule.length_fit", "rule.no_repetition", "rule.no_boilerplate"),
    "no_harm": ("judge.harmlessness", "rule.safe_words"),
}


class ReportRow(Protocol):
    """What the report reads of a row. `scores` by stored name; of `tags` the keys topic and task_type."""

    instruction: str
    input: str
    output: str
    scores: dict[str, float]
    tags: dict


def quality_report(
    rows: Sequence[ReportRow], vectors: np.ndarray | None = None, seed_vectors: np.ndarray | None = None
) -> dict:
    """Return the report as a JSON value.

    Args:
        rows: the accepted rows.
        vectors: unit embeddings of the instructions, of shape (rows, dimensions); None leaves out what needs them.
        seed_vectors: unit embeddings of the seeds, of shape (seeds, dimensions).
    """
    return {
        "rows": len(rows),
        "checklist": [_answer_question(question, names, rows) for question, names in CHECKLIST.items()],
        "diversity": _diversity(rows, vectors, seed_vectors),
        "difficulty": _difficulty(rows),
        "lengths": {name: _quantiles([count_words(getattr(row, name)) for row in rows]) for name in _TEXTS},
        "scores": {name: _distribution(values, name) for name, values in _values_by_score(rows).items()},
        "unknown_verdicts": dict(Counter(step for row in rows for step in row.tags.get(UNKNOWN_VERDICTS, ()))),
    }


_TEXTS = ("instruction", "input", "output")


def _values_by_score(rows: Iterable[ReportRow]) -> dict[str, list[float]]:
    values_by_score: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.scores.items():
            values_by_score.setdefault(name, []).append(float(value))
    return dict(sorted(values_by_score.items()))


def _answer_question(question: str, names: Sequence[str], rows: Sequence[ReportRow]) -> dict:
    """Answer a question of the checklist: count rows that have one of its scores, and rows that pass all they have."""
    scores_by_row = [[(name, row.scores[name]) for name in names if name in row.scores] for row in rows]
    answered = [row_scores for row_scores in scores_by_row if row_scores]
    good = sum(all(value >= _threshold_of(name) for name, value in row_scores) for row_scores in answered)
    return {
        "question": question,
        "answered_by": sorted({name for row_scores in answered for name, _ in row_scores}),
        "rows": len(answered),
        "good": good,
        "share_good": round(good / len(answered), 4) if answered else None,
    }


def _threshold_of(name: str) -> float:
    return MIN_GOOD_GRADE if name.startswith("judge.") else MIN_GOOD_SHARE


def _distribution(values: list[float], name: str) -> dict:
    low, high, bins = (1.0, 5.0, 8) if name.startswith("judge.") and name != "judge.equal" else (0.0, 1.0, 10)
    if name.startswith("local."):
        # Scores of local models have no fixed scale, so the largest value sets the range.
        low, high, bins = 0.0, max(1.0, *values), 10
    return {
        "rows": len(values),
        "mean": round(float(np.mean(values)), 4),
        "histogram": _histogram(values, low, high, bins),
    }


def _histogram(values: Sequence[float], low: float, high: float, bins: int) -> dict:
    """Return edges and counts of the bins. Values outside of the range count in the outermost bin."""
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    return {"edges": [round(float(edge), 4) for edge in edges], "counts": [int(count) for count in counts]}


def _diversity(rows: Sequence[ReportRow], vectors: np.ndarray | None, seeds: np.ndarray | None) -> dict:
    return {
        "topics": _count_values(row.tags.get("topic") for row in rows),
        "task_types": _count_values(row.tags.get("task_type") for row in rows),
        "verbs": _count_values(leading_verb(row.instruction) for row in rows),
        **{f"distinct_{n}": distinct([row.instruction for row in rows], n) for n in (1, 2, 3)},
        "similarity": _similarity(vectors),
        "vendi_score": vendi_score(vectors),
        "coverage": _coverage(vectors, seeds),
    }


def _count_values(values: Iterable[str | None]) -> dict:
    """Count the values, most frequent first, with their effective number: exp(entropy), Hill's number of order 1."""
    counts = Counter(value for value in values if value)
    total = counts.total()
    shares = np.array(list(counts.values()), dtype=np.float64) / max(1, total)
    effective = float(np.exp(-(shares * np.log(shares)).sum())) if total else 0.0
    return {
        "rows": total,
        "different": len(counts),
        "effective": round(effective, 2),
        "counts": dict(counts.most_common(MAX_VALUES_LISTED)),
    }


# Requests open with these; the verb that matters comes after them.
_COURTESIES = {"please", "can", "could", "would", "you", "kindly", "i", "want", "need", "to", "let's", "now", "then"}
# Korean puts the verb last, with an ending that varies by politeness. The stem is what counts.
_KOREAN_ENDING = regex.compile(
    r"(\p{Hangul}+?)(?:해|하여|어|아|여)?\s*(?:주세요|줘|주십시오|보세요|봐|드립니다|세요|시오|십시오|라|까요|나요|가요|니까|인가요)?[.?!]*$"
)


def leading_verb(instruction: str) -> str:
    """The verb of an instruction: in English its first word after courtesies, in Korean the stem of its last verb."""
    words = regex.findall(r"[\p{L}'’]+", instruction.casefold())
    if not words:
        return ""
    if regex.search(r"\p{Hangul}", words[-1]):
        first_sentence = regex.split(r"(?<=[.?!])\s", instruction.strip())[0]
        match = _KOREAN_ENDING.search(first_sentence)
        return match.group(1) if match else words[-1]
    return next((word for word in words if word not in _COURTESIES), words[0])


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct-n (Li et al. 2016): the share of distinct n-grams among all n-grams of tokens, 0 to 1."""
    grams: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        tokens = tokenise(text)
        for start in range(len(tokens) - n + 1):
            grams.add(tuple(tokens[start : start + n]))
            total += 1
    return round(len(grams) / total, 4) if total else 0.0


def _similarity(vectors: np.ndarray | None) -> dict | None:
    """Return the cosines of all pairs of rows, or of a fixed sample of 200,000 pairs."""
    n = 0 if vectors is None else len(vectors)
    if n < 2:
        return None
    if n * (n - 1) // 2 <= MAX_PAIRS:
        first, second = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(0)
        first = rng.integers(0, n, MAX_PAIRS)
        # A shift of at least 1 keeps a row from being paired with itself.
        second = (first + rng.integers(1, n, MAX_PAIRS)) % n
    # In parts of 20,000 pairs, to bound the memory of the gathered vectors.
    values = np.concatenate(
        [
            np.einsum("ij,ij->i", vectors[first[start : start + 20_000]], vectors[second[start : start + 20_000]])
            for start in range(0, len(first), 20_000)
        ]
    )
    return {
        "pairs": len(values),
        "mean": round(float(values.mean()), 4),
        **{f"p{part}": round(float(np.percentile(values, part)), 4) for part in (50, 90, 99)},
        "histogram": _histogram(values, -1.0, 1.0, SIMILARITY_BINS),
    }


def vendi_score(vectors: np.ndarray | None) -> float | None:
    """Return the Vendi score (Friedman and Dieng 2023, section 3): the effective number of distinct rows.

    It is exp of the entropy of the eigenvalues of K/n, where K is the matrix of cosines.

    Args:
        vectors: unit rows of shape (rows, dimensions).

    Returns:
        1 for equal rows, up to the number of rows; None without rows.
    """
    if vectors is None or len(vectors) == 0:
        return None
    # X^T X has the nonzero spectrum of X X^T and is the smaller matrix.
    matrix = vectors.astype(np.float64)
    spectrum = np.linalg.eigvalsh(matrix.T @ matrix / len(matrix))
    # Rounding leaves tiny or negative eigenvalues, of which there is no logarithm.
    spectrum = spectrum[spectrum > 1e-12]
    return round(float(np.exp(-(spectrum * np.log(spectrum)).sum())), 2)


def _coverage(vectors: np.ndarray | None, seeds: np.ndarray | None) -> dict | None:
    """Return how close the rows come to the seeds, which mark the regions that a person wants covered."""
    if vectors is None or seeds is None or not len(vectors) or not len(seeds):
        return None
    nearest = (seeds @ vectors.T).max(axis=1)
    return {
        "seeds": len(seeds),
        "share_within_half": round(float((nearest >= 0.5).mean()), 4),
        "mean_nearest": round(float(nearest.mean()), 4),
    }


def _difficulty(rows: Sequence[ReportRow]) -> dict:
    grades = [row.scores["judge.difficulty"] for row in rows if "judge.difficulty" in row.scores]
    counts = Counter(round(grade) for grade in grades)
    shares = np.array([counts[grade] for grade in range(1, 6) if counts[grade]], dtype=np.float64) / max(1, len(grades))
    return {
        "rows": len(grades),
        "mean": round(float(np.mean(grades)), 4) if grades else None,
        "counts": {str(grade): counts[grade] for grade in range(1, 6)},
        # 1 when the five grades are equally frequent, 0 when only one occurs. Adding 0.0 turns -0.0 into 0.0.
        "evenness": round(float(-(shares * np.log(shares)).sum() / np.log(5)) + 0.0, 4) if grades else None,
    }


def _quantiles(values: Sequence[int]) -> dict:
    if not values:
        return {"p10": 0, "p50": 0, "p90": 0, "longest": 0}
    parts = {f"p{part}": round(float(np.percentile(values, part)), 1) for part in (10, 50, 90)}
    return parts | {"longest": max(values)}
