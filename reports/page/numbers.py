"""Numbers as the page's data has them: None where there is none, never NaN.

More digits than are shown, so that nothing is rounded twice: the page shows what the tables print.
"""

import math

import numpy as np
from numpy.typing import NDArray


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Return a number with so many decimals, an integer where it is one; None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    short = round(float(value), digits)
    return int(short) if short == int(short) else short


def points(value: float | None, digits: int = 4) -> float | None:
    """Return a fraction in percent."""
    return None if value is None else rounded(100 * value, digits)


def tenths(values: NDArray[np.float64]) -> object:
    """Return an array of fractions as nested lists of tenths of a percent, whole numbers; None where unknown."""
    known = ~np.isnan(values)
    whole = np.where(known, np.rint(1000 * np.where(known, values, 0)), 0).astype(int).astype(object)
    whole[~known] = None
    return whole.tolist()
