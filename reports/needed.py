"""Rows of a method by intervention set, whatever share of the pairs they have."""

import pandas as pd

from reports.chosen import Selections
from reports.methods import Method


def by_set(selections: Selections, method: Method) -> pd.DataFrame:
    """Return the rows of a method with any share of the pairs, of all intervention sets, in the order of the recipe."""
    parts = [rows for m, rows in selections.parts.items() if not m.placebo and m.with_all_pairs == method]
    return pd.concat(parts)
