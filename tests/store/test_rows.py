"""Result rows: what an entry of METRICS is worth, and which files are read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.common.storage import Storage
from benchmark.method.evaluation.metrics import METRICS, Metric, harmonic_mean
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import select
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.store.rows import curve_columns, read_rows, write_rows
from reports import write_report
from tests.method.predictors.test_reference import icm, protocol_of, synthetic
from tests.reports.synthetic import row

RANKS = (2, 4)


@pytest.fixture
def share_of_errors() -> Iterator[None]:
    """A metric that the package has never heard of."""
    metric = Metric("errors", lambda a: 1 - a.correct.mean(axis=-1), harmonic_mean, "errors", "error_rate")
    METRICS.append(metric)
    yield
    METRICS.remove(metric)


@pytest.mark.usefixtures("share_of_errors")
def test_one_entry_of_metrics_arrives_in_rows_selection_and_both_tables(tmp_path: Path) -> None:
    data, views = synthetic()
    folds = PROTOCOLS.create("held_out").folds(data.environments, ["full"])
    curves = list(protocol_of(data, views).curves(icm, ZeroShot(), RANKS, folds))
    for curve in curves:
        np.testing.assert_allclose(curve.metrics["errors"], 1 - np.array(curve.metrics["target"]))
    storage = Storage(str(tmp_path))
    rows = [{**row(), "classes": data.classes, "ranks": list(RANKS), **curve_columns(curve)} for curve in curves]
    write_rows(storage, "trial", rows)
    read = read_rows(storage, ["trial"])
    assert read["errors"].tolist() == [curve.metrics["errors"] for curve in curves]
    for rule in ("lodo", "oracle"):
        picks = select(read, rule)
        np.testing.assert_allclose(picks["errors"], 1 - picks["target"].to_numpy())
    write_report(read, storage, "report", "Errors")
    means = {rule: f"{100 * select(read, rule)['errors'].mean():.4f}" for rule in ("lodo", "oracle")}
    header, *lines = (tmp_path / "report" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("error_rate")
    by_rule = {line.split(",")[header.split(",").index("rule")]: line.split(",")[column] for line in lines}
    assert {rule: by_rule[rule] for rule in means} == means
    report = (tmp_path / "report" / "report.md").read_text()
    assert "| Method | accuracy | balanced | errors | worst environment | worst class |" in report
