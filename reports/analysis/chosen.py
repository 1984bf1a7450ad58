"""What a selection rule chose: whole result rows for the figures, hyper-parameters for the report."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, reduce
from itertools import groupby
from math import fsum
from operator import add, itemgetter
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import ACCURACY, BUILT_IN, Answers, Metric
from benchmark.method.evaluation.selection import KEY, RULES, Rows, Rule, select
from benchmark.method.evaluation.tested import Tested
from reports.analysis.answers import Answered, Key, Pooled
from reports.analysis.methods import ALONE, PLAIN, REPLACED, Method, by_method
from reports.analysis.predicted import OF_ROW, Kept, Predicted

T = TypeVar("T")
_PICKED = (
    *KEY, "kept_plain", "rank", "score", "training_domain", "lambda_", "intervention_set", "normalize",
    "predictor_params", "projection_params",
)  # fmt: skip


def rule_for(rows: pd.DataFrame) -> str:
    """Return `lodo_1se` if there is a lodo accuracy wherever something was tested, else `training_domain_1se`.

    Never the oracle. Where rows have no standard errors, as those of before, and where none are of plain prediction, it
    is `lodo` or `training_domain`.
    """
    score = "lodo" if _everywhere(rows, "lodo") else "training_domain"
    compares = _everywhere(rows, f"{score}_se") and (rows["projection"] == PLAIN).any()
    return f"{score}_1se" if compares else score


def _everywhere(rows: pd.DataFrame, name: str) -> bool:
    """Say whether some row has a list in a column wherever something was tested."""
    known = rows[name].map(lambda curve: isinstance(curve, Sequence)) if name in rows else pd.Series([False])
    return bool(known.all() or (name in rows and known.groupby([rows[key] for key in KEY], dropna=False).any().all()))


def _scored(rows: pd.DataFrame, rule: Rule) -> bool:
    names = (rule.score, f"{rule.score}_se") if rule.one_se else (rule.score,)
    return all(any(isinstance(curve, list) and not np.isnan(curve).all() for curve in rows[name]) for name in names)


class Selections:
    """The rows of one setting by method, and what each rule picks among them, selected only once.

    `parts` has the methods that are lines of tables: single draws of a placebo are none, see `draws`.

    Args:
        rows: rows of `benchmark.store.rows.schema` of one setting, at least one.
        tested: hash -> the tested images that rows name by it.
        predicted: the predictions of all rows of the report; by default of `rows` alone.
        metrics: that tables show; by default the built-in ones.
        metric: that of the data set; by default accuracy.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        tested: Mapping[str, Tested],
        predicted: Predicted | None = None,
        metrics: Sequence[Metric] = BUILT_IN,
        metric: Metric = ACCURACY,
    ) -> None:
        self.rows, self.tested, self.metrics, self.metric = rows, tested, metrics, metric
        self._predicted = predicted or Predicted(rows)
        self._every = by_method(rows)
        self.parts = {method: part for method, part in self._every.items() if not method.is_draw}
        self.grouped = bool(rows["grouped"].iloc[0])
        self._once: dict[Hashable, Any] = {}

    def once(self, key: Hashable, made: Callable[[], T]) -> T:
        """Return what is made of these rows, which is made when it is first asked for.

        Args:
            key: what tells it from all else that is made of them.
            made: returns it.
        """
        if key not in self._once:
            self._once[key] = made()
        found: T = self._once[key]
        return found

    @cached_property
    def held_outs(self) -> list[str]:
        """The held-out environments sorted as strings (as DomainBed sorts folders)."""
        return sorted(str(name) for name in self.rows["held_out"].unique())

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return sorted(int(seed) for seed in self.rows["seed"].unique())

    @cached_property
    def rule(self) -> str:
        """By which gains are judged: see `rule_for`."""
        return rule_for(self.rows)

    def judged_by(self, rule: str) -> "Selections":
        """Return the same rows, whose gains are judged by another rule; what was chosen before is shared."""
        other = copy(self)
        other.__dict__.pop("base_rule", None)
        other.rule = rule
        return other

    @cached_property
    def base_rule(self) -> str:
        """By which methods are compared with each other: the rule with the same score that keeps nothing back."""
        return RULES[self.rule].base

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that have what they look at in some row."""
        return tuple(rule for rule in RULES.values() if _scored(self.rows, rule))

    @cached_property
    def compared(self) -> tuple[Method, ...]:
        """The methods that may be compared: those of `parts`, and shrinkage with its chosen N replaced."""
        alone = [m for m in self.parts if m.is_shrinkage and _of_interventions(m) in self.parts]
        return (*self.parts, *(replace(m, projection_variant=REPLACED) for m in alone))

    @cached_property
    def draws(self) -> dict[Method, list[Method]]:
        """What stands for several draws of a placebo -> these draws, in the order of tables."""
        together: dict[Method, list[Method]] = {}
        for method in self._every:
            if method.is_draw:
                together.setdefault(method.mean_of(0), []).append(method)
        return {draws[0].mean_of(len(draws)): draws for draws in together.values()}

    def plain_of(self, predictor: str) -> Method | None:
        """Return plain prediction with a predictor; None where it has no rows."""
        return next((m for m in self.parts if m.is_plain and m.predictor == predictor), None)

    def by_set(self, method: Method) -> dict[str, pd.DataFrame]:
        """Return name of an intervention set -> the rows of a method with it, whatever their share of the pairs."""
        rows = pd.concat(rows for m, rows in self.parts.items() if not m.placebo and m.with_all_pairs == method)
        return {str(name): part for name, part in rows.groupby("intervention_set", sort=False)}

    @cached_property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.rows["n_classes"].iloc[0])

    @cached_property
    def n_base(self) -> int | None:
        """Number of base classes where base and new ones are taken together; None elsewhere."""
        first = self.rows.iloc[0]
        return int(first["n_base"]) if first["class_half"] == "harmonic" else None

    def picks(self, method: Method, rule: str, rank: int | None = None) -> pd.DataFrame:
        """Return `selection.select` of a method's rows: a line for each held-out environment, seed and fold.

        Positions are among its own rows, of REPLACED among those that are left of them, and then among those of plain
        prediction, which a one-standard-error rule may keep: `chosen_rows` looks them up.
        """
        return self.once(
            ("picks", method, rule, rank), lambda: select(self._candidates(method, rule), rule, self.tested, rank)
        )

    def _candidates(self, method: Method, rule: str) -> Rows:
        if method.projection_variant == REPLACED:
            return Rows(self._replaced(method, rule), self._plain_rows(method))
        return self.once(("candidates", method), lambda: Rows(self._rows(method), self._plain_rows(method)))

    def _plain_rows(self, method: Method) -> pd.DataFrame | None:
        plain = self.plain_of(method.predictor)
        return None if plain is None else self._every[plain]

    def pooled(self, method: Method, rule: str, rank: int | None = None) -> Answered:
        """Return the answers to what is held out under a seed, where every fold has some; arguments as of `picks`."""
        return self.once(("pooled", method, rule, rank), lambda: self._folds_together(self.picks(method, rule, rank)))

    def _folds_together(self, picked: pd.DataFrame) -> Answered:
        folds = max(1, int(self.rows["folds"].iloc[0]))
        keys = [(str(name), int(seed)) for name, seed in zip(picked["held_out"], picked["seed"], strict=True)]
        answers = list(zip(picked["correct"].tolist(), picked["tested"].tolist(), strict=True))
        if folds == 1:
            of_one = zip(keys, answers, strict=True)
            return self.answered({key: Pooled(correct, self.tested[name]) for key, (correct, name) in of_one})
        by_test = [(key, [answers[i] for i, _ in same]) for key, same in groupby(enumerate(keys), key=itemgetter(1))]
        found = {key: self._together(of_folds) for key, of_folds in by_test if len(of_folds) == folds}
        return self.answered(found)

    def measure(self, method: Method, rule: str, metric: Metric) -> dict[Key, float]:
        """Return a metric on what is held out under a seed, all folds together; NaN where rows lack what it needs.

        Rows keep predictions and metrics of scores at what rules of the sources pick.
        """
        if metric.needs == "correct":
            return self.pooled(method, rule).measure(metric)
        made = self._of_predictions if metric.needs == "predictions" else self._of_scores
        return self.once(("measure", method, rule, metric), lambda: made(method, rule, metric))

    def _of_scores(self, method: Method, rule: str, metric: Metric) -> dict[Key, float]:
        """Return a metric of scores; folds weigh as much as they have images."""
        sums: dict[Key, list[tuple[float, int]]] = {}
        picks = (self.picks(method, rule)[name] for name in ("held_out", "seed", "scored", "n_test"))
        for held_out, seed, scored, n in zip(*picks, strict=True):
            sums.setdefault((str(held_out), int(seed)), []).append((scored.get(metric.key, np.nan) * n, n))
        return {key: fsum(v for v, _ in folds) / sum(n for _, n in folds) for key, folds in sums.items()}

    def kept(self, method: Method, rule: str) -> list[list[Kept]]:
        """Return the predictions of each pick, none where rows keep none; of harmonic rows those of each half."""
        picks, rows = self.picks(method, rule), self._candidates(method, rule)
        if RULES[rule].looks_at_target:  # it may choose one half of the images by the other
            return [[] for _ in range(len(picks))]
        named = zip(*(rows.at(name, picks["position"].to_numpy(dtype=np.int64)) for name in OF_ROW), strict=True)
        ranked = zip(picks["rank"].tolist(), named, strict=True)
        return [list(self._predicted.of(dict(zip(OF_ROW, row, strict=True)), rank)) for rank, row in ranked]

    def predicted(self, method: Method, rule: str) -> dict[Key, NDArray[np.int64]]:
        """Return the predicted class of each image of `pooled`, in its order; without what rows keep none of."""
        picks, halves = self.picks(method, rule), 1 if self.n_base is None else 2
        folds: dict[Key, list[list[Kept]]] = {}
        for held_out, seed, kept in zip(picks["held_out"], picks["seed"], self.kept(method, rule), strict=True):
            folds.setdefault((str(held_out), int(seed)), []).append(kept)
        return {
            key: np.concatenate([one.classes for kept in folds[key] for one in kept]).astype(np.int64)
            for key in self.pooled(method, rule)
            if all(len(kept) == halves for kept in folds[key])
        }

    def _of_predictions(self, method: Method, rule: str, metric: Metric) -> dict[Key, float]:
        """Return a metric of predictions; of base and new classes what stands for both."""
        known = self.predicted(method, rule)
        return {
            key: self.computed(metric, one.tested.label, one.correct, known[key]) if key in known else np.nan
            for key, one in self.pooled(method, rule).items()
        }

    def computed(
        self, metric: Metric, label: NDArray[np.int64], correct: NDArray[np.bool_], predicted: NDArray[np.int64]
    ) -> float:
        """Return a metric of correctness or predictions on some images, of base and new ones what stands for both.

        Args:
            metric: the metric.
            label: class of each image, shape (m,).
            correct: whether it is answered correctly, shape (m,).
            predicted: its predicted class, at which a metric of correctness does not look, shape (m,).
        """
        if self.n_base is None:
            return float(metric.compute(Answers(correct, label, self.n_classes, predicted)))
        halves = [label < self.n_base, label >= self.n_base]
        each = [metric.compute(Answers(correct[w], label[w], self.n_classes, predicted[w])) for w in halves]
        return float(metric.combine(*each))

    def folds_there(self, method: Method, held_out: str | None = None) -> tuple[int, int] | None:
        """Return (folds with rows, all folds) of the seed with most of them; None where some seed has them all.

        Args:
            method: whose rows.
            held_out: of what is held out; by default anything.
        """
        rows, folds = self._rows(method), int(self.rows["folds"].iloc[0])
        rows = rows if held_out is None else rows[rows["held_out"] == held_out]
        most = rows.groupby(["held_out", "seed"])["fold"].nunique().max()
        return (int(most), folds) if most < folds else None

    def plain_picks(self, method: Method, rule: str) -> tuple[int, int]:
        """Return (k, n): of the n picks of a rule for a method, k are plain prediction, see `Method.is_plain_at`."""
        picks, dim = self.picks(method, rule), int(self._rows(method)["dim"].iloc[0])
        points = zip(picks["kept_plain"], picks["rank"], picks["lambda_"], strict=True)
        return sum(kept or method.is_plain_at(rank, lambda_, dim) for kept, rank, lambda_ in points), len(picks)

    def is_whole(self, method: Method, rule: str) -> bool:
        """Say whether a method has answers on all that is held out under some seed."""
        keys = self.pooled(method, rule).pooled.keys()
        return any(all((name, seed) in keys for name in self.held_outs) for seed in {seed for _, seed in keys})

    def _replaced(self, method: Method, rule: str) -> pd.DataFrame:
        """Return the rows that differ in N alone from those that a rule picks for shrinkage."""
        chosen, rows = self.picks(replace(method, projection_variant=None), rule), self._rows(method)
        return rows[_settings(rows).isin(_settings(chosen))]

    def _rows(self, method: Method) -> pd.DataFrame:
        """Return the rows among which a method's are."""
        return self._every[_of_interventions(method) if method.projection_variant == REPLACED else method]

    def _together(self, folds: Sequence[tuple[NDArray[np.bool_], str]]) -> Pooled:
        """Return the answers of all folds, each with the name of its tested images."""
        names = tuple(name for _, name in folds)
        # Kept, since what names the images of all folds is computed from all of them.
        tested = self.once(("tested", names), lambda: reduce(add, (self.tested[name] for name in names)))
        return Pooled(np.concatenate([of_fold for of_fold, _ in folds]), tested)

    def answered(self, pooled: Mapping[tuple[str, int], Pooled]) -> Answered:
        """Return answers of a method to images of these rows; keys are what is held out and the seed."""
        return Answered(pooled, self.n_classes, self.n_base)

    def chosen_rows(self, method: Method, rule: str, columns: Sequence[str], rank: int | None = None) -> pd.DataFrame:
        """Return columns of the rows that `picks` names, one for each held-out environment, seed and fold."""
        positions = self.picks(method, rule, rank)["position"].to_numpy(dtype=np.int64)
        candidates = self._candidates(method, rule)
        return pd.DataFrame({name: candidates.values(name)[positions] for name in columns})


def _of_interventions(shrinkage: Method) -> Method:
    return replace(shrinkage, projection_variant=ALONE[0])


def _settings(rows: pd.DataFrame) -> pd.MultiIndex:
    """Return what rows are for, and all that was chosen for shrinkage but N."""
    return pd.MultiIndex.from_frame(rows[[*KEY, "lambda_", "intervention_set", "normalize", "predictor_params"]])


def has_choice(rows: pd.DataFrame) -> bool:
    """Say whether a rule has anything to choose among the rows of one method."""
    several_rows = rows.groupby(list(KEY)).size().max() > 1
    return bool(several_rows or any(len(ranks) > 1 for ranks in rows["ranks"]))


def pick_records(selections: Selections) -> Iterator[dict[str, object]]:
    """Yield what each rule chose for each method with a choice, for each held-out environment, seed and fold."""
    for method, part in selections.parts.items():
        if not has_choice(part):
            continue
        for rule in selections.rules:
            picks = selections.picks(method, rule.name)
            named = {"method": method.label, "rule": rule.name, "looks_at_target": rule.looks_at_target}
            for pick in zip(*(_known(picks[name]) for name in _PICKED), strict=True):
                yield {**named, **dict(zip(_PICKED, pick, strict=True))}


def _known(column: "pd.Series[Any]") -> list[object]:
    """Return the values of a column, None for NaN."""
    values: list[object] = column.tolist()
    return [None if value != value else value for value in values]
