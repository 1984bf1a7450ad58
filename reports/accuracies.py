"""Every accuracy as a record: each setting, rule, method and held-out environment, and the average."""

import math
from collections.abc import Iterable, Iterator

import pandas as pd

from benchmark.method.evaluation.selection import RULES
from reports.captions import has_scores
from reports.chosen import Selections
from reports.options import Options
from reports.paper import cells
from reports.settings import Setting, named
from reports.table import Cell

AVERAGE = "average"
_LABELS = ("labels_fit", "labels_choice")


def accuracy_records(described: Iterable[tuple[Setting, Selections]], options: Options) -> Iterator[dict[str, object]]:
    """Yield a record for each accuracy, in percent; a gap has a note that says why.

    `source_accuracy` is that on the judging images of the sources at what the rule picks; `labels_fit` and
    `labels_choice` are the most labelled images that a fit learns from, or by which a rule may choose.

    Args:
        described: settings with their rows.
        options: what stands behind ±.
    """
    for setting, selections in described:
        shared = {**named(setting), "precision": setting.precision, "grouped": setting.grouped, "folds": setting.folds}
        for rule in RULES.values():
            if not has_scores(selections.rows, rule.name):
                continue
            bound = cells.bound_by(rule.name, setting.protocol_class.looks_at_target)
            for method, rows in selections.parts.items():
                known = _known(rows, selections.picks(method, rule.name))
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


def _known(rows: pd.DataFrame, picks: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return held-out environment, or the average -> accuracy on its sources in percent, and labels that are used."""
    sources = picks.groupby("held_out")["training_domain"].mean()
    labels = rows.groupby("held_out")[list(_LABELS)].max()
    known: dict[str, dict[str, object]] = {}
    for held_out in labels.index:
        source = sources.get(held_out, math.nan)
        known[str(held_out)] = {"source_accuracy": _four(100 * float(source))} | _whole(labels.loc[held_out])
    source = float(sources.mean()) if len(sources) == len(labels) else math.nan
    known[AVERAGE] = {"source_accuracy": _four(100 * source)} | _whole(labels.max())
    return known


def _whole(labels: "pd.Series[float]") -> dict[str, object]:
    return {name: None if pd.isna(labels[name]) else int(labels[name]) for name in _LABELS}


def _four(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else f"{value:.4f}"
