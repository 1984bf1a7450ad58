"""Every accuracy as a record: each setting, rule, method and held-out environment, and the average."""

from collections.abc import Iterable, Iterator
from statistics import fmean

import pandas as pd

from benchmark.method.evaluation.selection import RULES
from reports.captions import has_scores
from reports.chosen import Selections, held_out_names
from reports.methods import Method
from reports.options import Options
from reports.paper import cells
from reports.settings import Setting, named

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
            for method in selections.parts:
                for held_out in (*held_out_names(selections.rows), AVERAGE):
                    yield {
                        **shared,
                        "rule": rule.name,
                        "looks_at_target": bound,
                        "method": method.label,
                        "projection": method.projection,
                        "order": method.order or "",
                        "predictor": method.predictor,
                        "held_out": held_out,
                        **_numbers(selections, method, rule.name, None if held_out == AVERAGE else held_out, options),
                    }


def _numbers(
    selections: Selections, method: Method, rule: str, held_out: str | None, options: Options
) -> dict[str, object]:
    cell = cells.accuracy(selections, method, rule, options, held_out).cell
    rows = selections.parts[method]
    known = {name: _most(rows, name, held_out) if cell.seeds else None for name in _LABELS}
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
        "source_accuracy": _four(_source(selections, method, rule, held_out)) if cell.seeds else None,
        **known,
        "note": cell.note,
    }


def _source(selections: Selections, method: Method, rule: str, held_out: str | None) -> float | None:
    """Return the accuracy on the judging images of the sources of what is picked, in percent; None where unknown."""
    picks = selections.picks(method, rule)
    picks = picks if held_out is None else picks[picks["held_out"] == held_out]
    means = [part["training_domain"].dropna() for _, part in picks.groupby("held_out")]
    return 100 * fmean(fmean(part) for part in means) if means and all(len(part) for part in means) else None


def _most(rows: pd.DataFrame, column: str, held_out: str | None) -> int | None:
    values = (rows if held_out is None else rows[rows["held_out"] == held_out])[column].dropna()
    return int(values.max()) if len(values) else None


def _four(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
