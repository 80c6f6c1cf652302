"""API keys, projects, and the guard of repeated requests."""
