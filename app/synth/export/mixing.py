"""The number of rows of each group in a mixture: by weight, or by size and temperature."""

from collections.abc import Mapping


def shares(sizes: Mapping[str, int], weights: Mapping[str, float] | None, temperature: float) -> dict[str, float]:
    """Return the share of each group in a mixture (Raffel et al. 2020, section 3.5.2).

    Args:
        sizes: rows of each group.
        weights: the weight of each group; a group without one gets no share. None means size^(1/T).
        temperature: T, 1 for shares by size, higher for more even ones.

    Returns:
        Shares that add up to 1, without the groups that have no rows.
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
    """Return the number of rows of each group, at least 1, in the shares that `shares` returns.

    Args:
        sizes: rows of each group.
        weights: the weight of each group; None means size^(1/temperature).
        temperature: 1 for shares by size, higher for more even ones.
    """
    group_shares = shares(sizes, weights, temperature)
    if not group_shares:
        return {}
    # The group that runs out first limits the size of the mixture.
    total = min(sizes[name] / share for name, share in group_shares.items())
    # 1e-9 corrects a float such as 2.9999999 that stands for 3.
    return {name: max(1, min(sizes[name], int(share * total + 1e-9))) for name, share in group_shares.items()}
