"""Datasets: their rows, the pools with which rows are compared, admission, and imports."""
