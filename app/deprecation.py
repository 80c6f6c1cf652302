"""Old names that still work beside the new ones. `docs/deprecations.md` lists them all."""

# The version in which the old names are removed.
REMOVED_IN = "0.2.0"


def message(old: str, new: str) -> str:
    """What to write in the place of an old name, and until when the old one works."""
    return f"{old} is deprecated and will be removed in version {REMOVED_IN}. Use {new}."
