"""What the page shows of one setting, as plain data: sorted, with few digits, without NaN."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.method.evaluation.metrics import ACCURACY, ECE, WORST_ENVIRONMENT, Metric
from benchmark.method.evaluation.selection import RULES
from reports.analysis.answers import Estimate
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Comparison, compare
from reports.analysis.methods import ICM, PLAIN, Method
from reports.analysis.metrics import Metrics, further, metrics_of
from reports.analysis.options import Options
from reports.analysis.predictions import MethodPredictions, read_of
from reports.analysis.robustness import Lines
from reports.analysis.settings import Setting
from reports.analysis.spans import picked
from reports.analysis.spread import spread_of
from reports.analysis.whole import whole_estimate
from reports.page.numbers import points, rounded, tenths
from reports.text.captions import protocol_words, rule_words

_READ = ("before", "after", "chance")
SHORTEST = 8  # letters of an image's id
MAX_SETS = 12  # of a method's explorer: those picked most often come first
Plain = dict[str, Any]


def rules_of(selections: Selections) -> list[str]:
    """Return the rules that the page can show: those with scores, the ceiling left out."""
    return [rule.name for rule in selections.rules if rule.name != "ceiling"]


def described_setting(setting: Setting) -> Plain:
    """Return what tells a setting from others."""
    return {
        "title": setting.title,
        "banner": setting.banner,
        "dataset": setting.dataset,
        "backbone": setting.backbone_label,
        "protocol": setting.protocol,
        "split": setting.test_split,
        "half": setting.half_words.removeprefix(", "),
        "precision": setting.precision,
        "bound": setting.protocol_class.looks_at_target,
    }


def core(setting: Setting, selections: Selections, lines: Lines, options: Options) -> Plain:
    """Return results, picks, rank curves and metrics of one setting, and what they rest on.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        lines: of the setting, for robustness.
        options: what the reader asks for.
    """
    methods, rules = list(selections.parts), rules_of(selections)
    environments = selections.held_outs
    trials = sorted({str(t) for t in selections.rows["trial_id"]})
    place = {trial: k for k, trial in enumerate(trials)}
    return {
        **described_setting(setting),
        "rule": selections.rule,
        "rules": [{"name": r, "bound": RULES[r].looks_at_target, "words": rule_words(r, setting)} for r in rules],
        "environments": environments,
        "classes": [str(name) for name in selections.rows["classes"].iloc[0]],
        "seeds": selections.seeds,
        "dim": int(selections.rows["dim"].iloc[0]),
        "methods": [_method(m, methods) for m in methods],
        "results": {r: [_result(selections, m, r, environments, place) for m in methods] for r in rules},
        "curves": {r: [_curve(selections, m, r) for m in methods] for r in rules if not _bound(r)},
        "behind": {r: _behind(metrics_of(selections, r, lines), further(selections.metrics)) for r in rules},
        "spans": {r: spans for r in rules if not _bound(r) and (spans := _spans(selections, r))},
        "protocol_words": protocol_words(setting, selections, options),
        "prompts": list(setting.prompts),
        "data_hash": setting.dataset_fingerprint,
        "weights_hash": setting.backbone_fingerprint,
        "versions": sorted({str(v) for v in selections.rows["code_version"]}),
        "recipes": sorted({str(v) for v in selections.rows["recipe_hash"]}),
        "sources": sorted({int(n) for n in selections.rows["n_sources"]}),
        "trials": trials,
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
        "sees": method.looks_at_target_images,
        "plain": next((k for k, m in enumerate(methods) if m.is_plain and m.predictor == method.predictor), -1),
    }


def _result(
    selections: Selections, method: Method, rule: str, environments: list[str], place: dict[str, int]
) -> Plain | None:
    """Return cells (each environment, then the average), picks and trials of a method under a rule."""
    pooled = selections.pooled(method, rule)
    if not pooled:
        return None
    plain = selections.plain_of(method.predictor) or method
    if _bound(rule):
        cells = _bounds(selections, method, plain, rule, environments)
    else:
        cells = _cells(selections, method, rule, environments)
        other = compare(selections, method, rule, plain) if plain != method else None
        for cell, difference in zip(cells, _differences(other, environments), strict=True):
            cell.update(difference)
    own, total = selections.plain_picks(method, rule)
    picks, rows = selections.picks(method, rule), selections.parts[method]
    chosen = selections.chosen_rows(method, rule, ("trial_id",))["trial_id"]
    trials: dict[str, set[int]] = {name: set() for name in environments}
    for name, trial in zip(picks["held_out"], chosen, strict=True):
        trials[str(name)].add(place[str(trial)])
    by_environment = _picks(picks, environments, _more(rows))
    return {
        "cells": cells,
        "plain": [own, total],
        "picks": by_environment,
        "trials": [sorted(v) for v in trials.values()],
    }


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


def _bounds(selections: Selections, method: Method, plain: Method, rule: str, environments: list[str]) -> list[Plain]:
    """Return accuracies and differences to plain where labels of what is tested choose: no result, so no interval."""
    pooled, of_plain = selections.pooled(method, rule), selections.pooled(plain, rule)
    estimate = whole_estimate(selections, pooled, None if method == plain else of_plain)
    if estimate is None:
        return _cells(selections, method, rule, environments)
    means = [np.append(of_method, of_method.mean()) for of_method in estimate.means]
    if method == plain:
        return [{"v": points(own)} for own in means[0]]
    return [{"v": points(own), "d": points(own - other)} for own, other in zip(*means, strict=True)]


def _cell(estimate: Estimate, expected: int) -> Plain:
    interval = estimate.interval
    cell: Plain = {"v": points(interval.estimate), "n": rounded(estimate.size.images_per_seed, 0)}
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
    """Return accuracy at each rank in each environment, all but the rank chosen; None without a choice of ranks."""
    spread = spread_of(selections, method)
    if len(spread.ranks) < 2 or method.projection == PLAIN:
        return None
    _, accuracy = spread.chosen(rule, np.zeros(len(spread.rows), dtype=np.int64), 1)
    if np.isnan(accuracy).all():
        return None
    return {"ranks": spread.ranks, "accuracy": tenths(accuracy[:, 0, :])}


def _behind(found: Sequence[Metrics], metrics: Sequence[Metric]) -> list[Plain]:
    known = [metric for metric in metrics if any(one.of(metric) is not None for one in found)]
    return [
        {
            "method": one.method.label,
            "means": {metric.title: rounded(one.of(metric)) for metric in known},
            "accuracy": rounded(one.of(ACCURACY)),
            "source": rounded(one.source_accuracy),
            "environment": [one.worst_environment, rounded(one.of(WORST_ENVIRONMENT))],
            "class": (worst := one.worst_class) and [worst.name, worst.held_out, rounded(worst.accuracy), worst.n],
            "ece": rounded(one.of(ECE)),
            "ece_scaled": rounded(one.ece_scaled),
            "robustness": one.effective_robustness and rounded(one.effective_robustness.points),
        }
        for one in found
    ]


def _spans(selections: Selections, rule: str) -> list[Plain]:
    """Return what the picks of each method remove; of methods of which that is known."""
    found = []
    for method in selections.parts:
        if method.is_plain or method.imported:
            continue
        shares = {name: points(value) for name, value in picked(selections, method, rule).items()}
        if any(value is not None for value in shares.values()):
            found.append({"method": method.label, **shares})
    return found


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
        score.append(tenths(both[0]))
        accuracy.append(tenths(both[1]))
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


def details_of(
    selections: Selections, predictions: Sequence[MethodPredictions], places: Mapping[str, int] | None = None
) -> Plain | None:
    """Return what was predicted for each image, and how well environments are read; None where neither is known.

    Args:
        selections: the rows of the setting.
        predictions: of each method that has some.
        places: id -> number of the thumbnail of an image; None where the page has no thumbnails.
    """
    number = {method: k for k, method in enumerate(selections.parts)}
    decoded = [{"method": number[method], **_decoded(lines)} for method, lines in read_of(selections).items()]
    if not predictions and not decoded:
        return None
    known = [(number[one.method], one.table) for one in predictions]
    return {"predictions": _predictions(selections, known, places) if known else None, "decoded": decoded}


def _predictions(
    selections: Selections,
    known: Sequence[tuple[int, pd.DataFrame]],
    places: Mapping[str, int] | None,
) -> Plain:
    """Return images, what was asked of them under which seed, and for each rule and method what was answered."""
    environments = selections.held_outs
    names = [str(name) for name in selections.rows["classes"].iloc[0]]
    place, number_of = ({name: k for k, name in enumerate(some)} for some in (environments, names))
    columns = ["held_out", "image_id", "path", "seed", "class", "rule", "predicted"]
    frames = {number: table[columns] for number, table in known}
    every = pd.concat(frames.values(), keys=frames.keys(), names=["method", None]).reset_index("method")
    every = every[every["held_out"].isin(environments)].astype({"held_out": str, "image_id": str, "class": str})
    asked = every[["held_out", "image_id", "seed"]].drop_duplicates().sort_values(["held_out", "image_id", "seed"])
    images = every[["held_out", "image_id", "path", "class"]].drop_duplicates(["held_out", "image_id"])
    images = images.sort_values(["held_out", "image_id"])
    at, at_image = pd.MultiIndex.from_frame(asked), pd.MultiIndex.from_frame(images[["held_out", "image_id"]])
    answers: dict[str, dict[str, list[int]]] = {}
    for (rule, number), part in every.groupby(["rule", "method"], sort=True, observed=True):
        values = np.full(len(asked), -1, dtype=np.int64)
        values[at.get_indexer(pd.MultiIndex.from_frame(part[["held_out", "image_id", "seed"]]))] = part[
            "predicted"
        ].map(number_of)
        answers.setdefault(str(rule), {})[str(number)] = values.tolist()
    thumbs = {} if places is None else {"thumbs": [places.get(name, -1) for name in images["image_id"]]}
    return {
        "names": _names(images["image_id"].tolist(), images["path"].tolist()),
        **thumbs,
        "environment": [place[name] for name in images["held_out"]],
        "class": [number_of[name] for name in images["class"]],
        "asked": at_image.get_indexer(pd.MultiIndex.from_frame(asked[["held_out", "image_id"]])).tolist(),
        "answers": answers,
    }


def _names(ids: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return what images are called: their paths, where these are known, else the first letters of their ids."""
    letters = SHORTEST
    while len({name[:letters] for name in ids}) < len(set(ids)):
        letters += 1
    return [path or name[:letters] for name, path in zip(ids, paths, strict=True)]


def _decoded(lines: Sequence[tuple[float, float, float, int]]) -> Plain:
    """Return how well environments are read before and after, mean over what is held out, in percent."""
    means = {name: points(float(np.mean([one[k] for one in lines])), 1) for k, name in enumerate(_READ)}
    return {**means, "ranks": sorted({one[3] for one in lines})}
