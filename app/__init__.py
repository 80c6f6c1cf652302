"""Seedbed: the service, its command line, and the library that makes instruction-tuning data."""
