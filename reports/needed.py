"""How many pairs, kinds and strengths are needed: a method by intervention set, each chosen for alone; as Markdown.

Elsewhere a rule chooses among the intervention sets of a method. Here every set is a method of its own, on the same
images and under the same rule. Strengths are kinds with parameters, so a set of each strength is a line.
"""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports.chosen import Selections, rule_for
from reports.comparisons import compare, points_with_ends
from reports.forms.markdown import markdown_escape, markdown_grid
from reports.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.placebos import accuracies_of
from reports.settings import Setting
from reports.table import GAP

MAX_SETS = 16  # with a line each; of more, those with the same number of kinds are one line


def needed(setting: Setting, selections: Selections) -> list[str]:
    """Return the section with its heading; nothing where methods have one intervention set.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
    """
    rule, grids = rule_for(selections.rows), []
    for method in selections.parts:
        fits = method.projection in (ICM, SHRINKAGE) and method.order != "released" and not method.placebo
        if fits and not method.is_control and method == method.with_all_pairs:
            rows = by_set(selections, method)
            if rows["intervention_set"].nunique() > 1:
                lines = _lines(selections, method, rows, rule)
                grids += [f"{markdown_escape(method.label)}:\n\n{markdown_grid(_HEADER, lines)}"]
    if not grids:
        return []
    words = f"{setting.banner}{setting.title.removeprefix(setting.banner)}. {_words(rule)}"
    return ["\n\n".join(["### How many pairs, kinds and strengths are needed", markdown_escape(words), *grids])]


_HEADER = ["Intervention set", "kinds", "pairs", "accuracy", "minus plain"]


def _words(rule: str) -> str:
    return (
        f"Each intervention set as a method of its own: rule {rule} chooses the rest, among rows of that set alone. "
        "Pairs: share of the images whose views enter C_d. Accuracy in percent; minus plain in points, with its 95 % "
        "interval for these environments, not adjusted for the number of sets. Of more than "
        f"{MAX_SETS} sets those with equally many kinds are one line: their mean, with the lowest and the highest."
    )


def by_set(selections: Selections, method: Method) -> pd.DataFrame:
    """Return the rows of a method with any share of the pairs, of all intervention sets, in the order of the recipe."""
    parts = [rows for m, rows in selections.parts.items() if not m.placebo and m.with_all_pairs == method]
    return pd.concat(parts)


def _lines(selections: Selections, method: Method, rows: pd.DataFrame, rule: str) -> list[list[str]]:
    sets = {str(name): part for name, part in rows.groupby("intervention_set", sort=False)}
    plain = [m for m in selections.parts if (m.projection, m.predictor) == (PLAIN, method.predictor)]
    if len(sets) > MAX_SETS:
        return _by_number(selections, method, sets, rule)
    lines = []
    for name, part in sorted(sets.items(), key=lambda item: (_share(item[1]), _kinds(item[1]))):
        alone, of_set = _alone(selections, method, part, plain)
        one = compare(alone, of_set, rule, plain[0]) if plain else None
        accuracies = accuracies_of(alone, of_set, rule)
        accuracy = GAP if accuracies is None else f"{100 * accuracies.mean():.1f}"
        gain = GAP if one is None else points_with_ends(one)
        lines.append([markdown_escape(name), str(_kinds(part)), f"{100 * _share(part):g} %", accuracy, gain])
    return lines


def _by_number(selections: Selections, method: Method, sets: dict[str, pd.DataFrame], rule: str) -> list[list[str]]:
    found: dict[tuple[float, int], list[float]] = {}
    for part in sets.values():
        accuracies = accuracies_of(*_alone(selections, method, part, []), rule)
        if accuracies is not None:
            found.setdefault((_share(part), _kinds(part)), []).append(100 * float(accuracies.mean()))
    plain = [m for m in selections.parts if (m.projection, m.predictor) == (PLAIN, method.predictor)]
    of_plain = accuracies_of(selections, plain[0], rule) if plain else None
    lines = []
    for (share, kinds), values in sorted(found.items()):
        mean = f"{np.mean(values):.1f} [{min(values):.1f}, {max(values):.1f}]"
        gain = GAP if of_plain is None else f"{np.mean(values) - 100 * of_plain.mean():+.1f}"
        lines.append([f"{len(values)} sets", str(kinds), f"{100 * share:g} %", mean, gain])
    return lines


def _alone(
    selections: Selections, method: Method, part: pd.DataFrame, beside: Iterable[Method]
) -> tuple[Selections, Method]:
    """Return the rows of one set as those of a method, beside those of others, and that method."""
    rows = part.assign(projection_variant=method.variant or None)
    return Selections(pd.concat([rows, *(selections.parts[m] for m in beside)]), selections.tested), method


def _kinds(rows: pd.DataFrame) -> int:
    return len(json.loads(rows["interventions"].iloc[0])["kinds"])


def _share(rows: pd.DataFrame) -> float:
    words = json.loads(rows["interventions"].iloc[0]).get("pairs")
    return float(words.partition(" %")[0]) / 100 if words else 1.0
