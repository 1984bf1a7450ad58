"""Every accuracy as a record: each setting, rule, method and held-out environment, and the average."""

import math
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from benchmark.common.progress import Progress
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.settings import Setting, named
from reports.render.table import Cell
from reports.tables import cells

AVERAGE = "average"
_LABELS = ("labels_fit", "labels_choice")


def accuracy_records(described: Iterable[tuple[Setting, Selections]], options: Options) -> Iterator[dict[str, object]]:
    """Yield a record for each accuracy, in percent; a gap has a note that says why. Progress is printed of many.

    `source_accuracy` is that on the judging images of the sources at what the rule picks; `labels_fit` and
    `labels_choice` are the most labelled images that a fit learns from, or by which a rule may choose.

    Args:
        described: settings with their rows.
        options: what stands behind ±.
    """
    every = [*described]
    progress = Progress("selecting", sum(len(one.parts) * len(one.rules) for _, one in every), "methods")
    for setting, selections in every:
        shared = {**named(setting), "precision": setting.precision, "grouped": setting.grouped, "folds": setting.folds}
        for rule in selections.rules:
            bound = cells.bound_by(rule.name, setting.protocol_class.looks_at_target)
            for method in selections.parts:
                known = _known(selections, method, rule.name)
                for held_out in (*selections.held_outs, AVERAGE):
                    cell = cells.accuracy(
                        selections, method, rule.name, options, None if held_out == AVERAGE else held_out
                    ).cell
                    yield {
                        **shared,
                        "rule": rule.name,
                        "looks_at_target": bound,
                        "method": method.label,
                        "projection": method.projection,
                        "order": method.order or "",
                        "predictor": method.predictor,
                        "held_out": held_out,
                        **_numbers(cell, options),
                        **(known.get(held_out, {}) if cell.seeds else {}),
                        "note": cell.note,
                    }
                progress.update(note=f"{setting.dataset}, {setting.backbone_label}")
    progress.close()


def _numbers(cell: Cell, options: Options) -> dict[str, object]:
    return {
        "mean": _four(cell.value),
        "stderr": _four(cell.error),
        "plus_minus": options.plus_minus,
        "low": _four(cell.low),
        "high": _four(cell.high),
        "n_seeds": len(cell.seeds),
        "seeds": " ".join(map(str, cell.seeds)),
        "n_units": cell.n_clusters,
        "n_images": cell.n_images,
        "source_accuracy": None,
        **dict.fromkeys(_LABELS),
    }


def _known(selections: Selections, method: Method, rule: str) -> dict[str, dict[str, object]]:
    """Return held-out environment, or the average -> accuracy on its sources in percent, and labels that are used."""
    picks = selections.picks(method, rule)
    labels = selections.once(("labels", method), lambda: _labels(selections, method))
    scores: dict[str, list[float]] = {}
    for held_out, score in zip(picks["held_out"].tolist(), picks["training_domain"].tolist(), strict=True):
        scores.setdefault(str(held_out), []).append(math.nan if score is None else score)
    sources = {name: _mean_of_known(values) for name, values in scores.items()}
    sources[AVERAGE] = _mean_of_known([*sources.values()]) if len(sources) == len(labels) - 1 else math.nan
    return {
        name: {"source_accuracy": _four(100 * sources.get(name, math.nan)), **of_name}
        for name, of_name in labels.items()
    }


def _mean_of_known(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _labels(selections: Selections, method: Method) -> dict[str, dict[str, object]]:
    """Return held-out environment, and last the average -> labels that are used."""
    labels = selections.parts[method].groupby("held_out")[list(_LABELS)].max()
    found = {str(held_out): _whole(labels.loc[held_out]) for held_out in labels.index}
    return {**found, AVERAGE: _whole(labels.max())}


def _whole(labels: "pd.Series[float]") -> dict[str, object]:
    return {name: None if pd.isna(labels[name]) else int(labels[name]) for name in _LABELS}


def _four(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else f"{value:.4f}"
