"""CSV that is read again: no cell is a formula, and what comes back is what was written."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from benchmark.commands.interchange.files import marked, unmarked
from benchmark.commands.interchange.prediction_files import _read

NAMES = [
    '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-a/b.png", " =1", "\t=1", "\uff1d1", "cat",
    "'quoted'", "a=b", "", "é", None,
]  # fmt: skip


def test_formulas_are_marked_and_come_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    table = pa.table({"class": NAMES, "seed": pa.array(range(-3, len(NAMES) - 3), pa.int64())})
    sink = io.BytesIO()
    pa_csv.write_csv(marked(table), sink)
    (tmp_path / "x.csv").write_bytes(sink.getvalue())
    raw = pd.read_csv(tmp_path / "x.csv", dtype=str, keep_default_na=False)["class"]
    assert [text for text in raw if text.lstrip(" \n").startswith((*"=+-@\uff1d", "\t", "\r"))] == []
    assert sum(text.startswith("'") for text in raw) == 9
    back = _read(tmp_path / "x.csv")
    assert back["class"].tolist() == [name or "" for name in NAMES]
    assert back["seed"].tolist() == [str(n) for n in range(-3, len(NAMES) - 3)]


@pytest.mark.parametrize("name", ["'cat", "'", "", "''=1"])
def test_an_apostrophe_of_the_names_own_stays(name: str) -> None:
    assert unmarked(name) == name
