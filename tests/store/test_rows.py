"""Result rows: what an entry of METRICS is worth, and which files are read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.metrics import METRICS, Metric, harmonic_mean
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import select
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.store.rows import VERSION, curve_columns, read_rows, read_source_scores, row_file, schema, write_rows
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


# The columns of version 1, whose files say no version, as they were written then.
VERSION_1 = {
    pa.string(): """trial_id dataset dataset_fingerprint backbone backbone_fingerprint precision prompts intervention_set
        interventions projection projection_params order normalize predictor predictor_params predictor_variant protocol
        test_split lodo_split held_out class_group recipe_hash code_version""",
    pa.bool_(): "grouped random_weights",
    pa.float64(): """lambda_ ece_training_domain ece_scaled_training_domain temperature_training_domain ece_lodo
        ece_scaled_lodo temperature_lodo""",
    pa.int64(): "seed dim n_classes n_train n_test",
    pa.list_(pa.string()): "classes",
    pa.list_(pa.int64()): "ranks",
    pa.list_(pa.int32()): "tested_groups",
    pa.list_(pa.struct([("environment", pa.string()), ("images", pa.int64())])): "tested",
    pa.list_(pa.bool_()): "correct_training_domain correct_lodo correct_oracle",
    pa.list_(pa.float64()): """training_domain lodo target worst_class balanced per_class_training_domain per_class_lodo
        per_class_oracle spectrum""",
}


def written_then(storage: Storage, without: tuple[str, ...] = ()) -> None:
    fields = [(name, kind) for kind, names in VERSION_1.items() for name in names.split() if name not in without]
    old = {**row(held_out="sketch", target=[0.5, 0.75]), "class_group": "new", "tested_groups": [3, 4]}
    (Path(storage.path("rows"))).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([old], schema=pa.schema(fields)), storage.path(row_file("old")))


def test_rows_of_version_1_are_read_beside_todays(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    written_then(storage)
    write_rows(storage, "new", [row(held_out="photo")])
    read = read_rows(storage, ["old", "new"])
    assert list(read.columns) == schema().names
    assert read["class_half"].tolist() == ["new", "all"]
    assert read["held_out"].tolist() == ["sketch", "photo"]
    assert read["target"].tolist() == [[0.5, 0.75], [0.5]]
    assert read["tested_groups"][0].to_pylist() == [3, 4]
    assert read["tested"][0] == [{"environment": "sketch", "images": 10}]
    assert read["correct_lodo"][0].to_pylist() == [True] * 8 + [False] * 2
    old, new = read_source_scores(storage, ["old", "new"])
    assert old == {"held_out": "sketch", "seed": 0, "training_domain": [0.5, 0.75], "lodo": [0.5, 0.75]}
    assert new["held_out"] == "photo"


def test_a_column_that_older_rows_lack_is_absent_and_reported_as_a_gap(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    written_then(storage, without=("balanced", "predictor_variant", "lodo"))
    read = read_rows(storage, ["old"])
    assert [read[name][0] for name in ("balanced", "predictor_variant", "lodo")] == [None] * 3
    assert read_source_scores(storage, ["old"])[0]["lodo"] is None
    assert select(read, "oracle")["balanced"].isna().all()
    write_report(read, storage, "report", "Old")
    header, line, *_ = (tmp_path / "report" / "metrics.csv").read_text().splitlines()
    values = dict(zip(header.split(","), line.split(","), strict=True))
    assert (values["accuracy"], values["balanced_accuracy"]) == ("75.0000", "")


def test_rows_of_a_later_version_and_what_is_no_file_of_rows_are_refused_in_a_sentence(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_rows(storage, "trial", [row()])
    file = tmp_path / row_file("trial")
    assert pq.read_schema(file).metadata[b"icm_bench_rows"] == str(VERSION).encode()
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"icm_bench_rows": str(VERSION + 1)}), file)
    for read in (read_rows, read_source_scores):
        with pytest.raises(IcmBenchError, match=rf"trial.parquet holds result rows of version {VERSION + 1}.* delete"):
            read(storage, ["trial"])
    for content in (b"", b"PAR1 and no more", file.read_bytes()[:-9]):
        file.write_bytes(content)
        for read in (read_rows, read_source_scores):
            with pytest.raises(IcmBenchError, match=r"trial\.parquet is damaged"):
                read(storage, ["trial"])


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_rows(storage, "trial", [row()])
    file = tmp_path / row_file("trial")
    column = next(
        c
        for c in map(pq.read_metadata(file).row_group(0).column, range(len(schema())))
        if c.path_in_schema == "held_out"
    )
    content = bytearray(file.read_bytes())
    end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
    content[end - 1] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(IcmBenchError, match=r"trial\.parquet is damaged"):
        read_source_scores(storage, ["trial"])
