"""Methods by intervention set: all kinds, each alone, each left out, shares of the pairs; the rest by the rule."""

import json
from collections.abc import Mapping

import pandas as pd

from reports.chosen import Selections
from reports.methods import Method
from reports.options import Options
from reports.paper.ablations import MAX_VALUES, Value, build_of, has_lambda, of_rows, times_picked
from reports.paper.alike import Described
from reports.table import Table

NAME = "ablation_interventions"
_OWN = (
    "A share of the pairs (of the images whose views enter C_d) is a method of its own, which the rule does not choose "
    f"beside the others. Of more than {MAX_VALUES} sets those of all kinds, of one kind and of all but one are shown, "
    f"or the first {MAX_VALUES}."
)


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return CLIP-ICM and shrinkage by intervention set, each chosen for alone; arguments as of `ablations.build_rank`.

    Returns:
        The table, a block for each backbone and method; None where no method has two sets.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    what = "intervention set"
    return build_of(NAME, what, "Interventions", described, options, rule, names or {}, _sets, has_lambda, (_OWN,))


def _sets(selections: Selections, method: Method, rule: str) -> list[Value]:
    picks = selections.picks(method, rule)
    rows = pd.concat([own for m, own in selections.parts.items() if not m.placebo and m.with_all_pairs == method])
    sets = {str(name): part for name, part in rows.groupby("intervention_set", sort=False)}
    every = frozenset().union(*map(kinds_of, sets.values()))
    places = {name: _place(kinds_of(part), every, pairs_of(part)) for name, part in sets.items()}
    ordered = sorted(sets, key=lambda name: places[name])[:MAX_VALUES]
    values = []
    for name in ordered:
        part, share = sets[name], pairs_of(sets[name])
        times = times_picked(picks, "intervention_set", name) if share == 1 else None
        words = set_words(name, kinds_of(part), every, share)
        values.append(of_rows(selections, method, part, rule, words, times))
    return values


def kinds_of(rows: pd.DataFrame) -> frozenset[str]:
    """Return the kinds, with their parameters, of the one intervention set of some rows: as JSON."""
    kinds = json.loads(rows["interventions"].iloc[0])["kinds"]
    return frozenset(json.dumps(kind, sort_keys=True) for kind in kinds)


def pairs_of(rows: pd.DataFrame) -> float:
    """Return the share of the images whose views enter C_d, 0 to 1."""
    said = json.loads(rows["interventions"].iloc[0]).get("pairs")
    return float(said.partition(" %")[0]) / 100 if said else 1.0


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


def _place(kinds: frozenset[str], every: frozenset[str], share: float) -> tuple[int, float, int, list[str]]:
    """Sort key: all, alone, left out, others by number of kinds; shares of the pairs last."""
    place = 0 if kinds == every else 1 if len(kinds) == 1 else 2 if len(every - kinds) == 1 else 3
    return place if share == 1 else 4, share, len(kinds), sorted(every - kinds if place == 2 else kinds)
