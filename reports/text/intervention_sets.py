"""Intervention sets: which kinds they have, their order, and their names in words."""

import json
import math

import pandas as pd

OTHERS = 3  # place of sets that are neither all kinds, nor one, nor all but one


def kinds_of(rows: pd.DataFrame) -> frozenset[str]:
    """Return the kinds of the one intervention set of some rows, with their parameters, as JSON; none where unknown."""
    content = rows["interventions"].iloc[0]
    kinds = json.loads(content)["kinds"] if isinstance(content, str) else []
    return frozenset(json.dumps(kind, sort_keys=True) for kind in kinds)


def pairs_of(rows: pd.DataFrame) -> float:
    """Return the share of the images whose views enter C_d, 0 to 1."""
    share = float(rows["pairs_share"].iloc[0])
    return 1.0 if math.isnan(share) else share


def set_words(name: str, kinds: frozenset[str], every: frozenset[str], share: float = 1.0) -> str:
    """Return what a set is, with its name where that says more: "all", "blur alone", "without blur (mild)".

    Args:
        name: in the recipe.
        kinds: that it has, as `kinds_of` returns them.
        every: that any set has.
        share: of the pairs.
    """
    missing, pairs = every - kinds, f", {100 * share:g} % of the pairs" if share < 1 else ""
    said = name
    if kinds == every:
        said = "all"
    elif len(kinds) == 1:
        said = f"{_named(kinds)} alone"
    elif len(missing) == 1:
        said = f"without {_named(missing)}"
    known = name in said or name.replace("_", " ") in (said, "all", _named(kinds), f"no {_named(missing)}")
    return f"{said if known else f'{said} ({name})'}{pairs}"


def _named(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(str(json.loads(kind)["name"]) for kind in kinds))


def place_of(kinds: frozenset[str], every: frozenset[str], share: float) -> tuple[int, float, int, list[str]]:
    """Return a sort key: all, alone, left out, others by number of kinds; shares of the pairs last."""
    place = 0 if kinds == every else 1 if len(kinds) == 1 else 2 if len(every - kinds) == 1 else OTHERS
    return place if share == 1 else 4, share, len(kinds), sorted(every - kinds if place == 2 else kinds)
