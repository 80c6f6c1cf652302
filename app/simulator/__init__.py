"""The simulated teacher: a server of its own that speaks the OpenAI protocol and composes its replies from parts.

The replies cost nothing. They are plausible and consistent, but a model learns nothing from them.
"""
