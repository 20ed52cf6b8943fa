"""Random draws whose sequence is the same on every Python version.

Python promises that only for `random.Random(seed).random()`; everything here is built on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp
from statistics import NormalDist
from typing import TypeVar

Draw = Callable[[], float]
"""Returns the next number in [0, 1)."""

Item = TypeVar("Item")


def stream(seed: int, purpose: int) -> Draw:
    """The endless sequence of draws for a seed; another `purpose` gives an unrelated sequence."""
    return random.Random(seed * 1_000_003 + purpose).random  # noqa: S311 - a simulation, no secret


def pick(draw: Draw, items: Sequence[Item]) -> Item:
    """One of the items, all equally likely."""
    return items[int(draw() * len(items))]


def between(draw: Draw, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(draw() * (high - low + 1))


def shuffled(draw: Draw, items: Sequence[Item]) -> list[Item]:
    """The items in random order."""
    result = list(items)
    for last in range(len(result) - 1, 0, -1):
        other = int(draw() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result


def poisson(draw: Draw, mean: float) -> int:
    """A Poisson distributed count; made for means of a few at most."""
    probability = exp(-mean)
    rest = draw() - probability
    count = 0
    while rest > 0 and count < 50:
        count += 1
        probability *= mean / count
        rest -= probability
    return count


def quotas(shares: dict[Item, float], total: int) -> list[Item]:
    """`total` items, each as often as its share says, so that small totals keep the mix too."""
    result: list[Item] = []
    reached = 0.0
    whole = sum(shares.values())
    for item, share in shares.items():
        reached += share / whole
        result += [item] * (round(reached * total) - len(result))
    return result


def lognormal_table(sigma: float, size: int = 512) -> list[int]:
    """Log-normal factors in thousandths (median 1000): draw one by a uniform index.

    Whole numbers, so that amounts of money never pass through floats.
    """
    normal = NormalDist()
    return [round(1000 * exp(sigma * normal.inv_cdf((i + 0.5) / size))) for i in range(size)]
