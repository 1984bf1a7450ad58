"""Row files as one frame: what is written is read back, whatever a file says of its columns and however many there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.store.frames import frame
from benchmark.store.rows import read_rows, row_file, schema, write_rows
from tests.reports.synthetic import row


def value(rng: np.random.Generator, kind: pa.DataType) -> Any:
    """A value of a column, or None."""
    if rng.random() < 0.2:
        return None
    if pa.types.is_map(kind):
        return [(name, float(rng.integers(9))) for name in ("a", "b")[: rng.integers(3)]]
    if pa.types.is_list(kind):
        return [value(rng, kind.value_type) for _ in range(rng.integers(3))]
    if pa.types.is_floating(kind):
        return float(rng.choice([0.0, 1.5, -2.25, np.nan]))
    if pa.types.is_string(kind):
        return str(rng.choice(["", "a", "ä <b>", "'"]))
    return {"bool": True, "int64": 2**53 + 1, "binary": b"\x00\xff"}[str(kind)] if rng.random() < 0.5 else None


def test_a_frame_has_pythons_own_values() -> None:
    rng = np.random.default_rng(0)
    kinds = (pa.bool_(), pa.binary(), pa.string(), pa.list_(pa.float64()), pa.list_(pa.int64()), pa.list_(pa.string()))
    fields = pa.schema([(f"{i}", kind) for i, kind in enumerate(kinds)])
    values = [{f.name: value(rng, f.type) for f in fields} for _ in range(200)]
    table = pa.concat_tables([pa.Table.from_pylist(part, schema=fields) for part in (values[:70], values[70:])])
    found = frame(table.slice(3))
    for name in fields.names:
        kept = [None if x is pd.NA or (isinstance(x, float) and np.isnan(x)) else x for x in found[name].tolist()]
        assert repr(kept) == repr([one[name] for one in values[3:]])
    lists = found["4"].tolist()[:67]  # of one chunk
    assert all(a is b for a in lists for b in lists if a == b)  # ranks of very many rows are one list


def test_columns_that_are_the_same_in_all_rows_of_a_file_are_read_as_they_are(tmp_path: Path) -> None:
    """Constant, absent, with a NaN, in one row or in several: as Arrow reads them, in the order asked for."""
    rng, storage, written = np.random.default_rng(1), Storage(str(tmp_path)), {}
    for number in range(150):
        same = {f.name: value(rng, f.type) for f in schema() if not pa.types.is_list(f.type)}
        some = rng.choice([*same], 12, replace=False)
        rows = [{**row(), **same} for _ in range(rng.integers(1, 4))]
        for one in rows:
            one |= {name: value(rng, schema().field(name).type) for name in some}
        write_rows(storage, f"t{number}", rows)
        written[f"t{number}"] = [{**one, "trial_id": f"t{number}"} for one in rows]
    names = rng.permutation([*written, "never run"]).tolist()
    expected = pa.Table.from_pylist([one for name in names for one in written.get(name, ())], schema=schema())
    found = read_rows(storage, names)
    assert list(found.columns) == schema().names
    pd.testing.assert_frame_equal(found, frame(expected), check_exact=True)
    columns = ["seed", "lodo", "held_out"]
    pd.testing.assert_frame_equal(read_rows(storage, names, columns), frame(expected)[columns], check_exact=True)
    assert read_rows(storage, ["never run"]).empty
    (tmp_path / row_file("t137")).write_bytes(b"no rows")
    with pytest.raises(IcmBenchError, match=r"t137\.parquet is damaged"):
        read_rows(storage, names)


def test_many_things_are_read_in_their_order_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("reading", 1000, "files")
    progress.QUIET_SECONDS = 0.0
    assert list(at_once(lambda x: x * x, range(100), progress, 10)) == [x * x for x in range(100)]
    assert progress.done == 1000
    assert "reading: 1000 files in" in capsys.readouterr().err
