"""How many columns or lines go into one piece of a table that is too large."""

from collections.abc import Sequence

_STEPS = 40


def filled(sizes: Sequence[float], limit: float) -> list[list[int]]:
    """Return the places of the sizes in pieces that are filled in order; one that is larger than the limit is alone.

    Args:
        sizes: of what must stay together, all in one unit.
        limit: largest sum of a piece, in the same unit.
    """
    pieces: list[list[int]] = []
    total = 0.0
    for i, size in enumerate(sizes):
        if not pieces or total + size > limit:
            pieces.append([])
            total = 0.0
        pieces[-1].append(i)
        total += size
    return pieces


def balanced(sizes: Sequence[float], limit: float) -> list[list[int]]:
    """Return as few pieces as `filled` does, of sizes as equal as can be: nine columns are 5 and 4, not 8 and 1."""
    best = filled(sizes, limit)
    for step in range(_STEPS):
        pieces = filled(sizes, limit * (1 - step / _STEPS))
        if len(pieces) > len(best):
            break
        best = pieces
    return best
