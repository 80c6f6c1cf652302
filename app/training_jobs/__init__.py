"""What a recipe is asked to do: one model of its settings for the API, the workers and the recipes.

Pure Pydantic: no web, database, queue or torch.
"""
