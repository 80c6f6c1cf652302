"""The description of a recipe's job: the same models for the API, the workers and the recipes.

This package has Pydantic models alone and imports no web framework, database, queue or torch.
"""
