"""What the page shows of one setting, as plain data: sorted, with few digits, without NaN."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.selection import RULES
from reports.analysis.answers import Estimate
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.credit import plain_for, plain_of
from reports.analysis.methods import ICM, PLAIN, Method
from reports.analysis.metrics import ORACLE
from reports.analysis.options import Options
from reports.analysis.predictions import MethodPredictions
from reports.analysis.settings import Setting
from reports.analysis.spread import spread_of
from reports.analysis.whole import whole_estimate
from reports.text.captions import protocol_words, rule_words

SHORTEST = 8  # letters of an image's id
IN_CONTEXT = ("dataset", "backbone", "protocol", "test_split", "class_half", "folds", "precision")  # of a table
MAX_SETS = 12  # of a method's explorer: those picked most often come first
Plain = dict[str, Any]


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Return a number with so many decimals, with all it has where fewer would print another tenth; None for NaN."""
    if value is None or not math.isfinite(value):
        return None
    short = round(float(value), digits)
    short = short if f"{short:.1f}" == f"{value:.1f}" else float(value)
    return int(short) if short == int(short) else short


def points(value: float | None) -> float | None:
    """Return a fraction in percent."""
    return None if value is None else rounded(100 * value)


def with_average(values: NDArray[np.float64]) -> Any:
    """Return fractions by held-out environment, shape (environments, ...), in percent and with their mean as the last.

    Nested lists; None where a number is unknown.
    """
    flat = np.concatenate([values, values.mean(axis=0, keepdims=True)])
    return _nested((100 * flat).tolist())


def _nested(values: Any) -> Any:
    return [_nested(one) for one in values] if isinstance(values, list) else rounded(values)


def rules_of(selections: Selections) -> list[str]:
    """Return the rules that the page can show: those of the sources that have scores, else the oracle alone."""
    return [rule.name for rule in selections.rules if not rule.looks_at_target] or [ORACLE]


def described_setting(setting: Setting) -> Plain:
    """Return what tells a setting from others; fields that tables have in their context are called as there."""
    return {
        **{name: str(getattr(setting, name)) for name in IN_CONTEXT},
        "backbone": setting.backbone_label,
        "title": setting.title,
        "banner": setting.banner,
        "half": setting.half_words.removeprefix(", "),
    }


def core(setting: Setting, selections: Selections, options: Options) -> Plain:
    """Return results, picks and rank curves of one setting, and what they rest on.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        options: what the reader asks for.
    """
    methods, rules = list(selections.parts), rules_of(selections)
    environments = selections.held_outs
    bound = setting.protocol_class.looks_at_target
    return {
        "rule": selections.rule if selections.rule in rules else rules[0],
        "rules": [{"name": r, "bound": bound or _bound(r), "words": rule_words(r, setting)} for r in rules],
        "environments": environments,
        "classes": [str(name) for name in selections.rows["classes"].iloc[0]],
        "seeds": selections.seeds,
        "methods": [_method(m, methods) for m in methods],
        "results": {r: [_result(selections, m, r) for m in methods] for r in rules},
        "curves": {r: [_curve(selections, m, r) for m in methods] for r in rules if not _bound(r)},
        "protocol_words": protocol_words(setting, selections, options),
        "prompts": list(setting.prompts),
        "data_hash": setting.dataset_fingerprint,
        "weights_hash": setting.backbone_fingerprint,
        "versions": sorted({str(v) for v in selections.rows["code_version"]}),
        "recipes": sorted({str(v) for v in selections.rows["recipe_hash"]}),
        "trials": int(selections.rows["trial_id"].nunique()),
    }


def _bound(rule: str) -> bool:
    return RULES[rule].looks_at_target


def family_of(method: Method) -> str:
    """Return by which colour a method is drawn."""
    if method.projection == ICM:
        return "released" if method.order == "released" else "other" if method.variant else "icm"
    if method.is_shrinkage:
        return "shrinkage"
    return method.projection if method.projection in ("pca", "random") else "plain" if method.is_plain else "other"


def _method(method: Method, methods: Sequence[Method]) -> Plain:
    return {
        "label": method.label,
        "name": method.label if method.imported else method.projection_label,
        "predictor": "imported" if method.imported else method.predictor_label,
        "family": family_of(method),
        "plain": methods.index(plain) if (plain := plain_for(method, methods)) else -1,
    }


def _result(selections: Selections, method: Method, rule: str) -> Plain | None:
    """Return cells (each environment, then the average) and picks of a method under a rule."""
    if not selections.pooled(method, rule):
        return None
    environments = selections.held_outs
    cells = _cells(selections, method, rule, environments)
    plain = plain_of(method, selections.parts)
    other = compare(selections, method, rule, plain) if plain in selections.parts and plain != method else None
    for cell, difference in zip(cells, _differences(other, environments), strict=True):
        cell.update(difference)
    if _bound(rule):  # labels of what is tested choose: no result, so no interval
        cells = [{key: cell[key] for key in ("v", "d", "why") if key in cell} for cell in cells]
    picks = _picks(selections.picks(method, rule), environments, _more(selections.parts[method]))
    return {"cells": cells, "plain": list(selections.plain_picks(method, rule)), "picks": picks}


def _cells(selections: Selections, method: Method, rule: str, environments: list[str]) -> list[Plain]:
    """Return the accuracy in each environment, then their average; a gap says why it is one."""
    pooled, expected = selections.pooled(method, rule), len(selections.seeds)
    cells: list[Plain] = []
    for name in environments:
        alone = pooled.estimate(held_out=name)
        if alone is None:
            cells.append({"why": "no answers of all folds for what is held out here"})
        else:
            cells.append(_cell(alone, expected))
    average = whole_estimate(selections, pooled)
    if average is None:
        return [*cells, {"why": "no average: no seed has every held-out environment"}]
    return [*cells, _cell(average, expected)]


def _cell(estimate: Estimate, expected: int) -> Plain:
    interval = estimate.interval
    cell: Plain = {"v": points(interval.estimate), "n": round(estimate.size.images_per_seed)}
    error = interval.plus_minus
    if error:
        cell |= {"e": points(error), "l": points(interval.low), "h": points(interval.high)}
    if len(estimate.seeds) < expected:
        cell["why"] = f"{len(estimate.seeds)} of {expected} seeds"
    return {key: value for key, value in cell.items() if value is not None}


def _differences(one: Comparison | None, environments: list[str]) -> list[Plain]:
    """Return difference to plain and its ends, for each environment and the average; empty where there is none."""
    if one is None:
        return [{} for _ in (*environments, "average")]
    of = dict(zip(one.held_outs, one.single, strict=True))
    shown = [of.get(name) for name in environments]
    shown.append(one.interval if list(one.held_outs) == environments else None)
    named = [{"d": points(i.estimate), "dl": points(i.low), "dh": points(i.high)} if i else {} for i in shown]
    return [{key: value for key, value in cell.items() if value is not None} for cell in named]


def _more(rows: pd.DataFrame) -> dict[str, dict[object, str]]:
    """Return for each further column that a rule chooses in: value -> it in words, of what varies alone."""
    words: dict[str, dict[object, str]] = {}
    for column in ("normalize", "predictor_params", "projection_params"):
        values = [value for value in rows[column].unique() if isinstance(value, str)]
        if len(values) > 1:
            words[column] = _in_words(values) if column != "normalize" else {v: f"normalize {v}" for v in values}
    return words


def _in_words(values: Sequence[str]) -> dict[object, str]:
    known = {value: json.loads(value) for value in values}
    keys = sorted({key for params in known.values() for key in params})
    varying = [key for key in keys if len({json.dumps(p.get(key), sort_keys=True) for p in known.values()}) > 1]
    return {value: ", ".join(f"{key} {params.get(key)}" for key in varying) for value, params in known.items()}


def _picks(
    picks: pd.DataFrame, environments: list[str], more: Mapping[str, Mapping[object, str]]
) -> list[list[list[Any]]]:
    """Return for each environment [rank, lambda, set, more, times] of each distinct pick, the commonest first."""
    counted: dict[str, Counter[tuple[Any, ...]]] = {name: Counter() for name in environments}
    columns = ["held_out", "rank", "lambda_", "intervention_set", *more]
    for held_out, rank, lambda_, of_set, *others in zip(*(picks[name] for name in columns), strict=True):
        said = [more[name].get(value, "") for name, value in zip(more, others, strict=True)]
        shown_set = of_set if isinstance(of_set, str) else None
        counted[str(held_out)][int(rank), rounded(lambda_, 6), shown_set, ", ".join(filter(None, said))] += 1
    in_order = [sorted(one.items(), key=lambda item: (-item[1], str(item[0]))) for one in counted.values()]
    return [[[*key, n] for key, n in one] for one in in_order]


def _curve(selections: Selections, method: Method, rule: str) -> Plain | None:
    """Return accuracy at each rank in each environment, all else chosen; None without a choice of ranks."""
    spread = spread_of(selections, method)
    if len(spread.ranks) < 2 or method.projection == PLAIN:
        return None
    _, accuracy = spread.chosen(rule, np.zeros(len(spread.rows), dtype=np.int64), 1)
    if np.isnan(accuracy).all():
        return None
    return {"ranks": spread.ranks, "accuracy": with_average(accuracy[:, 0, :])}


def classes(selections: Selections) -> Plain:
    """Return for each rule, method and environment how many answers of each class are right, and of how many.

    Answers of all folds and seeds count; `images` has the different images among them.
    """
    environments, n = selections.held_outs, len(selections.rows["classes"].iloc[0])
    totals: list[list[int]] = []
    images: list[list[int]] = []
    numbers: dict[tuple[int, ...], int] = {}
    right: dict[str, list[list[Any] | None]] = {}
    for rule in rules_of(selections):
        right[rule] = []
        for method in selections.parts:
            pooled = selections.pooled(method, rule)
            of_method: list[Any] = []
            for name in environments:
                here = [one for (held_out, _), one in pooled.items() if held_out == name]
                if not here:
                    of_method.append(None)
                    continue
                labels = np.concatenate([one.tested.label for one in here])
                total = np.bincount(labels, minlength=n)
                key = tuple(total.tolist())
                if key not in numbers:
                    numbers[key] = len(totals)
                    totals.append(list(key))
                    _, first = np.unique(np.concatenate([one.tested.position for one in here]), return_index=True)
                    images.append(np.bincount(labels[first], minlength=n).tolist())
                correct = np.concatenate([one.correct for one in here])
                of_method.append([numbers[key], np.bincount(labels[correct], minlength=n).tolist()])
            right[rule].append(of_method if any(of_method) else None)
    return {"totals": totals, "images": images, "right": right}


def grids(selections: Selections) -> Plain:
    """Return source score and accuracy at every lambda and rank, of each method with a choice of one of them.

    One setting is fixed (set, lambda and rank); what else is left open the rule chooses.
    """
    environments = selections.held_outs
    found: dict[str, list[Plain]] = {}
    for rule in (r for r in rules_of(selections) if not _bound(r)):
        found[rule] = []
        for number, (method, rows) in enumerate(selections.parts.items()):
            if method.placebo or method.imported or method.is_plain:
                continue
            one = _grid(selections, method, rows, rule, environments)
            if one is not None:
                found[rule].append({"method": number, **one})
    return {rule: of_rule for rule, of_rule in found.items() if of_rule}


def _grid(
    selections: Selections, method: Method, rows: pd.DataFrame, rule: str, environments: list[str]
) -> Plain | None:
    spread, picks = spread_of(selections, method), selections.picks(method, rule)
    lambdas = sorted({float(v) for v in rows["lambda_"] if not pd.isna(v)})
    if len(lambdas) < 2 and len(spread.ranks) < 2:
        return None
    known = [name for name in rows["intervention_set"].unique() if isinstance(name, str)]
    times = Counter(name for name in picks["intervention_set"] if isinstance(name, str))
    names = sorted(known, key=lambda name: (-times[name], known.index(name)))
    shown: list[str | None] = [*names[:MAX_SETS]] if len(names) > 1 else []
    of_lambda = _numbered(rows["lambda_"].tolist(), lambdas or [None])
    score, accuracy = [], []
    for name in (None, *shown):
        inside = np.ones(len(rows), dtype=bool) if name is None else (rows["intervention_set"] == name).to_numpy()
        both = spread.chosen(rule, np.where(inside, of_lambda, -1), max(1, len(lambdas)))
        score.append(with_average(both[0]))
        accuracy.append(with_average(both[1]))
    at = {rank: k for k, rank in enumerate(spread.ranks)}
    sets: list[str | None] = [None, *shown]
    counted: Counter[tuple[int, int, int, int]] = Counter()
    picks = picks[~picks["kept_plain"].astype(bool)]  # plain prediction is no point of the grid
    picked_at = zip(picks["held_out"], picks["lambda_"], picks["rank"], picks["intervention_set"], strict=True)
    for held_out, lambda_, rank, of_set in picked_at:
        column = 0 if not lambdas or pd.isna(lambda_) else lambdas.index(float(lambda_))
        set_ = sets.index(of_set) if isinstance(of_set, str) and of_set in shown else 0
        counted[environments.index(str(held_out)), set_, column, at[int(rank)]] += 1
    return {
        "sets": shown,
        "more_sets": max(0, len(names) - MAX_SETS),
        "lambdas": [rounded(v, 6) for v in lambdas],
        "ranks": spread.ranks,
        "score": score,
        "accuracy": accuracy,
        "picks": [[*key, n] for key, n in sorted(counted.items())],
    }


def _numbered(values: Sequence[Any], known: Sequence[float | None]) -> Any:
    if known == [None]:
        return np.zeros(len(values), dtype=np.int64)
    place = {value: k for k, value in enumerate(known)}
    return np.array([-1 if pd.isna(v) else place[float(v)] for v in values], dtype=np.int64)


def predictions_of(
    selections: Selections, predictions: Sequence[MethodPredictions], places: Mapping[str, int] | None = None
) -> Plain | None:
    """Return images, what was asked of them under which seed, and for each rule and method what was answered.

    Args:
        selections: the rows of the setting.
        predictions: of each method that has some; without any there is nothing to return.
        places: id -> number of the thumbnail of an image; None where the page has no thumbnails.
    """
    if not predictions:
        return None
    number = {method: k for k, method in enumerate(selections.parts)}
    environments = selections.held_outs
    names = [str(name) for name in selections.rows["classes"].iloc[0]]
    place, class_of = ({name: k for k, name in enumerate(some)} for some in (environments, names))
    columns = ["held_out", "image_id", "path", "seed", "class", "rule", "predicted"]
    frames = {number[one.method]: one.table[columns] for one in predictions}
    every = pd.concat(frames.values(), keys=frames.keys(), names=["method", None]).reset_index("method")
    every = every[every["held_out"].isin(environments)].astype({"held_out": str, "image_id": str, "class": str})
    asked = every[["held_out", "image_id", "seed"]].drop_duplicates().sort_values(["held_out", "image_id", "seed"])
    images = every[["held_out", "image_id", "path", "class"]].drop_duplicates(["held_out", "image_id"])
    images = images.sort_values(["held_out", "image_id"])
    at, at_image = pd.MultiIndex.from_frame(asked), pd.MultiIndex.from_frame(images[["held_out", "image_id"]])
    answers: dict[str, dict[str, list[int]]] = {}
    for (rule, method), part in every.groupby(["rule", "method"], sort=True, observed=True):
        values = np.full(len(asked), -1, dtype=np.int64)
        values[at.get_indexer(pd.MultiIndex.from_frame(part[["held_out", "image_id", "seed"]]))] = part[
            "predicted"
        ].map(class_of)
        answers.setdefault(str(rule), {})[str(method)] = values.tolist()
    thumbs = {} if places is None else {"thumbs": [places.get(name, -1) for name in images["image_id"]]}
    return {
        "names": _names(images["image_id"].tolist(), images["path"].tolist()),
        **thumbs,
        "environment": [place[name] for name in images["held_out"]],
        "class": [class_of[name] for name in images["class"]],
        "asked": at_image.get_indexer(pd.MultiIndex.from_frame(asked[["held_out", "image_id"]])).tolist(),
        "answers": answers,
    }


def _names(ids: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return what images are called: their paths, where these are known, else the first letters of their ids."""
    letters = SHORTEST
    while len({name[:letters] for name in ids}) < len(set(ids)):
        letters += 1
    return [path or name[:letters] for name, path in zip(ids, paths, strict=True)]
