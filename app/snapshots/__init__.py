"""Snapshots: the accepted rows of a dataset as files that never change."""
