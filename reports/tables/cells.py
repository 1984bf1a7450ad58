"""Functions that make the cells of tables: accuracies and differences with intervals and sample sizes.

Numbers are in percent or points, on one data set or averaged over K data sets with equal weights. The variance of an
average is the sum of the K variances, divided by K^2.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from benchmark.common.terminal.progress import Progress
from benchmark.method.evaluation.answers import Answered, Estimate
from benchmark.method.evaluation.inference import Interval, pooled_interval, seeds_standard_error
from benchmark.method.evaluation.metrics import Metric
from benchmark.method.evaluation.selection import RULES, Picks
from reports.analysis.methods import Method, plain_for
from reports.analysis.metrics import four
from reports.analysis.selections import Selections, SettingResults, complete_estimate, mean_over_tests, memoized
from reports.analysis.settings import Options, named
from reports.render.table import Cell

AVERAGE = "average"
_LABELS = ("labels_fit", "labels_choice")


def cell_of(parts: Sequence[Estimate], options: Options, **more: object) -> Cell:
    """Return the cell of an accuracy, or of a difference of two methods, averaged over data sets."""
    signed = len(parts[0].accuracies) > 1  # a difference of two methods
    whole = pooled_interval([estimate.interval for estimate in parts])
    of_seeds: list[float] = []  # a mean over data sets for each seed; empty if the seeds of data sets differ
    if len({estimate.seeds for estimate in parts}) == 1:
        accuracies = [estimate.accuracies.mean(axis=2) for estimate in parts]
        of_seeds = np.mean([one[0] - one[1] if signed else one[0] for one in accuracies], axis=0).tolist()
    error: float | None = whole.plus_minus
    if options.plus_minus == "seeds":
        error = seeds_standard_error(of_seeds) if len(of_seeds) > 1 else None
        error = error if error and error > 0 else None
    low, high = _ends(whole, 0.0 if not signed else -1.0)
    cell = Cell(
        value=100 * whole.estimate,
        low=low,
        high=high,
        error=None if error is None else 100 * error,
        spread=100 * float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else None,
        n_images=sum(estimate.size.images_per_seed for estimate in parts),
        n_clusters=sum(estimate.size.units_per_seed for estimate in parts),
        seeds=tuple(sorted({seed for estimate in parts for seed in estimate.seeds})),
        signed=signed,
    )
    return replace(cell, **more)  # type: ignore[arg-type]


def points(interval: Interval, **more: object) -> Cell:
    """Return the cell of a difference of accuracies (fractions) with its interval."""
    low, high = _ends(interval, -1.0)
    error = interval.plus_minus
    cell = Cell(100 * interval.estimate, low, high, None if error is None else 100 * error, signed=True)
    return replace(cell, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Number:
    """A cell and the estimate that it shows; the estimate of an empty cell is None."""

    cell: Cell
    estimate: Estimate | None = None

    def of(self, bound: bool = False, equals_plain: bool = False) -> "Number":
        """Return a copy whose cell is marked as a bound or as equal to plain prediction."""
        return replace(self, cell=replace(self.cell, bound=bound, equals_plain=equals_plain))


@memoized
def accuracy(
    selections: Selections, method: Method, rule: str, options: Options, held_out: str | None = None
) -> Number:
    """Return the accuracy of a method on one environment, or (default) averaged over all held-out environments.

    Only seeds with all held-out environments enter the average. The note of an empty cell says why it is empty.
    """
    if method not in selections.parts:
        return Number(Cell(note="no result rows of this method"))
    pooled = selections.pooled(method, rule)
    estimate = pooled.estimate(held_out=held_out) if held_out else complete_estimate(selections, pooled)
    if estimate is None:
        return Number(Cell(note=_gap(selections, method, rule, held_out)))
    seeds, expected = len(estimate.seeds), len(selections.seeds)
    note = f"{seeds} of {expected} seeds" if seeds < expected else None
    trials = trials_of(selections, method, rule, held_out)
    return Number(cell_of([estimate], options, folds=selections.folds, trials=trials, note=note), estimate)


def gain(selections: Selections, method: Method, rule: str, options: Options) -> Number:
    """Return the accuracy of a method minus plain prediction's on the same images, averaged over environments."""
    plain = plain_for(method, selections.parts)
    if method == plain:
        return Number(Cell(note="plain prediction itself"))
    if plain is None or method not in selections.parts:
        return Number(Cell(note=f"no result rows of {'plain prediction' if plain is None else 'this method'}"))
    trials = trials_of(selections, method, rule)
    return minus(selections, selections.pooled(method, rule), plain, rule, options, trials)


def minus(
    selections: Selections, ours: Answered, baseline: Method, rule: str, options: Options, trials: Sequence[str]
) -> Number:
    """Return the accuracy of `ours` minus the accuracy of a baseline on the same images."""
    estimate = complete_estimate(selections, ours, selections.pooled(baseline, rule))
    if estimate is None:
        return Number(Cell(note="no seed has both on the same test images, of all that is held out"))
    all_trials = tuple(sorted({*trials, *trials_of(selections, baseline, rule)}))
    return Number(cell_of([estimate], options, folds=selections.folds, trials=all_trials), estimate)


def over_sets(parts: Sequence[tuple[str, Number]], options: Options) -> Cell:
    """Return the mean over data sets with equal weights; an empty cell if a data set has no number."""
    if len({number.cell.note for _, number in parts}) == 1 and parts[0][1].estimate is None:
        return parts[0][1].cell
    missing = [name for name, number in parts if number.estimate is None]
    bound = any(number.cell.bound for _, number in parts)
    if missing:
        return Cell(note=f"no average: nothing for {', '.join(missing)}", bound=bound)
    partial = [f"{name}: {number.cell.note}" for name, number in parts if number.cell.note]
    return cell_of(
        [number.estimate for _, number in parts if number.estimate is not None],
        options,
        folds=max(number.cell.folds for _, number in parts),
        trials=tuple(sorted({trial for _, number in parts for trial in number.cell.trials})),
        note="; ".join(partial) or None,
        bound=bound,
    )


def trials_of(
    selections: Selections, method: Method, rule: str, held_out: str | None = None, rank: int | None = None
) -> tuple[str, ...]:
    """Return the sorted ids of the trials whose rows a rule picks for a method."""
    found = _trials(selections, method, rule, rank)
    return tuple(sorted({trial for name, trial in found if held_out in (None, name)}))


@memoized
def _trials(selections: Selections, method: Method, rule: str, rank: int | None) -> set[tuple[str, str]]:
    rows = selections.chosen_rows(method, rule, ("held_out", "trial_id"), rank)
    return {*zip(rows["held_out"].tolist(), rows["trial_id"].tolist(), strict=True)}


def plain_picks(results: Iterable[Selections], method: Method, rule: str) -> tuple[int, int]:
    """Return (k, n): k of the method's n picks, over all settings that have the method, keep the full space."""
    counts = [one.plain_picks(method, rule) for one in results if method in one.parts]
    return sum(k for k, _ in counts), sum(n for _, n in counts)


def is_plain(results: Iterable[Selections], method: Method, rule: str) -> bool:
    """Return whether all picks of a method keep the full space, so that it equals plain prediction."""
    k, n = plain_picks(results, method, rule)
    return k == n > 0 and not method.is_plain


def range_text(values: Sequence[float], decimals: int = 1, signed: bool = False) -> str:
    """Return the mean of numbers with their range: "55.0 [50.0, 60.0]"."""
    form = f"{'+' if signed else ''}.{decimals}f"
    return f"{np.mean(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def count(k: int, n: int) -> Cell:
    """Return the cell "k of n"."""
    return Cell(value=float(k), decimals=0, text=f"{k} of {n}") if n else Cell(note="nothing was picked")


def source_score(picks: Picks) -> Cell:
    """Return the source score of a rule's picks in percent; folds are weighted by their images, as for accuracies."""
    score = mean_over_tests(picks, "score", "n_test")
    return Cell(note="no such score") if math.isnan(score) else Cell(value=100 * score)


def known(value: float | None, gap: str, **more: object) -> Cell:
    """Return the cell of a number; if the number is unknown, an empty cell with the note `gap`."""
    if value is None or math.isnan(value):
        return Cell(note=gap)
    return replace(Cell(value=value), **more)  # type: ignore[arg-type]


def of_metric(value: float | None, metric: Metric, **more: object) -> Cell:
    """Return the cell of a metric's value from `Metrics.of`; without a value, the note says what the metric needs."""
    gap = f"rows keep {metric.needs} at what rules of the sources pick alone, and some have none"
    return known(value, gap, decimals=1 if metric.percent else 3, **more)


def bound_by(rule: str, looks_at_target: bool) -> bool:
    """Return whether a number is a bound, since its selection rule or its protocol uses target labels."""
    return RULES[rule].looks_at_target or looks_at_target


def _ends(interval: Interval, lowest: float) -> tuple[float | None, float | None]:
    """Return the ends of an interval in percent, clipped to possible values; None without a standard error."""
    if not interval.standard_error > 0:
        return None, None
    return 100 * max(lowest, interval.low), 100 * min(1.0, interval.high)


def _gap(selections: Selections, method: Method, rule: str, held_out: str | None) -> str:
    """Return the reason why an accuracy or an average is missing."""
    if held_out is None:
        known = {name for name, _ in selections.pooled(method, rule)}
        missing = [name for name in selections.held_outs if name not in known]
        reason = f"nothing for {', '.join(missing)}" if missing else "no seed has every held-out environment"
        return f"no average: {reason}"
    rows = selections.parts[method]
    rows = rows[rows["held_out"] == held_out]
    if rows.empty:
        return "no result row for this method and held-out environment"
    if there := selections.folds_present(method, held_out):
        return f"{there[0]} of {there[1]} folds"
    if RULES[rule].score == "lodo" and rows["lodo"].isna().all():
        return "lodo is undefined: leaving a source out leaves fewer than two"
    return f"the result rows have no {RULES[rule].score} accuracy"


def accuracy_records(results: Iterable[SettingResults], options: Options) -> Iterator[dict[str, object]]:
    """Yield a record of tables/accuracies.csv for each accuracy, in percent, and print progress.

    `source_accuracy` is the accuracy on the sources' validation images at the rule's picks. `labels_fit` is the largest
    number of labelled images that a fit used, `labels_choice` the largest number that a rule had. `note` says why an
    accuracy is missing.
    """
    every = [*results]
    progress = Progress("selecting", sum(len(one.parts) * len(one.rules) for _, one in every), "methods")
    for setting, selections in every:
        shared = {**named(setting), "precision": setting.precision, "grouped": setting.grouped, "folds": setting.folds}
        for rule in selections.rules:
            bound = bound_by(rule.name, setting.protocol_class.looks_at_target)
            for method in selections.parts:
                known = _on_sources(selections, method, rule.name)
                for held_out in (*selections.held_outs, AVERAGE):
                    where = None if held_out == AVERAGE else held_out
                    cell = accuracy(selections, method, rule.name, options, where).cell
                    yield {
                        **shared,
                        "rule": rule.name,
                        "looks_at_target": bound,
                        "method": method.label,
                        "projection": method.projection,
                        "order": method.order or "",
                        "predictor": method.predictor,
                        "held_out": held_out,
                        "mean": four(cell.value),
                        "stderr": four(cell.error),
                        "plus_minus": options.plus_minus,
                        "low": four(cell.low),
                        "high": four(cell.high),
                        "n_seeds": len(cell.seeds),
                        "seeds": " ".join(map(str, cell.seeds)),
                        "n_units": cell.n_clusters,
                        "n_images": cell.n_images,
                        **(known[held_out] if cell.seeds else dict.fromkeys(("source_accuracy", *_LABELS))),
                        "note": cell.note,
                    }
                progress.update(note=f"{setting.dataset}, {setting.backbone_label}")
    progress.close()


def _on_sources(selections: Selections, method: Method, rule: str) -> dict[str, dict[str, object]]:
    """Return fields with source accuracy (percent) and numbers of labels, by held-out environment and `AVERAGE`."""
    labels = _labels(selections, method)
    picks, scores = selections.picks(method, rule), dict[str, list[float]]()
    for held_out, score in zip(picks["held_out"].tolist(), picks["training_domain"].tolist(), strict=True):
        scores.setdefault(str(held_out), []).extend([] if score is None or math.isnan(score) else [score])
    sources = {name: fmean(of_name) for name, of_name in scores.items() if of_name}
    if sources and len(scores) == len(labels) - 1:
        sources[AVERAGE] = fmean(sources.values())
    return {
        name: {"source_accuracy": four(100 * sources.get(name, math.nan)), **of_name}
        for name, of_name in labels.items()
    }


@memoized
def _labels(selections: Selections, method: Method) -> dict[str, dict[str, object]]:
    """Return the largest value of each column in `_LABELS`, by held-out environment and, last, for `AVERAGE`."""
    rows = selections.parts[method]
    of, labels = rows["held_out"].to_numpy(dtype=object), rows[[*_LABELS]].to_numpy(dtype=np.float64)
    most = {str(name): np.fmax.reduce(labels[of == name]) for name in sorted(set(of.tolist()))}
    most[AVERAGE] = np.fmax.reduce(labels)
    return {
        name: {label: None if np.isnan(n) else int(n) for label, n in zip(_LABELS, of_name, strict=True)}
        for name, of_name in most.items()
    }
