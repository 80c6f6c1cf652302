"""A teacher that costs nothing: an OpenAI-protocol server of its own that composes its replies from parts.

What it writes is plausible and consistent, and teaches a model nothing.
"""
