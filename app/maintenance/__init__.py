"""Maintenance jobs: new decisions on rows, decontamination, and a new encoding."""
