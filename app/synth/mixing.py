"""How many rows of each group make up a mixture: by weight, or by size and temperature."""

from collections.abc import Mapping


def shares(sizes: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float) -> dict[str, float]:
    """Shares of one for each group: by its weight, else by size^(1/T) (Raffel et al. 2020, section 3.5.2).

    A group without a weight, where weights are given, has no share; a group without rows never has one.
    """
    if weights is None:
        raw = {name: size ** (1 / temperature) for name, size in sizes.items() if size}
    else:
        raw = {name: weights[name] for name, size in sizes.items() if size and weights.get(name, 0) > 0}
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total else {}


def counts_of_mix(
    sizes: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float = 1.0
) -> dict[str, int]:
    """Rows of each group, in these shares, as many as the scarcest group allows; each group at least one."""
    wanted = shares(sizes, weights, temperature)
    if not wanted:
        return {}
    total = min(sizes[name] / share for name, share in wanted.items())
    # A hair is added against 2.9999999 where 3 is meant.
    return {name: max(1, min(sizes[name], int(share * total + 1e-9))) for name, share in wanted.items()}
