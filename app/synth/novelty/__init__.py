"""Novelty of a text: lexical and semantic comparison with a pool, decontamination, and coverage."""
