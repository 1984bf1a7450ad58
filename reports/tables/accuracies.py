"""Every accuracy as a record: each setting, rule, method and held-out environment, and the average."""

import math
from collections.abc import Iterable, Iterator
from statistics import fmean

import numpy as np

from benchmark.common.terminal.progress import Progress
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
    labels = selections.once(("labels", method), lambda: _labels(selections, method))
    picks, scores = selections.picks(method, rule), dict[str, list[float]]()
    for held_out, score in zip(picks["held_out"].tolist(), picks["training_domain"].tolist(), strict=True):
        scores.setdefault(str(held_out), []).extend([] if score is None or math.isnan(score) else [score])
    sources = {name: fmean(of_name) for name, of_name in scores.items() if of_name}
    if sources and len(scores) == len(labels) - 1:
        sources[AVERAGE] = fmean(sources.values())
    return {
        name: {"source_accuracy": _four(100 * sources.get(name, math.nan)), **of_name}
        for name, of_name in labels.items()
    }


def _labels(selections: Selections, method: Method) -> dict[str, dict[str, object]]:
    """Return held-out environment, and last the average -> labels that are used."""
    rows = selections.parts[method]
    of, labels = rows["held_out"].to_numpy(dtype=object), rows[[*_LABELS]].to_numpy(dtype=np.float64)
    most = {str(name): np.fmax.reduce(labels[of == name]) for name in sorted(set(of.tolist()))}
    most[AVERAGE] = np.fmax.reduce(labels)
    return {
        name: {label: None if np.isnan(n) else int(n) for label, n in zip(_LABELS, of_name, strict=True)}
        for name, of_name in most.items()
    }


def _four(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else f"{value:.4f}"
