"""The figures of docs/does-it-help.md, computed from the result rows of a store and written to docs/figures.json.

    python -m tests.docs.figures --store STORE --data DIR real
    python -m tests.docs.figures --store STORE demo

`STORE` holds the rows of these recipes (`icm-bench run RECIPE --store STORE`). With `--check`, the figures are compared
with those of the file, and nothing is written; a number that differs between two places of the report, or a method with
two names, is a fault as well. `make docs` makes the page from the file.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.commands.gather import rows_of
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.metrics import BALANCED
from benchmark.method.evaluation.tested import Tested
from benchmark.recipe.loading import load_recipe
from reports.analysis import findings, verdicts
from reports.analysis.comparisons import Comparison, compare, over_data_sets
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, SettingResults
from reports.analysis.settings import Options, by_setting
from reports.tables import ablations
from reports.tables.spec import Request
from tests.conftest import REPOSITORY
from tests.reports import whole

FIGURES = REPOSITORY / "docs" / "figures.json"
RECIPES = REPOSITORY / "jobs" / "recipes"
GATED, BASE = "lodo_1se", "lodo"  # the rule of verdicts, and the same without its preference for plain prediction
TOLERANCE = 0.2  # points by which figures of another processor may differ: the answers to three images of the demo

Figures = dict[str, Any]


def figures_of(rows: pd.DataFrame, tested: dict[str, Tested]) -> Figures:
    """Return the figures of some result rows as plain data: differences in points, accuracies in percent."""
    results = [(setting, Selections(part, tested)) for setting, part in by_setting(rows)]
    results = [(s, x) for s, x in results if not s.protocol_class.looks_at_target]
    options = Options()
    found = [findings.comparisons(setting, selections, options) for setting, selections in results]
    answer = verdicts.answer(results, found)
    settings = [_of_setting(setting, selections) for setting, selections in results]
    for one in answer.verdicts:
        (own,) = [s for s, (setting, _) in zip(settings, results, strict=True) if setting == one.setting]
        if one.method.label in own["methods"]:
            own["methods"][one.method.label] |= {"verdict": one.record()["verdict"], **_questions(one)}
    return {"settings": settings, "new_sets": _new_sets(results), "learning_curves": _curves(results, options)}


def _of_setting(setting: Any, selections: Selections) -> Figures:
    """Return sizes, plain accuracy and the gains of all methods of one setting, zero-shot only."""
    plain = next(m for m in selections.parts if m.is_plain and m.predictor == "zero_shot")
    gains = {m.label: _gain(selections, m, plain) for m in _methods(selections)}
    first = next(filter(None, (compare(selections, m, BASE, plain) for m in _methods(selections))), None)
    return {
        "dataset": setting.dataset,
        "environments": len(selections.held_outs),
        "images": round(first.size.images_per_seed) if first else None,
        "classes": int(selections.rows["n_classes"].iloc[0]),
        "plain": _rounded(100 * first.accuracies[1]) if first else None,
        "methods": {label: gain for label, gain in gains.items() if gain},
        "oas": _oas(selections),
    }


def _oas(selections: Selections) -> list[Figures]:
    """Return the differences that covariances shrunk by OAS make: to the same method and share with sample covariances."""
    shares = sorted(selections.curves["train_share"].unique()) if len(selections.curves) else []
    made = []
    for share in [*shares, 1.0]:
        of_share = selections.curves[selections.curves["train_share"] == share].assign(train_share=np.nan)
        part = selections if share == 1 else Selections(of_share, selections.tested)
        every = {(m.projection, m.projection_variant): m for m in part.parts if not m.placebo}
        for (projection, variant), method in every.items():
            sample = every.get((projection, None)) if variant == "oas" else None
            if one := compare(part, method, BASE, sample) if sample else None:
                made.append({"method": projection, "share": f"{100 * share:g} %", **_interval(one.interval)})
    return made


def _methods(selections: Selections) -> list[Method]:
    """Return the methods with a line: real ones, fitted on all images, whole or with one N alone."""
    every = [m for m in selections.parts if m.predictor == "zero_shot" and not m.is_plain]
    return [m for m in every if not m.placebo and m == m.with_all_pairs and not m.imported]


def _gain(selections: Selections, method: Method, plain: Method) -> Figures | None:
    """Return the gains of a method over plain prediction by both rules, and with classes counted equally."""
    of_rules = {rule: compare(selections, method, rule, plain) for rule in (GATED, BASE)}
    balanced = compare(selections, method, GATED, plain, BALANCED)
    return {
        **{rule: _difference(one) for rule, one in of_rules.items() if one},
        **({"balanced": _difference(balanced)} if balanced else {}),
    } or None


def _difference(one: Comparison) -> Figures:
    others = one.others
    counts = {"ahead": others.ahead, "equal": others.tied, "behind": others.behind}
    return {**_interval(one.interval), **counts}


def _interval(one: Interval) -> Figures:
    return {"points": _rounded(100 * one.estimate), "low": _rounded(100 * one.low), "high": _rounded(100 * one.high)}


def _questions(one: verdicts.Verdict) -> Figures:
    return {"questions": {q.name: q.answer for q in one.questions}}


def _new_sets(results: Sequence[SettingResults]) -> Figures:
    """Return for each method the random-effects interval over environments nested in data sets, by both rules."""
    labels = dict.fromkeys(m.label for _, x in results for m in _methods(x))
    made: Figures = {}
    for label in labels:
        of_rules: Figures = {}
        for rule in (GATED, BASE):
            named = []
            for setting, selections in results:
                method = next((m for m in _methods(selections) if m.label == label), None)
                plain = selections.plain_of("zero_shot")
                one = compare(selections, method, rule, plain) if method and plain else None
                named += [(setting.dataset, one)] if one else []
            whole = over_data_sets(named) if len({name for name, _ in named}) > 1 else None
            if whole and whole.others.interval:
                o = whole.others
                counts = {"ahead": o.ahead, "equal": o.tied, "behind": o.behind}
                of_rules[rule] = {**_interval(whole.others.interval), **counts}
        if of_rules:
            made[label] = of_rules
    return made


def _curves(results: Sequence[SettingResults], options: Options) -> list[Figures]:
    """Return the lines of the learning curves: data set, method, share, images for each dimension, gain."""
    lines = []
    for one in results:
        table = ablations.LEARNING_CURVE.build(Request([one], options))
        for block, line in table.lines() if table else ():
            cells = {c.name: x for c, x in zip(table.columns, line.cells, strict=True)} if table else {}
            images, gain = cells["source images for each dimension"], cells["minus plain"]
            lines.append(
                {
                    "dataset": one[0].dataset,
                    "method": block.title.rpartition(", ")[0] or block.title,
                    "share": line.name,
                    "images_per_dimension": _rounded(images.value),
                    "points": _rounded(gain.value),
                    "low": _rounded(gain.low),
                    "high": _rounded(gain.high),
                }
            )
    return lines


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)


def of_store(store: str, name: str, data: str | None) -> tuple[Figures, list[str]]:
    """Return the figures of a packaged recipe's rows in a store, and the faults of their report, see tests.reports.whole."""
    overrides = {"run.store": store, **({"run.data": data} if data else {})}
    gathered, *_ = rows_of(load_recipe(str(RECIPES / f"{name}.yaml"), overrides), Storage(store))
    with tempfile.TemporaryDirectory() as folder:
        report = whole.write(gathered.rows, gathered.tested, Path(folder), name)
        faults = whole.faults(report)
    return figures_of(gathered.rows, dict(gathered.tested)), [f"{name}: {one}" for one in faults]


def _values(content: Any, path: str = "") -> dict[str, Any]:
    """Return path -> value of all values in plain data."""
    if isinstance(content, dict):
        return {k: v for key, one in content.items() for k, v in _values(one, f"{path}/{key}").items()}
    if isinstance(content, list):
        return {k: v for i, one in enumerate(content) for k, v in _values(one, f"{path}/{i}").items()}
    return {path: content}


def differing(ours: Figures, known: Figures) -> list[str]:
    """Return a line for each value that differs or is absent; numbers may differ by `TOLERANCE`, words may not."""

    def alike(a: Any, b: Any) -> bool:
        if isinstance(a, float) and isinstance(b, float):
            return abs(a - b) <= TOLERANCE
        return bool(a == b)

    a, b = _values(ours), _values(known)
    return [
        f"{path}: {a.get(path, 'absent')} here, {b.get(path, 'absent')} in {FIGURES.name}"
        for path in sorted(a.keys() | b.keys())
        if path not in a or path not in b or not alike(a[path], b[path])
    ]


def main() -> int:
    """Write or check the figures of some recipes."""
    parser = argparse.ArgumentParser(description="Compute the figures of docs/does-it-help.md.")
    parser.add_argument("recipes", nargs="+", help="names of packaged recipes, run in the store")
    parser.add_argument("--store", required=True, help="folder or URI of the store")
    parser.add_argument("--data", help="parent folder of the data sets' folders, as in the run")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    known: Figures = json.loads(FIGURES.read_text(encoding="utf-8")) if Path(FIGURES).exists() else {}
    of_stores = {name: of_store(args.store, name, args.data) for name in args.recipes}
    made = {name: figures for name, (figures, _) in of_stores.items()}
    if args.check:
        wrong = [one for _, faults in of_stores.values() for one in faults]
        wrong += [f"{name}{line}" for name, one in made.items() for line in differing(one, known.get(name, {}))]
        print("\n".join(wrong) or "the figures are those of the file", file=sys.stderr)
        return 1 if wrong else 0
    text = json.dumps(dict(sorted({**known, **made}.items())), indent=1, ensure_ascii=False)
    FIGURES.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
