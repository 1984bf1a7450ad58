"""Result rows: what a metric of the user's own is worth, and which files are read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.evaluation import Method
from benchmark.method.evaluation.metrics import BUILT_IN, Answers, Array, Metric
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.selection import select, unpacked
from benchmark.method.evaluation.tested import Tested
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.store import rows
from benchmark.store.rows import curve_columns, read_rows, read_source_scores, row_file, unfinished, write_rows
from benchmark.store.sealed import DamagedError, sealed_parquet
from benchmark.store.tested import read_tested, tested_file, write_tested
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, by_setting
from reports.build import write_report
from reports.tables import behind
from reports.text.sentences import Origin
from tests.method.predictors.test_reference import icm, protocol_of, synthetic
from tests.method.wrapped import Wrapped
from tests.reports.synthetic import row
from tests.reports.tables.rows import table_of

RANKS = (2, 4)


def as_before(table: pa.Table) -> pa.Table:
    """Rows as version 8 wrote them: without predictions, and in a file without a digest."""
    later = {
        "predicted_ranks",
        "predicted",
        "margins",
        "images",
        "read_ranks",
        "read_before",
        "read_after",
        "read_chance",
        "scored_training_domain",
        "scored_lodo",
    }
    return table.drop_columns(sorted(later)).replace_schema_metadata({"icm_bench_rows": "8"})


def trial(folder: Path) -> tuple[Storage, Path]:
    """A store of one row, and its file."""
    storage = Storage(str(folder))
    write_rows(storage, "trial", [row()])
    return storage, folder / row_file("trial")


class Errors(Metric):
    """A metric that the package has never heard of: of correctness, so that rows of every rule have it."""

    title, heading, needs = "errors", "error_rate", "correct"

    def compute(self, answers: Answers) -> Array:
        """See `Metric.compute`."""
        return np.asarray(1 - answers.accuracy)


def test_a_metric_of_the_users_own_arrives_in_both_tables(tmp_path: Path) -> None:
    data, views = synthetic()
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"])
    curves = list(protocol_of(data, views).curves(Method(Wrapped(icm), ZeroShot(), RANKS), holdouts))
    storage = Storage(str(tmp_path))
    tested = {curve.tested.hash: curve.tested for curve in curves}
    common = {**row(), "classes": data.classes, "n_classes": len(data.classes), "ranks": list(RANKS)}
    write_rows(storage, "trial", [{**common, **curve_columns(curve)} for curve in curves])
    read, metrics = read_rows(storage, ["trial"]), (*BUILT_IN, Errors())
    for of_row, curve in zip(read.to_dict("records"), curves, strict=True):
        assert {rule: dict(of_row[f"scored_{rule}"]) for rule in curve.scored} == {
            rule: one.metrics for rule, one in curve.scored.items()
        }
        assert set(curve.scored["lodo"].metrics) == {"top5", "nll", "auroc"}
    write_report(read, tested, storage, "report", Origin("Errors"), Options(metrics=metrics))
    means = {rule: f"{100 * (1 - select(read, rule, tested)['target'].mean()):.4f}" for rule in ("lodo", "oracle")}
    header, *lines = (tmp_path / "report" / "tables" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("error_rate")
    by_rule = {line.split(",")[header.split(",").index("rule")]: line.split(",")[column] for line in lines}
    assert {rule: by_rule[rule] for rule in means} == means
    [(setting, _)] = by_setting(read)
    every = pd.concat([read, read.assign(projection="random")], ignore_index=True)
    made = table_of(behind.TABLE, [(setting, Selections(every, tested, metrics=metrics))])
    assert made is not None
    headings = [column.heading for column in made.columns]
    assert headings[:7] == ["Accuracy", "Sources", "Balanced", "Top-5", "NLL", "AUROC", "Errors"]
    assert f"{made.blocks[0].lines[0].cells[6].value:.4f}" == means["lodo"]


def test_answers_at_every_rank_and_the_images_that_they_are_of_are_read_back(tmp_path: Path) -> None:
    data, views = synthetic(grouped=True)
    holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["out_20"])
    curves = list(protocol_of(data, views).curves(Method(Wrapped(icm), ZeroShot(), RANKS), holdouts))
    storage = Storage(str(tmp_path))
    write_rows(storage, "trial", [{**row(), "ranks": list(RANKS), **curve_columns(curve)} for curve in curves])
    for curve in curves:
        write_tested(storage, curve.tested)
        write_tested(storage, curve.tested)  # once for all rows that name it
    read = read_rows(storage, ["trial"])
    tested = read_tested(storage, read["tested"])
    assert len(list((tmp_path / "tested").iterdir())) == len(curves) == len(tested)
    for curve, of_row in zip(curves, read.to_dict("records"), strict=True):
        np.testing.assert_array_equal(unpacked({str(k): v for k, v in of_row.items()}), curve.correct)
        images = tested[of_row["tested"]]
        for name in ("position", "environment", "label", "group"):
            np.testing.assert_array_equal(getattr(images, name), getattr(curve.tested, name))
        assert images.names == tuple(data.environments)


def test_tested_images_that_are_not_what_their_name_says_are_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    one, other = (Tested(np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64), ("a",)) for n in (3, 4))
    for images in (one, other):
        write_tested(storage, images)
    (tmp_path / tested_file(one.hash)).write_bytes((tmp_path / tested_file(other.hash)).read_bytes())
    with pytest.raises(IcmBenchError, match=rf"{one.hash}.parquet does not hold the tested images"):
        read_tested(storage, [one.hash])
    assert len(read_tested(storage, [other.hash])[other.hash]) == 4


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(bytes(content))


HARMS: dict[str, Callable[[Path], object]] = {
    "lost": Path.unlink,
    "torn": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "flipped": _flip,
    "empty": lambda file: pq.write_table(pa.table({"position": [1, None]}), file),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_trial_whose_tested_images_are_lost_is_not_finished_and_brings_them_back(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    storage = Storage(str(tmp_path))
    n = np.arange(300)
    one, other = (Tested(n + k, np.zeros(300, np.int64), n % 7, ("a",)) for k in range(2))
    for images in (one, other):
        write_tested(storage, images)
    write_rows(storage, "whole", [row(tested=other.hash)])
    write_rows(storage, "harmed", [row(tested=other.hash), row(tested=one.hash)])
    assert unfinished(storage, ["harmed", "new", "whole"]) == ["new"]
    harm(tmp_path / tested_file(one.hash))
    with pytest.raises(IcmBenchError, match=rf"{one.hash}\.parquet is .*; run the recipe again: the trials with such"):
        read_tested(storage, [other.hash, one.hash])
    assert unfinished(storage, ["harmed", "new", "whole"]) == ["harmed", "new"]
    write_tested(storage, one)  # as the trial does when it is run anew
    assert unfinished(storage, ["harmed", "new", "whole"]) == ["new"]
    assert read_tested(storage, [one.hash])[one.hash].hash == one.hash


@pytest.mark.parametrize("version", [None, 7, rows.VERSION + 1])
def test_rows_of_another_version_are_refused_with_a_remedy(tmp_path: Path, version: int | None) -> None:
    storage, file = trial(tmp_path)
    table = pq.read_table(file)
    assert table.schema.metadata[b"icm_bench_rows"] == str(rows.VERSION).encode()
    if version == rows.VERSION + 1:
        file.write_bytes(sealed_parquet(table.replace_schema_metadata({"icm_bench_rows": str(version)})))
    else:
        pq.write_table(as_before(table).replace_schema_metadata({"icm_bench_rows": "7"} if version else None), file)
    remedy = "delete" if version == rows.VERSION + 1 else "run the recipe again"
    for read in (read_rows, read_source_scores):
        with pytest.raises(IcmBenchError, match=rf"trial.parquet holds .* version {version or 1}.*{remedy}"):
            read(storage, ["trial"])


def test_what_is_no_file_of_rows_is_damaged(tmp_path: Path) -> None:
    storage, file = trial(tmp_path)
    for content in (b"", b"PAR1 and no more", file.read_bytes()[:-9]):
        file.write_bytes(content)
        for read in (read_rows, read_source_scores):
            with pytest.raises(DamagedError, match=r"trial\.parquet is"):
                read(storage, ["trial"])


def test_a_damaged_page_of_an_earlier_version_is_found(tmp_path: Path) -> None:
    storage, file = trial(tmp_path)
    pq.write_table(as_before(pq.read_table(file)), file, write_page_checksum=True)
    assert len(read_source_scores(storage, ["trial"])) == 1
    column = pq.read_metadata(file).row_group(0).column(rows.schema().get_field_index("held_out"))
    content = bytearray(file.read_bytes())
    end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
    content[end - 1] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(IcmBenchError, match=r"trial\.parquet is damaged"):
        read_source_scores(storage, ["trial"])


def test_a_file_that_holds_another_trials_rows_is_refused_by_name(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_rows(storage, "one", [row(), row(held_out="photo")])
    assert "two" in unfinished(storage, ["one", "two"])
    shutil.copy(tmp_path / row_file("one"), tmp_path / row_file("two"))
    said = r"rows/two\.parquet holds rows of the trial one: it was copied or renamed; delete it and run again"
    for read in (unfinished, read_rows, read_source_scores):
        with pytest.raises(IcmBenchError, match=said):
            read(storage, ["one", "two"])
    other = pa.table({"x": [1]}).replace_schema_metadata({"icm_bench_rows": str(rows.VERSION)})
    pq.write_table(other, tmp_path / row_file("four"))
    with pytest.raises(IcmBenchError, match=r"four\.parquet is damaged"):
        unfinished(storage, ["four"])
