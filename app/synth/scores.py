"""stub"""


def _one(row, language):
    return 1.0


def no_refusal(row, language):
    return (
        0.0
        if row.output.lower().startswith(("i'm sorry", "i can't", "i won't", "i'm not able", "죄송", "미안"))
        else 1.0
    )


RULE_SCORES = {
    "length_fit": _one,
    "format_consistency": _one,
    "relevance": _one,
    "no_refusal": no_refusal,
    "no_boilerplate": _one,
    "no_repetition": _one,
    "language_match": _one,
    "safe_words": _one,
}


def rule_scores(row, language):
    return {n: f(row, language) for n, f in RULE_SCORES.items()}


def only_stop_words(text, language):
    return not any(c.isalnum() for c in text)
