"""Scores of records by the likelihood of their answers: perplexity and IFD."""
