"""A whole run in one process, in memory, for a notebook."""
