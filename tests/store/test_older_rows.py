"""Rows of versions before 8 say in a sentence what has columns today."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common.storage.files import Storage
from benchmark.store import rows
from benchmark.store.rows import read_rows, row_file, write_rows
from tests.reports.synthetic import row

TYPED = ("projection_variant", "placebo", "placebo_draw", "pairs_share", "pairs_seed")
REAL = {"kinds": [{"name": "blur"}], "seed": 0}


@pytest.mark.parametrize(
    ("sentence", "typed"),
    [
        (None, (None, None, None, None, None)),
        ("equal N", ("equal N", None, None, None, None)),
        ("borrowed", (None, "borrowed", None, None, None)),
        ("rotated 17, images", ("images", "rotated", 17, None, None)),
        ("10 % of the pairs", (None, None, None, 0.1, 0)),
        ("0.5 % of the pairs, seed 3, texts, both", ("texts, both", None, None, 0.005, 3)),
    ],
)
def test_rows_of_an_earlier_version_have_the_columns_of_today(
    sentence: str | None, typed: tuple[object, ...], tmp_path: Path
) -> None:
    storage, file = Storage(str(tmp_path)), tmp_path / row_file("old")
    params = json.dumps({"nuisance": "both"})
    columns: dict[str, Any] = dict(zip(TYPED, typed, strict=True)) | {"interventions": json.dumps(REAL)}
    placebo = {"name": typed[1], "seed": 7, "lender": "other"}
    columns |= {"placebo_seed": 7, "lender": "other"} if typed[1] else {}
    content = json.dumps(REAL | ({"placebo": placebo} if typed[1] else {}) | ({"pairs": sentence} if typed[3] else {}))
    today = row(projection="shrinkage", projection_params=params, **columns)
    write_rows(storage, "old", [today, row(projection="gone:Own", predictor="gone:Head")])
    table = pq.read_table(file)
    added = [*TYPED[1:], "placebo_seed", "lender", "nuisance", *(name for name, _ in rows._PRESENTED)]
    old = table.drop_columns([*added, "predicted_ranks"]).set_column(
        table.column_names.index(TYPED[0]), TYPED[0], [[sentence, None]]
    )
    old = old.set_column(old.column_names.index("interventions"), "interventions", [[content, None]])
    pq.write_table(old.replace_schema_metadata({"icm_bench_rows": "7"}), file)
    read = pa.Table.from_pandas(read_rows(storage, ["old"])[[TYPED[0], "interventions", *added]]).to_pylist()
    for name in (TYPED[0], "interventions", *added):
        assert read[0][name] == (list(today[name]) if name.endswith("traits") else today[name]), name
    assert [read[1][f"{kind}_label"] for kind in ("projection", "predictor")] == ["gone:Own", "gone:Head"]
    assert read_rows(storage, ["old"], ["placebo"])["placebo"].fillna("").tolist() == [typed[1] or "", ""]
