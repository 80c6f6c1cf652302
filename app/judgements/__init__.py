"""Judgements: a judge scores rows that exist already."""
