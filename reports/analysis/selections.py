"""`Selections`: the rows of one setting, and the configurations that selection rules pick, with their test results.

A test is one held-out environment, seed and fold. A pick is the row and rank that a rule selects for a test, among the
rows of one method. A harmonic row combines a base-class row and a new-class row by the harmonic mean of accuracies.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce, wraps
from inspect import signature
from operator import add
from statistics import fmean
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.method.evaluation.answers import Answered, Estimate, Key, MethodAnswers, Pooled, together
from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, Answers, Metric
from benchmark.method.evaluation.selection import KEY, RULES, SETTING, SOURCE_RULES, Picks, Rows, Rule, select
from benchmark.method.evaluation.tested import Tested
from reports.analysis.methods import ALONE, PLAIN, REPLACED, Method, by_method
from reports.analysis.settings import Setting, grouped

P = ParamSpec("P")
T = TypeVar("T")
_PICKED = (*KEY, "kept_plain", "rank", "score", "training_domain", *SETTING)

# Columns that identify a row. A harmonic row differs from its base-class and its new-class row only in the last one.
ROW_KEY = ("trial_id", *KEY, "test_split", "lambda_", "projection_params", "predictor_params", "class_half")
_KEPT = ("tested", "images", "predicted_ranks", "predicted", "margins", "n_test")
_HALVES = {"harmonic": ("base", "new")}
_ALL_BUT_N = [*KEY, "lambda_", "intervention_set", "normalize", "predictor_params"]  # settings of shrinkage except N


_key = cache(lambda held_out, seed: (str(held_out), int(seed)))  # equal keys share one object
ImagesOf = Callable[[str], pa.Table | None]  # hash of an image list -> the list, see `benchmark.store.tested`
Columns = Mapping[str, NDArray[np.object_]]
COLUMNS = (
    "image_id", "path", "environment", "class", "group", "held_out", "half", "seed", "fold", "method", "predictor",
    "rule", "predicted", "margin",
)  # fmt: skip
# Method -> table with `COLUMNS`, one row for each test image of each pick.
Predictions = Mapping[Method, pd.DataFrame]


def rule_for(rows: pd.DataFrame) -> str:
    """Return the rule of verdicts: `lodo_1se` if every test has a lodo accuracy, else `training_domain_1se`.

    It is `lodo` or `training_domain` if rows lack standard errors (older versions) or plain prediction.
    """
    score = "lodo" if _everywhere(rows, "lodo") else "training_domain"
    compares = _everywhere(rows, f"{score}_se") and (rows["projection"] == PLAIN).any()
    return f"{score}_1se" if compares else score


def _everywhere(rows: pd.DataFrame, name: str) -> bool:
    """Return whether every test (held-out, seed and fold) has a row with a list in the column `name`."""
    known = rows[name].map(lambda curve: isinstance(curve, Sequence)) if name in rows else pd.Series([False])
    return bool(known.all() or (name in rows and known.groupby([rows[key] for key in KEY], dropna=False).any().all()))


def memoized(made: Callable[Concatenate["Selections", P], T]) -> Callable[Concatenate["Selections", P], T]:
    """Cache the results of a function in its first argument, a `Selections`, by the values of its other arguments."""
    others = [*signature(made).parameters.values()][1:]

    @wraps(made)
    def wrapper(selections: "Selections", /, *args: P.args, **named: P.kwargs) -> T:
        key = (made, *args, *(named.get(one.name, one.default) for one in others[len(args) :]))
        if key not in selections.cache:
            selections.cache[key] = made(selections, *args, **named)
        found: T = selections.cache[key]
        return found

    return wrapper


@dataclass(frozen=True)
class Kept:
    """Stored predictions of one row at one rank.

    Attributes:
        half: class half of the images: "all", "base" or "new".
        tested: hash of the test images.
        images: hash of the image list to which the positions of the test images refer.
        classes: index of the predicted class of each image, shape (m,).
        margins: best score minus second best, shape (m,); NaN if unknown.
    """

    half: str
    tested: str
    images: str | None
    classes: NDArray[np.uint16]
    margins: NDArray[np.float32]


class Predicted:
    """Lookup of the stored predictions of a result row; a harmonic row gets the predictions of both class halves."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows

    @cached_property
    def _known(self) -> dict[tuple[object, ...], dict[str, Any]]:
        if "predicted" not in self._rows.columns:
            return {}
        kept = self._rows.loc[self._rows["predicted"].notna(), [*ROW_KEY, *_KEPT]].to_dict("records")
        return {_name(row, row["class_half"]): {str(k): v for k, v in row.items()} for row in kept}

    def of(self, row: Mapping[str, Any], rank: int) -> Iterator[Kept]:
        """Yield the predictions of a row at a rank, base classes first. Only ranks picked by source rules have any."""
        for half in _HALVES.get(row["class_half"], (row["class_half"],)):
            own = self._known.get(_name(row, half))
            if own is not None and rank in own["predicted_ranks"]:
                at, n = list(own["predicted_ranks"]).index(rank), int(own["n_test"])
                classes, margins = np.frombuffer(own["predicted"], "<u2", n, 2 * at * n), np.full(n, np.nan, np.float32)
                if isinstance(own["margins"], bytes):
                    margins = np.frombuffer(own["margins"], "<f4", n, 4 * at * n)
                yield Kept(half, own["tested"], own["images"], classes, margins)


def _name(row: Mapping[Any, Any], half: str) -> tuple[object, ...]:
    """Return the key that identifies a row, with None in place of NaN."""
    values = (row[name] for name in ROW_KEY[:-1])
    return (*(None if value != value else value for value in values), half)


class Selections:
    """The rows of one setting, grouped by method. The picks of each selection rule are cached.

    Attributes:
        parts: method -> rows of the method, without single draws of placebos, which have no table line.
        held_outs: held-out environments sorted as strings (as DomainBed sorts folders).
        seeds: seeds, ascending.
        grouped: whether images come in groups.
        draws: placebo averaged over draws -> its single draws as methods, in table order.
        rule: selection rule of verdicts, see `rule_for`.
        rules: selection rules for which some row has scores.
        curves: rows of fits on shares of the source images, for learning curves. They are in no other attribute, unless
            there are no other rows.
        compared: methods that can be compared: the keys of `parts`, and shrinkage in its variant `REPLACED`.
        folds: number of folds per test, 0 or 1 without folds.
        n_classes: number of classes.
        n_base: number of base classes for harmonic means of base and new classes; None otherwise.

    Args:
        rows: rows of `benchmark.store.rows.schema` of one setting, at least one.
        tested: hash in the column `tested` of the rows -> test images.
        predicted: stored predictions of all rows of the report; by default only of `rows`.
        metrics: metrics shown in tables; by default the built-in ones.
        metric: metric of the data set; by default accuracy.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        tested: Mapping[str, Tested],
        predicted: Predicted | None = None,
        metrics: Sequence[Metric] = BUILT_IN,
        metric: Metric = ACCURACY,
    ) -> None:
        on_shares = rows["train_share"].notna()
        self.curves, rows = rows[on_shares], rows if on_shares.all() else rows[~on_shares]
        self.rows, self.tested, self.metrics, self.metric = rows, tested, metrics, metric
        self._predicted = predicted or Predicted(rows)
        self.cache: dict[Hashable, Any] = {}
        every = by_method(rows)
        self.parts = {method: part for method, part in every.items() if method.draw is None}
        replaced = {}
        for method in (m for m in self.parts if m.is_shrinkage):
            if (alone := replace(method, projection_variant=ALONE[0])) in self.parts:
                replaced[replace(method, projection_variant=REPLACED)] = self.parts[alone]
        self.compared, self._every = (*self.parts, *replaced), every | replaced
        together = grouped((m for m in every if m.draw is not None), lambda m: replace(m, draw=None))
        self.draws = {replace(method, draws=len(draws)): draws for method, draws in together.items()}
        self.rule, self.rules = rule_for(rows), tuple(rule for rule in RULES.values() if self._has_scores(rule))
        self.held_outs = sorted(str(name) for name in rows["held_out"].unique())
        self.seeds = sorted(int(seed) for seed in rows["seed"].unique())
        first = rows.iloc[0]
        self.grouped, self.folds, self.n_classes = bool(first["grouped"]), int(first["folds"]), int(first["n_classes"])
        self.n_base = int(first["n_base"]) if first["class_half"] == "harmonic" else None

    def _has_scores(self, rule: Rule) -> bool:
        names = (rule.score, f"{rule.score}_se") if rule.one_se else (rule.score,)
        known = ((isinstance(one, list) and not np.isnan(one).all() for one in self.rows[name]) for name in names)
        return all(map(any, known))

    def judged_by(self, rule: str) -> "Selections":
        """Return a copy with another rule for verdicts, which shares the cache of picks."""
        other = copy(self)
        other.rule = rule
        return other

    @property
    def base_rule(self) -> str:
        """Selection rule for comparisons between methods: `rule` without its preference for plain prediction."""
        return RULES[self.rule].base

    def plain_of(self, predictor: str) -> Method | None:
        """Return plain prediction with a predictor; None without rows."""
        return next((m for m in self.parts if m.is_plain and m.predictor == predictor), None)

    def by_set(self, method: Method) -> dict[str, pd.DataFrame]:
        """Split a method's rows, including all shares of the pairs, by the name of the intervention set."""
        rows = pd.concat(rows for m, rows in self.parts.items() if not m.placebo and m.with_all_pairs == method)
        return {str(name): part for name, part in rows.groupby("intervention_set", sort=False)}

    @memoized
    def picks(self, method: Method, rule: str, rank: int | None = None) -> Picks:
        """Return the rule's picks for a method (`selection.select`): one for each held-out environment, seed and fold.

        The column `position` is an index into the method's candidate rows, followed by the rows of plain prediction,
        to which a one-standard-error rule may fall back. `chosen_rows` looks up the rows.
        """
        return select(self._candidates(method, rule), rule, self.tested, rank)

    def _candidates(self, method: Method, rule: str) -> Rows:
        """Return the rows among which a rule chooses for a method."""
        if method.projection_variant != REPLACED:
            return self._rows(method)
        # These rows differ from the rule's picks for shrinkage only in the nuisance N.
        rows, chosen = self._every[method], self.picks(replace(method, projection_variant=None), rule)
        known, wanted = (pd.MultiIndex.from_frame(one[_ALL_BUT_N]) for one in (rows, chosen.frame()))
        plain = self.plain_of(method.predictor)
        return Rows(rows[known.isin(wanted)], None if plain is None else self._every[plain])

    @memoized
    def _rows(self, method: Method) -> Rows:
        plain = self.plain_of(method.predictor)
        return Rows(self._every[method], None if plain is None else self._every[plain])

    @memoized
    def pooled(self, method: Method, rule: str, rank: int | None = None) -> Answered:
        """Return which test images are classified correctly at the picks, for each (held_out, seed).

        The folds of a held-out environment and seed are joined; if a fold is missing, there is no entry.
        """
        picks, pooled = self.picks(method, rule, rank), {}
        for key, folds in by_test(picks, picks["correct"], picks["tested"]).items():
            if len(folds) == max(1, self.folds):
                parts, names = zip(*folds, strict=True)
                pooled[key] = Pooled(parts[0] if len(parts) == 1 else np.concatenate(parts), self._together(names))
        return Answered(pooled, self.n_classes, self.n_base)

    @memoized
    def _together(self, names: tuple[str, ...]) -> Tested:
        """Return the test images of several folds; cached, since the hash of the result is costly."""
        return reduce(add, (self.tested[name] for name in names))

    @memoized
    def measure(self, method: Method, rule: str, metric: Metric) -> dict[Key, float]:
        """Return a metric over all folds for each (held_out, seed); NaN if rows lack the data that the metric needs.

        Rows store predictions and metrics of scores only for the picks of source rules. For harmonic rows the values
        of base and new classes are combined.
        """
        if metric.needs == "correct":
            return self.pooled(method, rule).measure(metric)
        if metric.needs == "predictions":
            known, pooled = self.predicted(method, rule), self.pooled(method, rule)
            found = {
                key: self.computed(metric, pooled[key].tested.label, pooled[key].correct, known[key]) for key in known
            }
            return {key: found.get(key, np.nan) for key in pooled}
        picks = self.picks(method, rule)
        name = metric.key
        values = [one.get(name, math.nan) for one in picks["scored"].tolist()]
        folds = by_test(picks, values, picks["n_test"].tolist())  # weighted by number of images
        return {key: math.fsum(value * n for value, n in one) / sum(n for _, n in one) for key, one in folds.items()}

    def kept(self, method: Method, rule: str) -> list[list[Kept]]:
        """Return a list for each pick with its stored predictions, one for each class half; empty without any."""
        picks, rows = self.picks(method, rule), self._candidates(method, rule)
        if RULES[rule].looks_at_target:  # cross-fitted rules pick differently for each half of the images
            return [[] for _ in range(len(picks))]
        named = zip(*(rows.at(name, picks["position"].astype(np.int64)) for name in ROW_KEY), strict=True)
        ranked = zip(picks["rank"].tolist(), named, strict=True)
        return [list(self._predicted.of(dict(zip(ROW_KEY, row, strict=True)), rank)) for rank, row in ranked]

    def predicted(self, method: Method, rule: str) -> dict[Key, NDArray[np.int64]]:
        """Return the predicted class of each image of `pooled` for each (held_out, seed) with stored predictions."""
        picks, halves = self.picks(method, rule), 1 if self.n_base is None else 2
        folds = by_test(picks, self.kept(method, rule))
        return {
            key: np.concatenate([one.classes for (kept,) in folds[key] for one in kept]).astype(np.int64)
            for key in self.pooled(method, rule)
            if all(len(kept) == halves for (kept,) in folds[key])
        }

    def computed(
        self, metric: Metric, label: NDArray[np.int64], correct: NDArray[np.bool_], predicted: NDArray[np.int64]
    ) -> float:
        """Return a metric on the given images. For harmonic rows, combine its values on base and new classes."""
        if self.n_base is None:
            return float(metric.compute(Answers(correct, label, self.n_classes, predicted)))
        halves = [label < self.n_base, label >= self.n_base]
        each = [metric.compute(Answers(correct[w], label[w], self.n_classes, predicted[w])) for w in halves]
        return float(metric.combine(*each))

    def folds_present(self, method: Method, held_out: str | None = None) -> tuple[int, int] | None:
        """Return two numbers for the most complete seed: folds with rows, and all folds. None if it has all folds."""
        rows = self._every[method]
        rows = rows if held_out is None else rows[rows["held_out"] == held_out]
        most = rows.groupby(["held_out", "seed"])["fold"].nunique().max()
        return (int(most), self.folds) if most < self.folds else None

    @memoized
    def plain_picks(self, method: Method, rule: str, held_out: str | None = None) -> tuple[int, int]:
        """Return (k, n): k of n picks of a method equal plain prediction, see `Method.is_plain_at`.

        The picks are those of one held-out environment, or (default) all.
        """
        picks, dim = self.picks(method, rule), int(self._every[method]["dim"].iloc[0])
        picks = picks if held_out is None else picks.where(picks["held_out"] == held_out)
        points = zip(*(picks[name].tolist() for name in ("kept_plain", "rank", "lambda_")), strict=True)
        return sum(kept or method.is_plain_at(rank, lambda_, dim) for kept, rank, lambda_ in points), len(picks)

    def is_complete(self, method: Method, rule: str) -> bool:
        """Return whether some seed has results of the method on all held-out environments."""
        keys = self.pooled(method, rule).keys()
        return any(all((name, seed) in keys for name in self.held_outs) for seed in {seed for _, seed in keys})

    def chosen_rows(self, method: Method, rule: str, columns: Sequence[str], rank: int | None = None) -> Picks:
        """Return the given columns of the picked rows, with one entry for each held-out environment, seed and fold."""
        positions = self.picks(method, rule, rank)["position"].astype(np.int64)
        candidates = self._candidates(method, rule)
        return Picks({name: candidates.values(name)[positions] for name in columns})


SettingResults: TypeAlias = tuple[Setting, Selections]  # a setting and its rows


def by_test(picks: Picks, *values: Iterable[Any]) -> dict[Key, list[tuple[Any, ...]]]:
    """Return a list for each (held_out, seed), with a tuple for each fold: one entry from each of `values`.

    Each of `values` has one entry for each pick, in the order of `picks`.
    """
    found: dict[Key, list[tuple[Any, ...]]] = {}
    keys = map(_key, picks["held_out"].tolist(), picks["seed"].tolist())
    for key, *of_fold in zip(keys, *values, strict=True):
        found.setdefault(key, []).append(tuple(of_fold))
    return found


def mean_over_tests(picks: Picks, column: str, weight: str | None = None) -> float:
    """Return the mean of a column of picks over folds, then seeds, then held-out environments; NaN if a value is NaN.

    Folds are weighted by the column `weight`; by default equally.
    """
    values = picks[column].astype(np.float64)
    if not len(values):
        return math.nan
    weights = picks[weight].astype(np.float64) if weight else np.ones(len(values))
    environments: dict[object, int] = {}
    cells: dict[tuple[object, object], int] = {}
    tests = [*zip(picks["held_out"].tolist(), picks["seed"].tolist(), strict=True)]
    place = np.array([cells.setdefault(test, len(cells)) for test in tests])
    of = np.array([environments.setdefault(name, len(environments)) for name, _ in cells])
    means = np.bincount(place, values * weights) / np.bincount(place, weights)
    return float(np.mean(np.bincount(of, means) / np.bincount(of)))


def complete_estimate(
    selections: Selections, answers: Answered, minus: Answered | None = None, metric: Metric = ACCURACY
) -> Estimate | None:
    """Return `answers.estimate(minus)` over seeds with all held-out environments; None if there is no such seed."""
    estimate = answers.estimate(minus, metric=metric)
    names = tuple(selections.held_outs)
    return estimate if estimate is not None and estimate.held_outs == names else None


def complete_answers(selections: Selections, methods: Sequence[tuple[Method, str]]) -> MethodAnswers | None:
    """Return the answers of (method, rule) pairs on seeds with all held-out environments; None if no seed has all."""
    answers = together([selections.pooled(method, rule) for method, rule in methods])
    names = tuple(selections.held_outs)
    return answers if answers is not None and answers.held_outs == names else None


def has_choice(rows: pd.DataFrame) -> bool:
    """Return whether the rows of one method leave a rule more than one configuration to choose from."""
    return any(len(ranks) > 1 for ranks in rows["ranks"]) or bool(rows.duplicated(list(KEY)).any())


def pick_records(selections: Selections) -> Iterator[dict[str, object]]:
    """Yield a record of tables/picks.csv for each rule, test, and method that leaves the rule a choice."""
    for method, part in selections.parts.items():
        if not has_choice(part):
            continue
        for rule in selections.rules:
            picks = selections.picks(method, rule.name)
            named = {"method": method.label, "rule": rule.name, "looks_at_target": rule.looks_at_target}
            columns = [[None if value != value else value for value in picks[name].tolist()] for name in _PICKED]
            for pick in zip(*columns, strict=True):
                yield {**named, **dict(zip(_PICKED, pick, strict=True))}


def predictions_of(selections: Selections, images_of: ImagesOf) -> Predictions:
    """Return the predictions of each method of a setting under the source rules.

    `class` and `predicted` are class names. `margin` is the best score minus the second best, NaN if unknown. Methods
    are in table order; methods without stored predictions are left out.
    """

    @cache
    def columns_of(hash_: str) -> Columns | None:
        if (images := images_of(hash_)) is None:
            return None
        return {name: images[name].to_numpy(zero_copy_only=False) for name in ("image_id", "path", "group")}

    classes, predictions = np.array(selections.rows["classes"].iloc[0], dtype=object), {}
    for method in selections.parts:
        parts: list[dict[str, Any]] = []  # columns of each pick: an array by image, or one value for all images
        for rule in SOURCE_RULES:
            picks = selections.picks(method, rule)
            keys = (picks[name].tolist() for name in KEY)
            places = zip(*keys, selections.kept(method, rule), strict=True)
            every = ((*key, one) for *key, of_pick in places for one in of_pick)
            for held_out, seed, fold, kept in every:
                tested, known = selections.tested[kept.tested], columns_of(kept.images) if kept.images else None
                named = known and {name: values[tested.position] for name, values in known.items()}
                parts.append({
                    **(named or {"image_id": tested.position.astype(str).astype(object), "path": "", "group": None}),
                    "environment": np.array(tested.names, dtype=object)[tested.environment],
                    "class": classes[tested.label],
                    "held_out": str(held_out),
                    "half": kept.half,
                    "seed": int(seed),
                    "fold": int(fold),
                    "method": method.label,
                    "predictor": method.predictor,
                    "rule": rule,
                    "predicted": classes[kept.classes],
                    "margin": kept.margins,
                })  # fmt: skip
        if parts:
            sizes = [len(part["class"]) for part in parts]
            values = {name: [part[name] for part in parts] for name in COLUMNS}
            predictions[method] = pd.DataFrame({name: _repeated(of, sizes) for name, of in values.items()})
    return predictions


def _repeated(values: Sequence[Any], sizes: Sequence[int]) -> NDArray[Any]:
    """Return the concatenation of parts; scalar values are repeated to the size of their part."""
    if any(isinstance(value, np.ndarray) for value in values):
        return np.concatenate([np.broadcast_to(value, n) for value, n in zip(values, sizes, strict=True)])
    return np.repeat(np.array(values), sizes)


def read_of(selections: Selections) -> dict[Method, list[float]]:
    """Return three numbers for each method: decodability of the environment before and after its projection, chance.

    The numbers are balanced accuracies in percent, averaged over the picks of the setting's rule that have them.
    """
    found, columns = {}, ("read_ranks", "read_before", "read_after", "read_chance")
    for method in selections.parts:
        picks = selections.picks(method, selections.rule)["rank"].tolist()
        rows = selections.chosen_rows(method, selections.rule, columns)
        of_picks = [
            (before, after[list(ranks).index(rank)], chance)
            for rank, ranks, before, after, chance in zip(picks, *(rows[name] for name in columns), strict=True)
            if isinstance(ranks, list) and rank in ranks
        ]
        if of_picks:
            found[method] = [100 * fmean(of) for of in zip(*of_picks, strict=True)]
    return found
