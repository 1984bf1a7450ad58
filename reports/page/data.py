"""Data of one setting for the page's script: plain data, sorted, with few digits, without NaN. page.js reads all keys.

Keys of a cell, in percent: `v` accuracy, `e` standard error, `l` and `h` ends of its interval, `d` difference to plain
prediction, `dl` and `dh` ends of the difference's interval. `n` is the number of images, `why` the reason of a gap.
"""
# After a change of these data, change page.js and write tests/reports/golden/page_data.txt anew.

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.answers import Estimate, Pooled
from benchmark.method.evaluation.inference import Interval
from reports.analysis import comparisons
from reports.analysis.methods import ICM, PLAIN, Method, plain_for
from reports.analysis.metrics import ORACLE
from reports.analysis.selections import ImagesOf, Predictions, Selections, complete_estimate
from reports.analysis.settings import Options, Setting
from reports.analysis.spans import spread_of
from reports.text.captions import protocol_words, rule_words

MIN_ID_LETTERS = 8  # shortest abbreviation of an image's id
IN_CONTEXT = ("dataset", "backbone", "protocol", "test_split", "class_half", "folds", "precision")  # context of tables
MAX_SETS = 12  # intervention sets in a method's explorer, the most picked first
_TEST = ["held_out", "image_id", "seed"]  # key of one prediction
_IMAGE = _TEST[:2]
Plain = dict[str, Any]


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails in sprites: WebP files with several images below one another.

    Attributes:
        size: height and width of an image in pixels; `.thumb` in page.css has the same size.
        rows: number of images per sprite; the last sprite may have fewer.
        places: image id -> index over all sprites.
        sprites: WebP files.
    """

    size: int
    rows: int
    places: Mapping[str, int]
    sprites: tuple[bytes, ...]


ThumbnailsOf = Callable[[Sequence[str]], Thumbnails]


@dataclass(frozen=True)
class Images:
    """Sources of image lists and thumbnails.

    Attributes:
        images_of: function from the hash of an image list to the list, or None if absent; by default always None.
        thumbnails_of: function from image ids, the most important first, to thumbnails; by default no thumbnails.
    """

    images_of: ImagesOf = lambda _: None
    thumbnails_of: ThumbnailsOf | None = None


def rounded(value: Any, digits: int = 4) -> Any:
    """Return a number rounded, or unrounded if rounding would change its first decimal; None for NaN."""
    if isinstance(value, list):
        return [rounded(one, digits) for one in value]
    if value is None or not math.isfinite(value):
        return None
    short = round(float(value), digits)
    short = short if f"{short:.1f}" == f"{value:.1f}" else float(value)
    return int(short) if short == int(short) else short


def with_average(values: NDArray[np.float64]) -> Any:
    """Return fractions, shape (environments, ...), and their mean as nested lists in percent, with None for NaN."""
    return rounded((100 * np.concatenate([values, values.mean(axis=0, keepdims=True)])).tolist())


def rules_of(selections: Selections) -> list[str]:
    """Return the rules that the page offers: the source rules that have scores or, without scores, the oracle."""
    return [rule.name for rule in selections.rules if not rule.looks_at_target] or [ORACLE]


def core(setting: Setting, selections: Selections, options: Options) -> Plain:
    """Return results, picks and rank curves of one setting, with protocol, prompts and versions."""
    methods, rules, rows = list(selections.parts), rules_of(selections), selections.rows
    bound = setting.protocol_class.looks_at_target
    return {
        "rule": selections.rule if selections.rule in rules else rules[0],
        "rules": [{"name": r, "bound": bound or r == ORACLE, "words": rule_words(r, setting)} for r in rules],
        "environments": selections.held_outs,
        "classes": list(map(str, rows["classes"].iloc[0])),
        "seeds": selections.seeds,
        "methods": [_method(m, methods) for m in methods],
        "results": {r: [_result(selections, m, r) for m in methods] for r in rules},
        "curves": {r: [_curve(selections, m, r) for m in methods] for r in rules if r != ORACLE},
        "protocol_words": protocol_words(setting, selections, options),
        "prompts": list(setting.prompts),
        "data_hash": setting.dataset_fingerprint,
        "weights_hash": setting.backbone_fingerprint,
        "versions": sorted({str(v) for v in rows["code_version"]}),
        "recipes": sorted({str(v) for v in rows["recipe_hash"]}),
        "trials": int(rows["trial_id"].nunique()),
    }


def _method(method: Method, methods: Sequence[Method]) -> Plain:
    """Return names of a method, its colour family, and the index of plain prediction with the same predictor."""
    plain = plain_for(method, methods)
    family = method.projection if method.projection in ("pca", "random") else "plain" if method.is_plain else "other"
    if method.projection == ICM:
        family = "released" if method.order == "released" else "other" if method.variant else "icm"
    elif method.is_shrinkage:
        family = "shrinkage"
    return {
        "label": method.label,
        "name": method.name,
        "predictor": "imported" if method.imported else method.predictor_label,
        "family": family,
        "plain": methods.index(plain) if plain else -1,
    }


def _result(selections: Selections, method: Method, rule: str) -> Plain | None:
    """Return cells and counts of plain picks (each environment, then all), and picks of a method under a rule."""
    pooled, environments = selections.pooled(method, rule), selections.held_outs
    if not pooled:
        return None
    plain = plain_for(method, selections.parts)
    minus = comparisons.compare(selections, method, rule, plain) if plain and plain != method else None
    differences: dict[str, Interval] = dict(zip(minus.held_outs, minus.single, strict=True)) if minus else {}
    seeds, gap = len(selections.seeds), "no answers of all folds for what is held out here"
    cells = [_cell(pooled.estimate(held_out=name), differences.get(name), seeds, gap) for name in environments]
    of_all = minus.interval if minus and list(minus.held_outs) == environments else None
    gap = "no average: no seed has every held-out environment"
    cells.append(_cell(complete_estimate(selections, pooled), of_all, seeds, gap))
    if rule == ORACLE:  # selected by target labels: not a result, so no interval
        cells = [{key: cell[key] for key in ("v", "d", "why") if key in cell} for cell in cells]
    picks = _picks(selections, method, rule)
    plain_picks = [selections.plain_picks(method, rule, name) for name in (*environments, None)]
    return {"cells": cells, "plain": plain_picks, "picks": picks}


def _cell(estimate: Estimate | None, difference: Interval | None, seeds: int, gap: str) -> Plain:
    """Return an accuracy and its difference to plain prediction, with both intervals; `gap` is the reason of a gap."""
    cell: Plain = {"why": gap}
    if estimate is not None:
        interval = estimate.interval
        cell = {"v": interval.estimate, "n": round(estimate.size.images_per_seed)}
        if error := interval.plus_minus:
            cell |= {"e": error, "l": interval.low, "h": interval.high}
        if len(estimate.seeds) < seeds:
            cell["why"] = f"{len(estimate.seeds)} of {seeds} seeds"
    if difference is not None:
        cell |= {"d": difference.estimate, "dl": difference.low, "dh": difference.high}
    shown = {key: value if key in ("n", "why") else rounded(100 * value) for key, value in cell.items()}
    return {key: value for key, value in shown.items() if value is not None}


def _picks(selections: Selections, method: Method, rule: str) -> list[list[list[Any]]]:
    """Return the distinct picks [rank, lambda, set, others, count] for each environment, the most frequent first."""
    more, picks = _more(selections.parts[method]), selections.picks(method, rule)
    counted: dict[str, Counter[tuple[Any, ...]]] = {name: Counter() for name in selections.held_outs}
    columns = ["held_out", "rank", "lambda_", "intervention_set", *more]
    for held_out, rank, lambda_, of_set, *others in zip(*(picks[name].tolist() for name in columns), strict=True):
        words = [more[name].get(value, "") for name, value in zip(more, others, strict=True)]
        shown_set = of_set if isinstance(of_set, str) else None
        counted[str(held_out)][int(rank), rounded(lambda_, 6), shown_set, ", ".join(filter(None, words))] += 1
    in_order = [sorted(one.items(), key=lambda item: (-item[1], str(item[0]))) for one in counted.values()]
    return [[[*key, n] for key, n in one] for one in in_order]


def _more(rows: pd.DataFrame) -> dict[str, dict[object, str]]:
    """Return column -> value -> description. It lists only the parameters in which values of the column differ."""
    words: dict[str, dict[object, str]] = {}
    for column in ("normalize", "predictor_params", "projection_params"):
        values = [value for value in rows[column].unique() if isinstance(value, str)]
        if len(values) > 1:
            known = {v: {column: v} if column == "normalize" else json.loads(v) for v in values}
            keys = sorted({key for params in known.values() for key in params})
            found = {key: {json.dumps(params.get(key), sort_keys=True) for params in known.values()} for key in keys}
            varying = [key for key in keys if len(found[key]) > 1]
            words[column] = {v: ", ".join(f"{key} {params.get(key)}" for key in varying) for v, params in known.items()}
    return words


def _curve(selections: Selections, method: Method, rule: str) -> Plain | None:
    """Return accuracy by environment and rank, other settings selected by the rule; None with a single rank."""
    spread = spread_of(selections, method)
    if len(spread.ranks) < 2 or method.projection == PLAIN:
        return None
    _, accuracy = spread.chosen(rule, np.zeros(len(spread.rows), dtype=np.int64), 1)
    return None if np.isnan(accuracy).all() else {"ranks": spread.ranks, "accuracy": with_average(accuracy[:, 0, :])}


def classes(selections: Selections) -> Plain:
    """Return the numbers of correct and of all predictions by class, for each rule, method and environment.

    All folds and seeds count; `images` has the number of distinct images.
    """
    n = len(selections.rows["classes"].iloc[0])
    # Numbers of predictions by class -> index of this tuple among all, and numbers of distinct images by class.
    totals: dict[tuple[int, ...], tuple[int, list[int]]] = {}

    def right_of(here: Sequence[Pooled]) -> list[Any] | None:
        if not here:
            return None
        labels = np.concatenate([one.tested.label for one in here])
        total = tuple(np.bincount(labels, minlength=n).tolist())
        if total not in totals:
            _, first = np.unique(np.concatenate([one.tested.position for one in here]), return_index=True)
            totals[total] = len(totals), np.bincount(labels[first], minlength=n).tolist()
        correct = np.concatenate([one.correct for one in here])
        return [totals[total][0], np.bincount(labels[correct], minlength=n).tolist()]

    right = {}
    for rule in rules_of(selections):
        every = [selections.pooled(method, rule).items() for method in selections.parts]
        found = [[right_of([x for (e, _), x in of if e == name]) for name in selections.held_outs] for of in every]
        right[rule] = [of_method if any(of_method) else None for of_method in found]
    return {"totals": list(map(list, totals)), "images": [images for _, images in totals.values()], "right": right}


def grids(selections: Selections) -> Plain:
    """Return source score and accuracy by lambda and rank, for each method with several lambdas or ranks.

    Intervention set, lambda and rank are fixed; the rule selects all other settings.
    """
    methods = {k: m for k, m in enumerate(selections.parts) if not (m.placebo or m.imported or m.is_plain)}
    found = {}
    for rule in (r for r in rules_of(selections) if r != ORACLE):
        of_rule = {number: _grid(selections, method, rule) for number, method in methods.items()}
        found[rule] = [{"method": number, **grid} for number, grid in of_rule.items() if grid]
    return {rule: of_rule for rule, of_rule in found.items() if of_rule}


def _grid(selections: Selections, method: Method, rule: str) -> Plain | None:
    spread, picks, rows = spread_of(selections, method), selections.picks(method, rule), selections.parts[method]
    lambdas = sorted({float(v) for v in rows["lambda_"] if not pd.isna(v)})
    if len(lambdas) < 2 and len(spread.ranks) < 2:
        return None
    known = [name for name in rows["intervention_set"].unique() if isinstance(name, str)]
    times = Counter(name for name in picks["intervention_set"] if isinstance(name, str))
    names = sorted(known, key=lambda name: (-times[name], known.index(name)))
    sets = [None, *(names[:MAX_SETS] if len(names) > 1 else [])]  # None: all sets
    unknown = -1 if lambdas else 0  # rows without lambda are ignored if others have one
    of_lambda = np.array([lambdas.index(v) if v in lambdas else unknown for v in rows["lambda_"]], dtype=np.int64)
    inside = [np.full(len(rows), True) if name is None else rows["intervention_set"] == name for name in sets]
    both = [spread.chosen(rule, np.where(of_set, of_lambda, -1), max(1, len(lambdas))) for of_set in inside]
    counted: Counter[tuple[int, int, int, int]] = Counter()
    picks = picks.where(~picks["kept_plain"].astype(bool))  # plain prediction is not on the grid
    columns = ("held_out", "lambda_", "rank", "intervention_set")
    picked_at = zip(*(picks[name].tolist() for name in columns), strict=True)
    for held_out, lambda_, rank, of_set in picked_at:
        column, of_set = (lambdas.index(lambda_) if lambda_ in lambdas else 0), of_set if of_set in sets else None
        place = selections.held_outs.index(str(held_out)), sets.index(of_set)
        counted[*place, column, spread.ranks.index(int(rank))] += 1
    return {
        "sets": sets[1:],
        "more_sets": max(0, len(names) - MAX_SETS),
        "lambdas": rounded(lambdas, 6),
        "ranks": spread.ranks,
        "score": [with_average(score) for score, _ in both],
        "accuracy": [with_average(accuracy) for _, accuracy in both],
        "picks": [[*key, n] for key, n in sorted(counted.items())],
    }


def predictions_of(
    selections: Selections, predictions: Predictions, places: Mapping[str, int] | None = None
) -> Plain | None:
    """Return images, their tests (image and seed), and the predicted class of each test by rule and method.

    `places` maps image ids to thumbnail indices; None if the page has no thumbnails.
    """
    if not predictions:
        return None
    number = {method: k for k, method in enumerate(selections.parts)}
    environments = selections.held_outs
    names = map(str, selections.rows["classes"].iloc[0])
    place, class_of = ({name: k for k, name in enumerate(some)} for some in (environments, names))
    columns = [*_TEST, "path", "class", "rule", "predicted"]
    frames = {number[method]: table[columns] for method, table in predictions.items()}
    every = pd.concat(frames, names=["method", None])
    every = every[every["held_out"].isin(environments)].astype({"held_out": str, "image_id": str, "class": str})
    tests = every[_TEST].drop_duplicates().sort_values(_TEST)
    images = every.drop_duplicates(_IMAGE).sort_values(_IMAGE)
    at, at_image = pd.MultiIndex.from_frame(tests), pd.MultiIndex.from_frame(images[_IMAGE])
    answers: dict[str, dict[str, list[int]]] = {}
    for (rule, method), part in every.groupby(["rule", "method"], sort=True, observed=True):
        values = np.full(len(tests), -1, dtype=np.int64)
        values[at.get_indexer(pd.MultiIndex.from_frame(part[_TEST]))] = part["predicted"].map(class_of)
        answers.setdefault(str(rule), {})[str(method)] = values.tolist()
    letters, ids = MIN_ID_LETTERS, set(images["image_id"])
    while len({name[:letters] for name in ids}) < len(ids):
        letters += 1
    return {
        "names": [path or name[:letters] for name, path in zip(images["image_id"], images["path"], strict=True)],
        **({} if places is None else {"thumbs": [places.get(name, -1) for name in images["image_id"]]}),
        "environment": images["held_out"].map(place).tolist(),
        "class": images["class"].map(class_of).tolist(),
        "asked": at_image.get_indexer(pd.MultiIndex.from_frame(tests[_IMAGE])).tolist(),
        "answers": answers,
    }


def wanted(predictions: Iterable[Predictions]) -> list[str]:
    """Return the ids of all images in the page's lists, which show images that methods misclassify.

    The ids are sorted by their best position in any list. Each list is in the order of ids.
    """
    key, found = ["rule", *_TEST], []
    for of_setting in predictions:
        wrong = {
            method: table[key].assign(wrong=table["class"] != table["predicted"]).drop_duplicates(key)
            for method, table in of_setting.items()
        }
        plain = {method.predictor: of_method for method, of_method in wrong.items() if method.is_plain}
        for method, of_method in wrong.items():
            if method.predictor in plain:  # lists compare a method with plain prediction
                both = of_method.merge(plain[method.predictor], on=key, suffixes=("", "_plain"))
                both = both[both["wrong"] | both["wrong_plain"]].sort_values(key)
                lists = both.groupby(["rule", "held_out", "wrong", "wrong_plain"], sort=False)
                found.append(both[["image_id"]].assign(position=lists.cumcount()))
    if not found:
        return []
    first = pd.concat(found).groupby("image_id", sort=True)["position"].min()
    return [str(name) for name in first.sort_values(kind="stable").index]
